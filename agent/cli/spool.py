"""This file is ``telemetry-agent spool ls|check|export|replay|retire``: what is held, and what may be done to it.

``ls``, ``check`` and ``export`` only read, whether the agent runs or not. ``replay`` and ``retire`` are done by the
agent where it runs, and otherwise under the lock that keeps one from starting meanwhile.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "ls": ("agent.cli.spool_ls", "show lanes, sources, what was refused, and bytes"),
    "check": ("agent.cli.spool_check", "read everything back: exits 0 if it is sound, 1 if not, 2 if it is unreadable"),
    "export": ("agent.cli.spool_export", "write what waits, or what was refused, as JSON lines"),
    "replay": ("agent.cli.spool_replay", "take an export in again, or send again what was refused"),
    "retire": ("agent.cli.spool_retire", "let go of what a lane holds that left the configuration"),
}
"""Command: the module with its ``run(arguments) -> int``, and its line of help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the commands of ``spool`` and their arguments."""
    commands = parser.add_subparsers(dest="what", metavar="ls|check|export|replay|retire", required=True)
    for name, (_, summary) in COMMANDS.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        command = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
        # May stand before or after the command; where it is not given here, what was given before it stays.
        command.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="configuration file")
        ARGUMENTS[name](command)


def run(arguments: argparse.Namespace) -> int:
    """Runs one of the commands and returns its exit status."""
    module, _ = COMMANDS[arguments.what]
    status: int = import_module(module).run(arguments)
    return status


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--directory", metavar="DIR", type=Path, help="a spool directory, such as one that was set aside as damaged"
    )


def _ls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--batches", action="store_true", help="every batch that waits, instead of sums")
    parser.add_argument("--lane", metavar="LANE", help="only the batches that wait for this lane")
    parser.add_argument("--after", metavar="ID", type=int, default=0, help="only the batches after this one")
    parser.add_argument("--limit", metavar="N", type=_count, default=100, help="at most so many batches (100)")
    _directory(parser)


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")
    _directory(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lane", metavar="LANE", help="only what waits for this lane, or was refused to it")
    parser.add_argument("--quarantine", action="store_true", help="what was refused, instead of what waits")
    parser.add_argument("--after", metavar="ID", type=int, default=0, help="only the batches after this one")
    parser.add_argument("--out", metavar="FILE", help="a new file, instead of standard output")
    _directory(parser)


def _replay(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", metavar="FILE", nargs="?", help="an export; - for standard input")
    what.add_argument("--quarantine", action="store_true", help="send again what was refused, and is kept")
    parser.add_argument("--lane", metavar="LANE", help="for this lane only, instead of every lane that takes it")


def _retire(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lane", metavar="LANE", help="the lane, as 'spool ls' names it")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


ARGUMENTS: Final[Mapping[str, Callable[[argparse.ArgumentParser], None]]] = {
    "ls": _ls,
    "check": _check,
    "export": _export,
    "replay": _replay,
    "retire": _retire,
}
