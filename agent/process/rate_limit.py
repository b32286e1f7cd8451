"""This file drops the log records of a key that come faster than they may, and says when that begins and ends.

What a key may take comes back at its rate, up to burst_seconds of it. Of one batch the first records of a key pass,
and what is behind them is dropped. What a processor knows of keys that are being limited survives a kill; any other
key may take all it may after a start.

    held = MessagePack {key: Limited}
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Batch, Labels
from agent.clock import NANOSECONDS
from agent.contract import Held
from agent.ownlogs.lines import Repeating
from agent.process.buckets import OTHER, Bucket, Buckets
from agent.process.fields.reader import Reader
from agent.process.fields.values import text_of
from agent.process.own_records import OwnRecord, common, own_batches, seconds
from agent.process.selection import counted, left, mapped
from agent.wire.severity import LEVELS

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context
    from agent.process.fields.reader import Table
    from agent.process.rate_limit_options import RateLimitOptions

log = logging.getLogger("telemetry_agent.rate_limit")

QUIET_NS: Final = 10 * NANOSECONDS
"""A key of which nothing was dropped for that long is within its limits again."""
MOST_SAID: Final = 10
"""Keys whose limit is said in the agent's own log at one time."""
WARN: Final = 1 + 4 * LEVELS.index("warn")


class Limited(Struct, array_like=True, frozen=True, gc=False):
    """A key that is being limited: what it has left, and what was dropped of it, in all and since that was told."""

    bucket: Bucket
    labels: Labels
    since_ns: int
    last_ns: int
    told_ns: int
    records: int = 0
    bytes: int = 0
    untold_records: int = 0
    untold_bytes: int = 0
    said: bool = False


class Share(Struct, frozen=True):
    """Of one key in one batch: what it has left, and the records that go."""

    key: str
    bucket: Bucket
    gone: Sequence[int] = ()
    gone_bytes: int = 0


