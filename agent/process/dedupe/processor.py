"""This file drops log records that repeat themselves, and writes one record that says how often they did.

The first record passes. What is equal to it and comes before its window ends is dropped at once, and counted; when
the window has ended, a record of the source ``process.NAME`` says how many there were. No record is held back for it.

    held = MessagePack [[[since, how many], …], their digests one after the other, {digest: Repeat}]
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Batch, Labels
from agent.clock import NANOSECONDS
from agent.contract import Held
from agent.process.dedupe.keys import DIGEST_BYTES, digests
from agent.process.fields.reader import Reader
from agent.process.own_records import OwnRecord, own_batches, quoted, seconds
from agent.process.selection import AT_ONCE, counted, in_parts, left

if TYPE_CHECKING:
    from agent.batch import Logs
    from agent.clock import Time
    from agent.contract import Context
    from agent.process.dedupe.options import DedupeOptions
    from agent.process.fields.reader import Table

log = logging.getLogger("telemetry_agent.dedupe")


class Repeat(Struct, frozen=True, array_like=True, gc=False):
    """How often a record was dropped, and what it was."""

    count: int
    since_ns: int
    labels: Labels
    text: str
    severity: int


class Seen(Struct):
    """What came within the window, oldest first: digests, and how many of them came at each time."""

    digests: dict[bytes, None]
    times: list[tuple[int, int]]
    repeats: dict[bytes, Repeat]

    def copy(self) -> Seen:
        return Seen(dict(self.digests), list(self.times), dict(self.repeats))

    def remember(self, new: Sequence[bytes], now_ns: int) -> None:
        """Digests that were not there."""
        before = len(self.digests)
        for part in in_parts(new):
            self.digests.update(dict.fromkeys(part))
        if len(self.digests) > before:
            self.times.append((now_ns, len(self.digests) - before))

    def over(self, window_ns: int, now_ns: int) -> int:
        """How many are older than the window, or from a time that has yet to come."""
        count = 0
        for since_ns, many in self.times:
            if abs(now_ns - since_ns) < window_ns:
                break
            count += many
        return count

    def forget(self, count: int) -> list[Repeat]:
        """Lets the oldest go; the repeats among them."""
        gone = list(islice(self.digests, count))
        for digest in gone:
            del self.digests[digest]
        while count:
            since_ns, many = self.times[0]
            self.times[:1] = [(since_ns, many - count)] if many > count else []
            count -= min(many, count)
        return [self.repeats.pop(digest) for digest in gone if digest in self.repeats]


class Deduper:
    """The processor."""

    def __init__(self, options: DedupeOptions, context: Context) -> None:
        self._options = options
        self._name = context.name
        self._meter = context.meter
        self._window_ns = int(options.window_seconds * NANOSECONDS)
        self._reader = Reader(options.key)
        self._seen = _restored(context.state, context.name)
        self._held: Held | None = None
        self._changed = True

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or not batch.count:
            return (batch,)
        seen = self._seen.copy()
        ended = seen.forget(seen.over(self._window_ns, now.wall_ns))
        table = self._reader.table(batch)
        keys = digests(table, self._options.key, self._options.ignore)
        times = counted(keys)
        known = {digest for part in in_parts(keys) for digest in filter(seen.digests.__contains__, part)}
        made: Iterable[Batch] = (batch,)
        if known or len(times) < batch.count:
            first = _places(keys)
            seen.repeats.update(_repeated(table, times, first, known, seen.repeats, now.wall_ns))
            made = left(batch, _firsts(batch.count, first, known), table.records)
        seen.remember(keys, now.wall_ns)
        beyond = max(0, len(seen.digests) - self._options.max_keys)
        ended += seen.forget(beyond)
        summaries = self._told(ended, now.wall_ns)
        self._seen, self._changed = seen, True
        if beyond:
            self._meter.add("telemetry_agent_process_overflow_total", beyond, (self._name,))
        return [*made, *summaries]

    def due(self, now: Time) -> Iterable[Batch]:
        over = self._seen.over(self._window_ns, now.wall_ns)
        if not over:
            return ()
        self._changed = True
        return self._told(self._seen.forget(over), now.wall_ns)

    def held(self) -> Held | None:
        if self._changed:
            seen = self._seen
            state = (seen.times, b"".join(seen.digests), seen.repeats)
            self._held = Held(msgspec.msgpack.encode(state)) if seen.digests else None
            self._changed = False
        return self._held

    def _told(self, ended: Sequence[Repeat], now_ns: int) -> list[Logs]:
        return own_batches(self._name, [self._record(each, now_ns) for each in ended])

    def _record(self, each: Repeat, now_ns: int) -> OwnRecord:
        passed = seconds(min(max(0, now_ns - each.since_ns), self._window_ns))
        times = "once" if each.count == 1 else f"{each.count} times"
        text = f"{each.text} … repeated {times} in {passed}"
        return OwnRecord(each.labels, text, each.severity, (("repeated", str(each.count)),))


def _places(keys: Sequence[bytes]) -> dict[bytes, int]:
    """Where each key is first."""
    first: dict[bytes, int] = {}
    for start in reversed(range(0, len(keys), AT_ONCE)):
        part = keys[start : start + AT_ONCE]
        first.update(zip(reversed(part), range(start + len(part) - 1, start - 1, -1), strict=True))
    return first


def _firsts(count: int, first: Mapping[bytes, int], known: set[bytes]) -> bytes:
    """For each record 1 where none like it came before."""
    keep = bytearray(count)
    for digest, place in first.items():
        if digest not in known:
            keep[place] = 1
    return bytes(keep)


def _repeated(
    table: Table,
    times: Mapping[bytes, int],
    first: Mapping[bytes, int],
    known: set[bytes],
    repeats: Mapping[bytes, Repeat],
    now_ns: int,
) -> dict[bytes, Repeat]:
    """The repeats that change with a batch."""
    changed = {}
    for digest, many in times.items():
        more = many if digest in known else many - 1
        if not more:
            continue
        before = repeats.get(digest)
        if before is None:
            place, severities = first[digest], table.batch.severities
            severity = 0 if severities is None else severities[place]
            before = Repeat(0, now_ns, table.batch.labels, quoted(table.message(place)), severity)
        changed[digest] = replace(before, count=before.count + more)
    return changed


def _restored(state: bytes | None, name: str) -> Seen:
    if state is not None:
        try:
            times, joined, repeats = msgspec.msgpack.decode(
                state, type=tuple[list[tuple[int, int]], bytes, dict[bytes, Repeat]]
            )
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("%s: what repeated itself before cannot be read and is forgotten: %s", name, error)
        else:
            found = [joined[start : start + DIGEST_BYTES] for start in range(0, len(joined), DIGEST_BYTES)]
            return Seen(dict.fromkeys(found), times, repeats)
    return Seen({}, [], {})


@asynccontextmanager
async def open_deduper(options: DedupeOptions, context: Context) -> AsyncIterator[Deduper]:
    """What came within the window before the last commit is remembered."""
    yield Deduper(options, context)
