"""This file joins the spool to the drains: it hands each lane its batches and notes what became of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from msgspec.structs import replace

from agent.batch import Batch, Origin
from agent.contract import Source
from agent.export.drain import Done, Parcel
from agent.process.chain import Chain
from agent.spool.records import Passed, Quarantined, Stored
from agent.spool.spool import Spool
from agent.wire.entries import Sendable, in_lines
from agent.worker import Worker

log = logging.getLogger("telemetry_agent.spool")

PRIMER_BYTES = (1 << 20) + (64 << 10)
"""How much before a damaged batch is read again too, so that a secret that began there is known to have begun: as far
as redact follows a private key (key_max_bytes), and the line that begins one."""


class LaneQueue:
    """One lane's view of the spool.

    What a destination takes repeats of need not be acknowledged durably before something newer is: the commit of that
    brings it along.
    """

    def __init__(self, spool: Spool, lane: str, *, takes_entries: bool = False, takes_repeats: bool = False) -> None:
        self._spool = spool
        self._lane = lane
        self._takes_entries = takes_entries
        self._takes_repeats = takes_repeats

    async def fetch(self, after: int, max_bytes: int) -> list[Parcel]:
        """The lane's next batches."""
        stored = await self._spool.fetch(self._lane, after, max_bytes)
        return [
            Parcel(
                each.row.id,
                each.row.source,
                each.row.records,
                self._batch(each),
                each.row.origin,
                each.row.first_time_ns,
            )
            for each in stored
        ]

    def _batch(self, stored: Stored) -> Sendable | None:
        """The batch as the destination takes it; None where it is damaged."""
        if stored.batch is None or self._takes_entries:
            return stored.batch
        try:
            return in_lines(stored.batch)
        except ValueError:
            return None

    async def wait_for_new(self) -> None:
        """Returns once something may have arrived."""
        await self._spool.wait_for_new(self._lane)

    def ack(self, done: Sequence[Done], refused: Sequence[tuple[Batch, str, str]]) -> None:
        """Notes what became of parcels, in order."""
        lane = self._spool.lane_id(self._lane)
        self._spool.ack(
            self._lane,
            [Passed(d.parcel.id, d.parcel.source, d.parcel.records, d.rejected, d.dropped) for d in done],
            [Quarantined(lane, reason, detail, batch) for batch, reason, detail in refused],
            patient=self._takes_repeats and not refused,
        )

    async def acknowledged(self, last: int) -> None:
        """Returns once what was acknowledged up to the batch of that id is durable."""
        if self._spool.cursor(self._lane) < last:
            await self._spool.acknowledged()


class Healer:
    """Reads a damaged batch again from its source, and changes it as it was changed before.

    ``source`` gives a source by its name once it is open; ``fresh_chain`` opens the processors without a past.
    """

    def __init__(
        self,
        source: Callable[[str], Awaitable[Source | None]],
        fresh_chain: Callable[[], AbstractAsyncContextManager[Chain]],
        worker: Worker,
    ) -> None:
        self._source = source
        self._fresh_chain = fresh_chain
        self._worker = worker

    async def heal(self, parcel: Parcel) -> Batch | None:
        """The batch with the times it had, or None where its source no longer has it."""
        origin = parcel.origin
        reread = None if origin is None else getattr(await self._source(parcel.source), "reread", None)
        if origin is None or reread is None:
            return None
        batch: Batch | None = await reread(origin)
        if batch is None:
            return None
        async with self._fresh_chain() as chain:
            if origin.start:
                before = await reread(Origin(origin.key, max(0, origin.start - PRIMER_BYTES), origin.start))
                if before is not None:
                    await self._worker.run(chain.take, before)
            step = await self._worker.run(chain.take, batch)
        made = [each for each in step.batches if each.source == parcel.source]
        if len(made) != 1:
            return None
        return replace(made[0], first_time_ns=parcel.first_time_ns)
