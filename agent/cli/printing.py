"""This file prints what commands show: text from outside on one line of a screen, documents as JSON."""

from __future__ import annotations

from typing import Any


def cut(text: object, width: int) -> str:
    """One line of printable characters, no wider than ``width``: names and answers come from outside."""
    from agent.wire.ownline import escaped

    line = escaped(str(text))
    return line if len(line) <= width else line[: width - 1] + "…"


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 batch``, ``1,234 batches``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def print_json(document: dict[str, Any]) -> None:
    """The document on standard output, indented."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
