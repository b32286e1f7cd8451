"""This file is what flows: one batch at a time, never one record at a time.

A batch is immutable. Its records came from one place (one file, one journal, one cycle) and share one set
of labels, so that labels are handled once a batch. Columns beside the records are optional and aligned
with them by index; a source that has nothing to say about a record leaves the column out.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Literal, NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

Signal = Literal["logs", "metrics", "spans"]
Labels = tuple[tuple[str, str], ...]
"""Label pairs, sorted by name, no name twice, no value empty."""


class Origin(Struct, frozen=True):
    """Where the bytes of a batch lie at the source, so that they can be read again: [start, end) of ``key``.

    What a source adds behind a ``#`` in ``key`` may change while it reads on in the same place.
    """

    key: str
    start: int
    end: int

    @property
    def stream(self) -> str:
        """What stays the same from block to block of one file, for whoever joins what two of them share."""
        return self.key.partition("#")[0]


class Position(Struct, frozen=True):
    """Where a source resumes for ``key`` once this batch is durable; ``value`` None forgets the key."""

    key: str
    value: str | None


class Logs(Struct, frozen=True):
    """Log records as one block of bytes.

    ``block`` holds ``count`` records, each followed by ``separator``; no record contains the separator.
    Record ``i`` happened at ``times_ns[i]`` where that column is present, and was read at
    ``first_time_ns + i``; the spool gives ``first_time_ns`` (0: not given yet) when it takes the batch.
    ``metadata`` holds pairs for the few records that have any, by record index. ``format`` is the format (of
    agent.wire.formats) by which the fields of a record can be read, empty where none is known.
    """

    source: str
    labels: Labels
    block: bytes
    count: int
    separator: bytes = b"\n"
    first_time_ns: int = 0
    times_ns: array[int] | None = None
    severities: bytes | None = None
    metadata: Mapping[int, Labels] = field(default_factory=dict)
    origin: Origin | None = None
    positions: tuple[Position, ...] = ()
    format: str = ""

    signal: Literal["logs"] = "logs"

    @property
    def size_bytes(self) -> int:
        return len(self.block)

    def records(self) -> list[bytes]:
        """The records without their separators, in order."""
        records = self.block.split(self.separator)
        records.pop()
        return records

    def select(self, keep: Sequence[int]) -> Logs:
        """The batch with only the records at ``keep`` (ascending); times they had been given stay theirs."""
        if len(keep) == self.count:
            return self
        records = self.records()
        separator = self.separator
        times = self.times_ns
        if times is None and self.first_time_ns:
            times = array("q", (self.first_time_ns + i for i in keep))
        elif times is not None:
            times = array("q", (times[i] for i in keep))
        moved = {old: new for new, old in enumerate(keep)} if self.metadata else {}
        return replace(
            self,
            block=b"".join(records[i] + separator for i in keep),
            count=len(keep),
            times_ns=times,
            severities=None if self.severities is None else bytes(self.severities[i] for i in keep),
            metadata={moved[i]: pairs for i, pairs in self.metadata.items() if i in moved},
        )


class Metrics(Struct, frozen=True):
    """Samples of one moment as columns: ``series[i]`` (``name{label="value"}``) had ``values[i]`` at ``first_time_ns``.

    ``families`` holds (name, type, help) of every metric family among them.
    """

    source: str
    labels: Labels
    series: tuple[bytes, ...]
    values: array[float]
    families: tuple[tuple[str, str, str], ...] = ()
    first_time_ns: int = 0
    origin: Origin | None = None
    positions: tuple[Position, ...] = ()

    signal: Literal["metrics"] = "metrics"

    @property
    def count(self) -> int:
        return len(self.series)

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.series)) + 8 * len(self.series)

    def select(self, keep: Sequence[int]) -> Metrics:
        """The batch with only the samples at ``keep`` (ascending)."""
        return replace(
            self,
            series=tuple(self.series[i] for i in keep),
            values=array("d", (self.values[i] for i in keep)),
        )


Kind = Literal["counter", "gauge", "histogram", "summary", "untyped"]


class Family(NamedTuple):
    """One metric family as a collector reads it: ``series[i]`` (``name{label="value"}``) has ``values[i]`` now."""

    name: str
    kind: Kind
    help: str
    series: Sequence[bytes]
    values: Sequence[float]


Batch = Logs | Metrics


def labels_of(*mappings: Mapping[str, str]) -> Labels:
    """One sorted label set of several mappings; a later one wins, and an empty value removes the label."""
    merged: dict[str, str] = {}
    for mapping in mappings:
        merged.update(mapping)
    return tuple(sorted((name, value) for name, value in merged.items() if value))


def cycle_of(source: str, labels: Labels, families: Iterable[Family], last: Metrics | None = None) -> Metrics:
    """All samples of one cycle as one batch; families without series are left out.

    What is as it was in the batch of the cycle before (``last``) is that same object, so that comparing is cheap.
    """
    families = [family for family in families if family.series]
    series = tuple(chain.from_iterable(family.series for family in families))
    declared: tuple[tuple[str, str, str], ...] = tuple((each.name, each.kind, each.help) for each in families)
    if last is not None:
        series = last.series if series == last.series else series
        declared = last.families if declared == last.families else declared
    values = array("d", chain.from_iterable(family.values for family in families))
    return Metrics(source, labels, series, values, declared)
