"""This file keeps a share of the log records, or so many a second of each key, and all of level warn and above.

Whether a record is kept by ratio is decided by its bytes and its place in what the source read, or by its key alone: a
batch that is read again from its source keeps the same records, and of equal lines some are kept and not all or none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from itertools import compress
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from msgspec.structs import replace

from agent.batch import Batch
from agent.process.buckets import OTHER, Bucket, Buckets
from agent.process.fields.reader import Reader, at_least
from agent.process.fields.values import text_of
from agent.process.selection import ALL, AT_ONCE, INVERTED, both, counted, either, in_parts, left

if TYPE_CHECKING:
    from agent.batch import Logs
    from agent.clock import Time
    from agent.contract import Context, Held
    from agent.process.fields.reader import Table
    from agent.process.sample_options import SampleOptions

WHOLE: Final = 1 << 32
STEP: Final = 0x9E3779B1
"""A step by which neighbours are far apart in 32 bits: 2**32 by the golden ratio (Knuth, TAOCP 3, 6.4)."""


class Sampler:
    """The processor."""

    def __init__(self, options: SampleOptions, context: Context) -> None:
        self._options = options
        self._name = context.name
        self._meter = context.meter
        self._reader = Reader([] if options.key is None else [options.key])
        self._limit = None if options.ratio is None else round(options.ratio * WHOLE)
        rate = options.records_per_second
        self._buckets = None if rate is None else Buckets(rate, math.inf, options.burst_seconds, options.max_keys)

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or not batch.count:
            return (batch,)
        always = at_least(batch, "warn")
        if 0 not in always:
            return (batch,)
        table = self._reader.table(batch)
        keep = either(always, self._by_ratio(table, now))
        if self._buckets is not None:
            keep = both(keep, self._by_rate(table, both(keep, always.translate(INVERTED)), now.wall_ns, self._buckets))
        return (batch,) if 0 not in keep else left(batch, keep)

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        return None

    def _by_ratio(self, table: Table, now: Time) -> bytes:
        """For each record 1 where the ratio keeps it."""
        limit, key, batch = self._limit, self._options.key, table.batch
        if limit is None or limit == WHOLE:
            return ALL * batch.count
        if key is not None and table.same_everywhere(key) and table.label(key):
            return bytes([_chosen(table.label(key), limit)]) * batch.count
        by_record = self._alone(table, limit, now)
        if key is None:
            return by_record
        values = table.column(key)
        verdicts = {value: _chosen(value, limit) for value in counted(values) if value is not None}
        return b"".join(
            bytes(map(verdicts.get, some, by_record[start * AT_ONCE :])) for start, some in enumerate(in_parts(values))
        )

    def _alone(self, table: Table, limit: int, now: Time) -> bytes:
        """Each record by itself."""
        first = _first(table.batch, now.wall_ns)
        found = []
        for part in in_parts(table.records):
            found.append(bytes(map(limit.__gt__, map(crc32, part, range(first, first + STEP * len(part), STEP)))))
            first += STEP * AT_ONCE
        return b"".join(found)

    def _by_rate(self, table: Table, asking: bytes, now_ns: int, buckets: Buckets) -> bytes:
        """For each record 1 where it does not ask or its key may take it; the first of a batch come first."""
        name, count = self._options.key, table.batch.count
        values: Sequence[Any] = [table.batch.source] * count if name is None else table.column(name)
        wanted = counted(compress(values, asking))
        total = sum(wanted.values())
        texts = {value: text_of(value) for value in wanted}
        own = buckets.shared(dict.fromkeys(texts.values()), now_ns)
        shared = {value: own[text] for value, text in texts.items()}
        left_over: dict[str, Bucket] = {key: buckets.of(key, now_ns) for key in shared.values()}
        keep = bytearray(ALL * count)
        if all(bucket.records >= total for bucket in left_over.values()):
            taken = Counter[str]()
            for value, records in wanted.items():
                taken[shared[value]] += records
        else:
            taken = _first_come(values, asking, shared, left_over, keep)
        beyond = sum(records for value, records in wanted.items() if shared[value] == OTHER)
        buckets.put({key: replace(each, records=each.records - taken[key]) for key, each in left_over.items()})
        if beyond:
            self._meter.add("telemetry_agent_process_overflow_total", beyond, (self._name,))
        return bytes(keep)


def _first_come(
    values: Sequence[Any], asking: bytes, shared: dict[Any, str], buckets: dict[str, Bucket], keep: bytearray
) -> Counter[str]:
    """How many records each key takes; ``keep`` becomes 0 for the others."""
    taken: Counter[str] = Counter()
    room = {key: int(bucket.records) for key, bucket in buckets.items()}
    for place in compress(range(len(values)), asking):
        key = shared[values[place]]
        if taken[key] < room[key]:
            taken[key] += 1
        else:
            keep[place] = 0
    return taken


def _first(batch: Logs, now_ns: int) -> int:
    """A number that stands for where the batch was read, the same whenever it is read there again."""
    if batch.origin is None:
        return now_ns % WHOLE
    return crc32(f"{batch.origin.stream}:{batch.origin.start}".encode())


def _chosen(value: object, limit: int) -> int:
    digest = blake2b(text_of(value).encode("utf-8", "replace"), digest_size=4).digest()
    return int(int.from_bytes(digest) < limit)


@asynccontextmanager
async def open_sampler(options: SampleOptions, context: Context) -> AsyncIterator[Sampler]:
    """Nothing is held: after a start each key may take all it may."""
    yield Sampler(options, context)
