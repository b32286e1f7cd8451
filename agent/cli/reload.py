"""This file is ``telemetry-agent reload``: the running agent takes over the configuration as it is written now.

It returns when that is done, so that ``systemctl reload`` of a unit whose ExecReload= this is says how it ended.
Exit status: 0 taken over · 1 refused, and the old configuration goes on · 78 refused because of its faults.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.cli.control import ask, socket_path
from agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    import argparse

RELOAD_SECONDS: Final = 60.0
"""A lane that ends waits for the answer to its request, and a commit for a slow disk."""


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """``reload`` takes no arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints what was done and returns 0. Raises ConfigError or AgentError where it was refused."""
    done = answered(arguments, "reload")["done"]
    print("\n".join(done) if done else "nothing is configured differently")
    return 0


def answered(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """The running agent's answer to ``reload`` or ``diff``. Raises ConfigError with the faults it found, AgentError."""
    path = socket_path(Path(arguments.config), os.environ)
    answer = ask(path, {"command": command}, RELOAD_SECONDS)
    if answer.get("faults"):
        raise ConfigError(answer["faults"])
    if not answer["ok"]:
        raise AgentError(answer["error"])
    return answer
