"""This file reads numbers out of the kernel's text, and makes families of what has a name and no labels.

A number that is none is reported with the file and the field it stands in.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.batch import Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.batch import Kind

MOST_FIELDS: Final = 4096
"""Fields whose names are remembered; they are learnt anew beyond."""

METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""Prometheus data model, "Metric names and labels"."""


def number(text: bytes, place: str) -> float:
    """``text`` as a number. Raises ValueError that says what stands in ``place``, such as ``meminfo: MemFree``."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'{place} is "{text.decode("utf-8", "replace")}", which is not a number') from None


def numbers(texts: Sequence[bytes], place: str) -> list[float]:
    """All of ``texts`` as numbers. Raises ValueError that says which of them in ``place`` is none."""
    try:
        return list(map(float, texts))
    except ValueError:
        return [number(text, f"{place}, number {column}") for column, text in enumerate(texts, 1)]


def hexadecimal(texts: Iterable[bytes], place: str) -> list[float]:
    """All of ``texts`` as hexadecimal numbers. Raises ValueError that names ``place``."""
    try:
        return [float(int(text, 16)) for text in texts]
    except (ValueError, OverflowError):
        raise ValueError(f"{place} has a word that is not a hexadecimal number") from None


class Fields:
    """Families of one series each, by the name that the kernel gives a number.

    ``describe`` tells a field's metric name, kind and help text, or None where it is not wanted; it is asked once.
    """

    def __init__(self, file: str, describe: Callable[[bytes], tuple[str, Kind, str] | None]) -> None:
        self._file = file
        self._describe = describe
        self._seen: set[bytes] = set()
        self._wanted: dict[bytes, tuple[str, Kind, str, tuple[bytes]]] = {}

    def families(self, fields: Mapping[bytes, bytes | float]) -> list[Family]:
        """The wanted ones of ``fields``. Raises ValueError on one that is no number."""
        if not self._seen.issuperset(fields):
            self._learn(fields)
        return [
            Family(name, kind, text, series, (self._value(field, fields[field]),))
            for field, (name, kind, text, series) in self._wanted.items()
            if field in fields
        ]

    def _value(self, field: bytes, value: bytes | float) -> float:
        if isinstance(value, bytes):
            return number(value, f"{self._file}: {field.decode('utf-8', 'replace')}")
        return value

    def _learn(self, fields: Iterable[bytes]) -> None:
        if len(self._seen) >= MOST_FIELDS:
            self._seen.clear()
            self._wanted.clear()
        for field in fields:
            described = None if field in self._seen else self._describe(field)
            self._seen.add(field)
            if described is not None and METRIC_NAME.fullmatch(described[0]):
                self._wanted[field] = (*described, (described[0].encode(),))
