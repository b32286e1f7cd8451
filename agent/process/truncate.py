"""This file cuts log records that are too long, at a whole character, and marks them. The number of records stays.

That no record is too long is seen in one step for each max_bytes of the block, without a look at the records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import compress
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.batch import Batch, labels_of
from agent.process.selection import in_parts, records_of

if TYPE_CHECKING:
    from agent.batch import Labels
    from agent.clock import Time
    from agent.contract import Context, Held
    from agent.process.truncate_options import TruncateOptions

MARK: Final = "truncated_bytes"
LONGEST_CHARACTER: Final = 4


class Truncater:
    """The processor."""

    def __init__(self, options: TruncateOptions, context: Context) -> None:
        self._max_bytes = options.max_bytes
        self._name = context.name
        self._meter = context.meter

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or all_within(batch.block, batch.separator, self._max_bytes):
            return (batch,)
        records = records_of(batch)
        limit = self._max_bytes.__lt__
        too_long = b"".join(bytes(map(limit, map(len, part))) for part in in_parts(records))
        metadata = dict(batch.metadata)
        gone_bytes = 0
        for place in compress(range(batch.count), too_long):
            record = records[place]
            records[place] = cut = _cut(record, self._max_bytes)
            gone = len(record) - len(cut)
            gone_bytes += gone
            metadata[place] = _marked(metadata.get(place, ()), gone)
        made = replace(batch, block=batch.separator.join([*records, b""]), metadata=metadata)
        self._meter.add("telemetry_agent_process_truncated_total", sum(too_long), (self._name,))
        self._meter.add("telemetry_agent_process_truncated_bytes_total", gone_bytes, (self._name,))
        return (made,)

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        return None


def all_within(block: bytes, separator: bytes, max_bytes: int) -> bool:
    """Whether no record of a block has more than ``max_bytes``: in each stretch of so many bytes one ends."""
    at, width = 0, len(separator)
    while len(block) - at > max_bytes + width:
        end = block.rfind(separator, at, at + max_bytes + width)
        if end < 0:
            return False
        at = end + width
    return len(block) - at <= max_bytes + width


def _cut(record: bytes, max_bytes: int) -> bytes:
    """At most ``max_bytes`` of a record; a character of UTF-8 that would be cut goes whole (RFC 3629, section 3)."""
    end = max_bytes
    while end > max_bytes - LONGEST_CHARACTER and record[end] & 0xC0 == 0x80:
        end -= 1
    return record[:end] if record[end] & 0xC0 != 0x80 else record[:max_bytes]


def _marked(pairs: Labels, gone_bytes: int) -> Labels:
    """Pairs with how much went, all told where it is cut again."""
    known = dict(pairs)
    before = int(known[MARK]) if known.get(MARK, "").isdigit() else 0
    return labels_of(known, {MARK: str(before + gone_bytes)})


@asynccontextmanager
async def open_truncater(options: TruncateOptions, context: Context) -> AsyncIterator[Truncater]:
    """Nothing is held."""
    yield Truncater(options, context)
