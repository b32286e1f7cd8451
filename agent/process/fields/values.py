"""This file is the values that fields have, whatever their format: texts, numbers, and None for what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from agent.process.selection import counted

MESSAGE: Final = "message"
LEVEL: Final = "level"

Value = str | int | float | None
Column = Sequence[Any]


def plain(values: list[Any]) -> list[Any]:
    """The values as texts, numbers and None."""
    kinds = counted(map(type, values)).keys() - {str, int, float, type(None)}
    return values if not kinds else [plain_value(value) for value in values]


def plain_value(value: Any) -> Value:
    """One value as text, number or None: true and false are those words, lists and mappings are JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str | int | float):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()


def text_of(value: Any) -> str:
    """A value as it is written; empty for one that is not there."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def number_of(value: Any) -> float | None:
    """A value as a number, also where it is written as text; None for one that is none."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None if value is None else float(value)
