"""This file holds processors that fulfil their contract in full, in each way in which records can be held back.

Window keeps records for a time. Counter makes metrics of logs. Joiner joins lines across blocks. Flaky fails on poison.
Each is opened with the state that the last commit left, and changes either completely or not at all.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from agent.batch import Batch, Labels, Logs, Metrics
from agent.clock import Time
from agent.contract import Flow, Held

NANOSECONDS = 1_000_000_000


class HeldBatch(msgspec.Struct, array_like=True, frozen=True):
    """A batch in a state: what is needed to make it again, and when it came."""

    since_ns: int
    source: str
    labels: Labels
    block: bytes
    count: int

    def batch(self) -> Logs:
        return Logs(self.source, self.labels, self.block, self.count)


def _total(held: Iterable[HeldBatch]) -> dict[Flow, int]:
    records: dict[Flow, int] = {}
    for each in held:
        records[each.source, "logs"] = records.get((each.source, "logs"), 0) + each.count
    return records


class Window:
    """Holds every batch of logs for ``seconds``, and then hands it on as it came."""

    def __init__(self, state: bytes | None = None, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._held = [] if state is None else msgspec.msgpack.decode(state, type=list[HeldBatch])

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if not isinstance(batch, Logs):
            return (batch,)
        self._held.append(HeldBatch(now.wall_ns, batch.source, batch.labels, batch.block, batch.count))
        return ()

    def due(self, now: Time) -> Iterable[Batch]:
        limit = now.wall_ns - int(self._seconds * NANOSECONDS)
        ready = [each for each in self._held if each.since_ns <= limit]
        self._held = [each for each in self._held if each.since_ns > limit]
        return [each.batch() for each in ready]

    def held(self) -> Held | None:
        return Held(msgspec.msgpack.encode(self._held), _total(self._held)) if self._held else None


class Counts(msgspec.Struct, array_like=True, frozen=True):
    """How many records came from each source, and when that was last told."""

    told_ns: int
    total: dict[str, int]
    told: dict[str, int]


class Counter:
    """Hands logs on and tells, every ``seconds``, how many there were of each source since the beginning.

    It holds no record of anybody: what it remembers are numbers.
    """

    def __init__(self, name: str, state: bytes | None = None, seconds: float = 3.0) -> None:
        self._source = f"process.{name}"
        self._seconds = seconds
        self._counts = Counts(0, {}, {}) if state is None else msgspec.msgpack.decode(state, type=Counts)

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if isinstance(batch, Logs):
            total = self._counts.total
            self._counts = replace_counts(
                self._counts, total={**total, batch.source: total.get(batch.source, 0) + batch.count}
            )
        return (batch,)

    def due(self, now: Time) -> Iterable[Batch]:
        counts = self._counts
        if now.wall_ns < counts.told_ns + self._seconds * NANOSECONDS or counts.total == counts.told:
            return ()
        self._counts = replace_counts(counts, told_ns=now.wall_ns, told=counts.total)
        series = tuple(b'records_total{source="%b"}' % source.encode() for source in counts.total)
        values = array("d", map(float, counts.total.values()))
        return (Metrics(self._source, (), series, values, (("records_total", "counter", "Records seen."),)),)

    def held(self) -> Held | None:
        return Held(msgspec.msgpack.encode(self._counts)) if self._counts.total else None


def replace_counts(counts: Counts, **changes: object) -> Counts:
    return msgspec.structs.replace(counts, **changes)


class Open(msgspec.Struct, array_like=True, frozen=True):
    """A record that may go on: its lines so far, in how many pieces it came, and since when it waits."""

    since_ns: int
    source: str
    labels: Labels
    lines: tuple[bytes, ...]


class Joiner:
    """Joins an indented line to the line before it with `` | ``, also where a block ends between the two.

    The last record of each origin waits for what may follow. Of the lines joined into one all but the first count as
    dropped by it, like repeats that are folded.
    """

    def __init__(self, state: bytes | None = None, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._open: dict[str, Open] = {} if state is None else msgspec.msgpack.decode(state, type=dict[str, Open])

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if not isinstance(batch, Logs):
            return (batch,)
        key = batch.origin.key if batch.origin else batch.source
        before = self._open.get(key)
        records = [list(before.lines)] if before else []
        for line in batch.records():
            if line[:1].isspace() and records:
                records[-1].append(line)
            else:
                records.append([line])
        if not records:
            return ()
        *whole, last = records
        self._open = {**self._open, key: Open(now.wall_ns, batch.source, batch.labels, tuple(last))}
        return [replace(_joined(batch, whole), origin=None, positions=())] if whole else []

    def due(self, now: Time) -> Iterable[Batch]:
        limit = now.wall_ns - int(self._seconds * NANOSECONDS)
        ready = [each for each in self._open.values() if each.since_ns <= limit]
        self._open = {key: each for key, each in self._open.items() if each.since_ns > limit}
        return [_joined(Logs(each.source, each.labels, b"", 0), [list(each.lines)]) for each in ready]

    def held(self) -> Held | None:
        if not self._open:
            return None
        records: dict[Flow, int] = {}
        for each in self._open.values():
            records[each.source, "logs"] = records.get((each.source, "logs"), 0) + len(each.lines)
        return Held(msgspec.msgpack.encode(self._open), records)


def _joined(batch: Logs, records: list[list[bytes]]) -> Logs:
    block = b"".join(b" | ".join(line.strip() for line in lines) + b"\n" for lines in records)
    return replace(batch, block=block, count=len(records), metadata={}, severities=None, times_ns=None)


class Flaky:
    """Fails on every batch that holds ``poison``, and leaves everything as it was."""

    def __init__(self, poison: bytes) -> None:
        self._poison = poison

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if isinstance(batch, Logs) and self._poison in batch.block:
            raise ValueError(f"cannot make anything of {batch.block!r}")
        return (batch,)

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        return None
