"""This file reads the configuration's files: the main one, then ``config.d/*.toml`` beside it in name order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from agent.config.faults import Fault
from agent.config.locate import Node, locate
from agent.config.syntax import TomlError, parse

MOST_FILE_BYTES = 4 << 20
"""A configuration larger than this is a mistake (a log file, a device), and is not read to its end."""


class Document(msgspec.Struct, frozen=True):
    """One file that parses: ``file`` as it is shown, what it says, and where each key of it stands."""

    file: str
    path: Path
    tree: dict[str, Any]
    root: Node


def shown(path: Path) -> str:
    """``path`` relative to the working directory where it lies below it, else as it was given."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def paths_of(main: Path) -> tuple[list[Path], list[Fault]]:
    """The main file and its drop-ins in name order; files that are hidden or not called ``*.toml`` are left alone."""
    folder = main.parent / "config.d"
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return [main], []
    except OSError as error:
        return [main], [Fault(shown(folder), 0, 0, f"cannot be listed: {_reason(error)}")]
    return [main, *(folder / name for name in names if name.endswith(".toml") and not name.startswith("."))], []


def read(path: Path) -> Document | Fault:
    """The document in the file at ``path``, or what is wrong with it as a whole."""
    file = shown(path)
    try:
        with path.open("rb") as opened:
            data = opened.read(MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        return Fault(file, 0, 0, "no such file; create it (it may be empty), or name another one with --config")
    except OSError as error:
        return Fault(file, 0, 0, f"cannot be read: {_reason(error)}")
    if len(data) > MOST_FILE_BYTES:
        return Fault(file, 0, 0, f"larger than {MOST_FILE_BYTES} bytes; this is no configuration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return Fault(file, line, column, "not UTF-8 text; save the file as UTF-8")
    try:
        return Document(file, path, parse(text), locate(text))
    except TomlError as fault:
        return Fault(file, fault.line, fault.column, str(fault))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
