"""This file names severities: OpenTelemetry's numbers 1 to 24, four for each of six levels; 0 says nothing.

Source: opentelemetry-specification logs/data-model.md, "Severity Fields", and data-model-appendix.md for what the
names and numbers of others are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal")

NAMES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("trace", "trc", "t", "finest", "all", "verbose", "v", "silly"), 1),
    "finer": 2,
    **dict.fromkeys(("debug", "dbg", "d", "debu", "fine"), 5),
    **dict.fromkeys(("debug1", "debug2", "debug3", "debug4", "debug5"), 5),  # PostgreSQL
    "config": 8,
    **dict.fromkeys(("info", "inf", "i", "information", "informational", "log", "statement", "detail", "hint"), 9),
    **dict.fromkeys(("notice", "note", "n", "success"), 10),
    **dict.fromkeys(("warn", "warning", "wrn", "w"), 13),
    **dict.fromkeys(("error", "err", "e", "eror", "severe", "failure"), 17),
    **dict.fromkeys(("crit", "c", "crt"), 18),  # syslog's keyword, which has two above it
    **dict.fromkeys(("alert", "dpanic"), 19),
    **dict.fromkeys(("fatal", "ftl", "f", "panic", "emerg", "emergency", "p", "fata"), 21),
    "critical": 21,  # the highest of Python, .NET and Google Cloud; PSR-3, which writes it too, has two above it
}
"""Names that programs give their levels, in lower case."""

SYSLOG: Final[Mapping[int, int]] = {0: 21, 1: 19, 2: 18, 3: 17, 4: 13, 5: 10, 6: 9, 7: 5}
"""Severities of RFC 5424, section 6.2.1."""

TENS: Final[Mapping[int, int]] = {10: 1, 20: 5, 30: 9, 40: 13, 50: 17, 60: 21}
"""pino and bunyan."""

PYTHON: Final[Mapping[int, int]] = {10: 5, 20: 9, 30: 13, 40: 17, 50: 21}
"""The levels of Python's ``logging``."""

ANY: Final[Mapping[int, int]] = {**SYSLOG, **TENS}
"""Where nobody says whose numbers they are: 0 to 7 as in syslog and GELF, tens as in pino."""

OTLP: Final[Mapping[int, int]] = {number: number for number in range(1, 25)}

LONGEST_NAME: Final = 32


def level_of(severity: int) -> str:
    """The level's name in lower case; empty for a number that is none."""
    return LEVELS[(severity - 1) // 4] if 1 <= severity <= 24 else ""


def severity_of(value: Any, numbers: Mapping[int, int] = ANY) -> int:
    """The severity that a level means: a name in any case, as text or bytes, or one of ``numbers``, also as text.

    0 for what means none.
    """
    if isinstance(value, bytes):
        value = value[: LONGEST_NAME + 1].decode("latin-1")
    if isinstance(value, str):
        if len(value) > LONGEST_NAME:
            return 0
        value = value.strip(" \t\"'[]():<>").lower()
        if not (value.isascii() and value.isdecimal()):
            return NAMES.get(value, 0)
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _number(value, numbers) if type(value) is int else 0


def _number(value: int, numbers: Mapping[int, int]) -> int:
    """A level between two tens counts as the one below it, as both Python and pino have it."""
    in_tens = numbers is not OTLP and numbers is not SYSLOG and 10 < value < 100
    return numbers.get(value // 10 * 10 if in_tens else value, 0)


class _Severities(dict[Any, int]):
    """The severity of each value that was seen."""

    def __init__(self, numbers: Mapping[int, int]) -> None:
        self.numbers = numbers

    def __missing__(self, value: Any) -> int:
        severity = self[value] = severity_of(value, self.numbers)
        return severity


def severities_of(values: Iterable[Any], numbers: Mapping[int, int] = ANY) -> bytes:
    """The severity of each of ``values``: text, bytes, numbers or None; each distinct value is looked at once."""
    values = values if isinstance(values, list) else list(values)
    try:
        return bytes(map(_Severities(numbers).__getitem__, values))
    except TypeError:  # an object or an array is among them
        return bytes(severity_of(value, numbers) for value in values)
