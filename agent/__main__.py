"""This file makes ``python -m agent`` the command."""

from agent.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
