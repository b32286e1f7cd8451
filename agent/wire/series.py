"""This file writes a series as text: ``name{label="value",…}``, labels sorted by name, values escaped.

Source: prometheus/docs, "Exposition formats", text format 0.0.4. One series has one spelling, so that it can be
recognised by its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from agent.batch import Family, Kind, Labels

MOST_ROWS: Final = 65536
"""Rows a table remembers the bytes of; it starts anew beyond."""

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def series(name: str, labels: Iterable[tuple[str, str]] = ()) -> bytes:
    """The series of ``name`` with ``labels``; an empty value is no label, what cannot be UTF-8 is spelt out."""
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(labels) if value)
    return (f"{name}{{{pairs}}}" if pairs else name).encode()


def _escaped(value: str) -> str:
    if not value.isascii():
        value = value.encode("utf-8", "backslashreplace").decode()
    return value.translate(_ESCAPES)


def single(name: str, kind: Kind, text: str, value: float) -> Family:
    """A family of one series without labels."""
    return Family(name, kind, text, (name.encode(),), (value,))


class Metric(Struct, frozen=True):
    """One column of a table: a metric's name, kind and help text."""

    name: str
    kind: Kind
    help: str


class Table:
    """Metrics that share their label names, one row for each set of label values.

    ::

        DISKS = Table(("device",), Metric("node_disk_reads_completed_total", "counter", "…"), Metric(…))
        DISKS.families({("vda",): (1.0, None)})   # None: this row does not have that metric

    The bytes of a series are made once a row and remembered.
    """

    def __init__(self, labels: tuple[str, ...], *metrics: Metric) -> None:
        self._labels = labels
        self._metrics = metrics
        self._known: dict[tuple[str, ...], tuple[bytes, ...]] = {}

    def families(self, rows: Mapping[tuple[str, ...], Sequence[float | None]]) -> list[Family]:
        """A family for each metric that any row has, in the order of the metrics; series in the order of the rows."""
        if not rows:
            return []
        columns = zip(*rows.values(), strict=True)
        names = zip(*map(self._series, rows), strict=True)
        return [
            family
            for metric, values, series_of_rows in zip(self._metrics, columns, names, strict=True)
            if (family := _family(metric, series_of_rows, values)).series
        ]

    def _series(self, row: tuple[str, ...]) -> tuple[bytes, ...]:
        found = self._known.get(row)
        if found is None:
            if len(self._known) >= MOST_ROWS:
                self._known.clear()
            pairs = list(zip(self._labels, row, strict=True))
            found = self._known[row] = tuple(series(metric.name, pairs) for metric in self._metrics)
        return found


def _family(metric: Metric, series_of_rows: tuple[bytes, ...], values: tuple[Any, ...]) -> Family:
    if None in values:
        kept = [(name, value) for name, value in zip(series_of_rows, values, strict=True) if value is not None]
        series_of_rows, values = tuple(name for name, _ in kept), tuple(value for _, value in kept)
    return Family(metric.name, metric.kind, metric.help, series_of_rows, values)


_LABEL: Final = re.compile(r'(?<![^,])([^=,{]++)="((?:[^"\\]++|\\.)*+)"')
_ESCAPED: Final = re.compile(r"\\(.)")


def parse(text: bytes) -> tuple[str, Labels]:
    """Name and labels of a series as ``series`` writes it."""
    name, brace, pairs = text.decode("utf-8", "replace").partition("{")
    if not brace:
        return name, ()
    return name, tuple((label, _ESCAPED.sub(_meant, value)) for label, value in _LABEL.findall(pairs))


def _meant(escaped: re.Match[str]) -> str:
    return "\n" if escaped[1] == "n" else escaped[1]
