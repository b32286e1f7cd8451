"""This file is what a fault of the configuration is, and the near miss that goes with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

ENVIRONMENT = "environment"
"""Stands in the place of a file's name where a variable is at fault."""


class Place(msgspec.Struct, frozen=True):  # declared twenty times faster than a dataclass, and `check` is in a hurry
    """A file with a line and a column (from 1), or a file alone, or a variable of the environment."""

    file: str
    line: int = 0
    column: int = 0
    variable: str = ""

    def __str__(self) -> str:
        if self.variable:
            return self.variable
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: ``config.toml:14:1: [collect.jurnal] is not a collector; did you mean 'journal'?``

    ``line`` and ``column`` count from 1 and are 0 where a whole file, or the environment, is at fault.
    """

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{Place(self.file, self.line, self.column)}: {self.message}"


def fault_at(place: Place, message: str) -> Fault:
    """The fault at ``place``; in the environment the variable's name leads the message."""
    if place.variable:
        return Fault(ENVIRONMENT, 0, 0, f"{place.variable}: {message}")
    return Fault(place.file, place.line, place.column, message)


def in_file_order(faults: Iterable[Fault], files: Sequence[str]) -> list[Fault]:
    """``faults`` sorted as a reader meets them, those of the environment last; what was found twice is said once."""
    rank = {file: number for number, file in enumerate(files)}
    unique = dict.fromkeys(faults)
    return sorted(unique, key=lambda fault: (rank.get(fault.file, len(rank)), fault.line, fault.column))


def did_you_mean(word: str, choices: Iterable[str], listed: str = "") -> str:
    """``; did you mean 'x'?``; with no near miss ``; LISTED a, b, c``, or nothing where ``listed`` is empty."""
    known = list(choices)
    near = nearest(word, known)
    if near is not None:
        return f"; did you mean '{near}'?"
    return f"; {listed} {', '.join(sorted(known))}" if listed and known else ""


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The one of ``choices`` that ``word`` was most likely meant to be, or None."""
    from difflib import get_close_matches  # only a faulty configuration pays for it

    by_folded = {choice.lower().replace("-", "_"): choice for choice in choices}
    found = get_close_matches(word.lower().replace("-", "_"), by_folded, n=1)
    return by_folded[found[0]] if found else None