class RateLimiter:
    """The processor."""

    def __init__(self, options: RateLimitOptions, context: Context) -> None:
        self._options = options
        self._name = context.name
        self._meter = context.meter
        self._many = Repeating(log, context.clock.monotonic_seconds)
        self._reader = Reader([] if options.key is None else [options.key])
        self._bytes = options.bytes_per_second is not None
        self._buckets = Buckets(
            options.records_per_second or math.inf,
            options.bytes_per_second or math.inf,
            options.burst_seconds,
            options.max_keys,
        )
        self._limited = _restored(context.state, context.name)
        self._buckets.put({key: each.bucket for key, each in self._limited.items()})
        self._held: Held | None = None
        self._changed = True

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or not batch.count:
            return (batch,)
        table = self._reader.table(batch)
        shares = [self._share(table, key, places, now.wall_ns) for key, places in self._keys(table, now).items()]
        keep = bytearray(b"\1") * batch.count
        for share in shares:
            for place in share.gone:
                keep[place] = 0
        made = left(batch, bytes(keep)) if any(share.gone for share in shares) else (batch,)
        self._apply(shares, batch.labels, now.wall_ns)
        return made

    def due(self, now: Time) -> Iterable[Batch]:
        over = [key for key, each in self._limited.items() if now.wall_ns - each.last_ns >= QUIET_NS]
        pause_ns = self._options.summary_seconds * NANOSECONDS
        told = [key for key, each in self._limited.items() if key in over or now.wall_ns - each.told_ns >= pause_ns]
        if not told:
            return ()
        made = [self._summary(key, now.wall_ns) for key in told if self._limited[key].untold_records]
        for key in told:
            self._limited[key] = replace(self._limited[key], told_ns=now.wall_ns, untold_records=0, untold_bytes=0)
        for key in over:
            self._end(key)
        self._changed = True
        self._tell()
        return own_batches(self._name, made) if self._options.summary else ()

    def held(self) -> Held | None:
        if self._changed:
            self._changed = False
            self._held = Held(msgspec.msgpack.encode(self._limited)) if self._limited else None
        return self._held

    def _keys(self, table: Table, now: Time) -> Mapping[str, Sequence[int]]:
        """The records of each key."""
        name, batch = self._options.key, table.batch
        if name is None:
            return {batch.source: range(batch.count)}
        if table.same_everywhere(name):
            key = table.label(name) or ""
            return {self._buckets.shared((key,), now.wall_ns)[key]: range(batch.count)}
        texts = mapped(text_of, table.column(name))
        shared = self._buckets.shared(counted(texts), now.wall_ns)
        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            places.setdefault(shared[text], []).append(place)
        return places

    def _share(self, table: Table, key: str, places: Sequence[int], now_ns: int) -> Share:
        bucket, batch = self._buckets.of(key, now_ns), table.batch
        whole = len(places) == batch.count
        if bucket.records >= len(places) and (not self._bytes or (whole and bucket.bytes >= len(batch.block))):
            return Share(key, _without(bucket, len(places), len(batch.block) if self._bytes else 0))
        sizes = [len(table.records[place]) + len(batch.separator) for place in places]
        ends = [0, *accumulate(sizes)]
        pass_bytes = bisect_right(ends, bucket.bytes) - 1 if self._bytes else len(places)
        passing = min(int(bucket.records) if math.isfinite(bucket.records) else len(places), pass_bytes, len(places))
        gone_bytes = ends[-1] - ends[passing]
        return Share(key, _without(bucket, passing, ends[passing]), places[passing:], gone_bytes)

    def _apply(self, shares: Sequence[Share], labels: Labels, now_ns: int) -> None:
        self._buckets.put({share.key: share.bucket for share in shares})
        for share in shares:
            known = self._limited.get(share.key)
            if known is None and not share.gone:
                continue
            known = known or self._begin(share, labels, now_ns)
            records = len(share.gone)
            self._limited[share.key] = replace(
                known,
                bucket=share.bucket,
                labels=common(known.labels, labels) if records else known.labels,
                last_ns=now_ns if records else known.last_ns,
                records=known.records + records,
                bytes=known.bytes + share.gone_bytes,
                untold_records=known.untold_records + records,
                untold_bytes=known.untold_bytes + share.gone_bytes,
            )
            self._changed = True
            if share.key == OTHER:
                self._meter.add("telemetry_agent_process_overflow_total", records, (self._name,))
        self._tell()

    def _begin(self, share: Share, labels: Labels, now_ns: int) -> Limited:
        said = sum(each.said for each in self._limited.values()) < MOST_SAID
        if said:
            text = "%s: %s comes faster than %s; what is more is dropped"
            log.warning(text, self._name, share.key[:100], self._limit)
        else:
            self._many.failed("many", f"{self._name}: more than {MOST_SAID} keys come faster than {self._limit}")
        return Limited(share.bucket, labels, now_ns, now_ns, now_ns, said=said)

    def _end(self, key: str) -> None:
        each = self._limited.pop(key)
        if each.said:
            log.info(
                "%s: %s is within its limit again; %d records (%d bytes) of it were dropped",
                *(self._name, key[:100], each.records, each.bytes),
            )
        if not self._limited:
            self._many.recovered(f"{self._name}: all keys are within their limits again")

    def _tell(self) -> None:
        self._meter.set("telemetry_agent_process_limited_keys", len(self._limited), (self._name,))

    def _summary(self, key: str, now_ns: int) -> OwnRecord:
        each = self._limited[key]
        text = (
            f"{each.untold_records} records ({each.untold_bytes} bytes) of {key} were dropped in "
            f"{seconds(min(now_ns, each.last_ns + QUIET_NS) - each.told_ns)}: they came faster than {self._limit}"
        )
        pairs = (("dropped_bytes", str(each.untold_bytes)), ("dropped_records", str(each.untold_records)), ("key", key))
        return OwnRecord(each.labels, text, WARN, tuple(pair for pair in pairs if pair[1]))

    @property
    def _limit(self) -> str:
        options = self._options
        given = (("records_per_second", options.records_per_second), ("bytes_per_second", options.bytes_per_second))
        return " or ".join(f"{name} = {value:g}" for name, value in given if value is not None)


def _without(bucket: Bucket, records: int, size_bytes: int) -> Bucket:
    return replace(bucket, records=bucket.records - records, bytes=bucket.bytes - size_bytes)


def _restored(state: bytes | None, name: str) -> dict[str, Limited]:
    if state is None:
        return {}
    try:
        return msgspec.msgpack.decode(state, type=dict[str, Limited])
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("%s: what was limited before cannot be read and is forgotten: %s", name, error)
        return {}


@asynccontextmanager
async def open_rate_limiter(options: RateLimitOptions, context: Context) -> AsyncIterator[RateLimiter]:
    """The keys that were being limited at the last commit still are."""
    yield RateLimiter(options, context)
