"""This file is the command ``telemetry-agent``: it finds the command that was asked for, and imports only that.

Exit status: 0 done · 1 failed · 2 usage · 75 another instance holds the state · 78 configuration (sysexits.h).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from agent import __version__
from agent.errors import AgentError, ConfigError, StateHeld

if TYPE_CHECKING:
    import argparse

PROGRAM = "telemetry-agent"
RUN = "run"
CONFIG_FILE = "/etc/telemetry-agent/config.toml"

FAILED = 1
USAGE = 2

USAGE_COLUMNS = 80
"""Width of what is printed after a usage error."""

EXIT_STATUS: Mapping[type[AgentError], int] = {ConfigError: 78, StateHeld: 75}
"""Every other error of the agent ends a command with 1."""

COMMANDS: Mapping[str, tuple[str, str]] = {
    RUN: ("agent.cli.run", "run the agent in the foreground"),
    "check": ("agent.cli.check", "find every fault in the configuration"),
    "config": ("agent.cli.config", "show the configuration, its schema or its reference"),
    "diff": ("agent.cli.diff", "show what a reload would change"),
    "reload": ("agent.cli.reload", "take over the configuration as it is written now"),
    "status": ("agent.cli.status", "show what the running agent is doing"),
    "logs": ("agent.cli.logs", "search what the agent wrote about itself"),
    "ledger": ("agent.cli.ledger", "account for every record"),
    "spool": ("agent.cli.spool", "list, check, export, replay or retire what is held"),
}
"""Command: the module with its ``add_arguments(parser)`` and ``run(arguments) -> int``, and its line of help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. Without ``argv`` it is the process, and may end with it."""
    if argv is not None:
        return _status(list(argv))
    gc.disable()  # until everything is imported: none of that is garbage
    status = _status(sys.argv[1:])
    return status if RUN in sys.argv[1:] else _leave(status)


def _status(arguments: list[str]) -> int:
    try:
        return _flushed(_dispatch(arguments))
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return FAILED
    except AgentError as error:
        print(error if isinstance(error, ConfigError) else f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_STATUS.get(type(error), FAILED)


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help", "help"):
        print(_overview(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else USAGE
    if first == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    name, rest = _command(arguments)
    if name not in COMMANDS:
        print(f"{PROGRAM}: {_unknown(name)}", file=sys.stderr)
        return USAGE
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    from importlib import import_module

    module, summary = COMMANDS[name]
    command = import_module(module)
    if name == RUN and (file := _config_alone(rest)) is not None:
        status: int = command.run(SimpleNamespace(config=file))
        return status
    return _parsed(name, summary, command, rest)


def _config_alone(rest: list[str]) -> str | None:
    """The configuration file where nothing else is said: a process that stays does without what parses more."""
    match rest:
        case []:
            return CONFIG_FILE
        case ["--config", file] if not file.startswith("-"):
            return file
    return None


def _parsed(name: str, summary: str, command: Any, rest: list[str]) -> int:
    import argparse

    # Left to find the width of the terminal by itself, argparse imports three compressors; only help is worth that.
    width = None if {"-h", "--help"} & set(rest) else USAGE_COLUMNS
    parser = argparse.ArgumentParser(
        f"{PROGRAM} {name}",
        description=_sentence(summary),
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=width),
    )
    add_config_option(parser)
    command.add_arguments(parser)
    try:
        parsed = parser.parse_args(rest)
    except SystemExit as leaving:  # argparse leaves after its help (0) and after a usage error (2)
        return leaving.code if isinstance(leaving.code, int) else USAGE
    gc.enable()
    status: int = command.run(parsed)
    return status


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Every command takes ``--config FILE``."""
    parser.add_argument("--config", metavar="FILE", default=CONFIG_FILE, help=f"configuration file ({CONFIG_FILE})")


def _command(arguments: list[str]) -> tuple[str, list[str]]:
    """The command and its arguments; ``--config FILE`` may also stand before the command."""
    if arguments[0] == "--config" and len(arguments) > 2:
        return arguments[2], [*arguments[:2], *arguments[3:]]
    if arguments[0].startswith("--config=") and len(arguments) > 1:
        return arguments[1], [arguments[0], *arguments[2:]]
    return arguments[0], arguments[1:]


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"usage: {PROGRAM} COMMAND [--config FILE] …", ""]
    lines += [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join([*lines, "", f"{PROGRAM} COMMAND --help says more; {PROGRAM} --version tells the version."])


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    noun = "an option" if name.startswith("-") else "a command"
    known = f"did you mean '{near[0]}'?" if near else f"the commands are {', '.join(COMMANDS)}"
    return f"'{name}' is not {noun}; {known}"


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _flushed(status: int) -> int:
    """Meets a reader that has gone here, where it can be handled, and not while the interpreter ends."""
    sys.stdout.flush()
    return status


def _leave(status: int) -> NoReturn:
    """Ends the process at once: taking the interpreter apart object by object costs as much as starting it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # full, gone, or closed from the start
            stream.flush()
    os._exit(status)


def _reader_left() -> int:
    """``telemetry-agent … | head`` is no error worth a traceback, but what was asked for was not all delivered."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
