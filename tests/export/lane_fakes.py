"""This file is a spool of a few batches, a destination that answers as it is told, and a lane between the two."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from agent.batch import Batch, Logs
from agent.contract import Receipt
from agent.export.drain import Done, Drain, Parcel
from agent.ownmetrics import Meter
from tests.fakes import FakeClock

Answer = BaseException | Receipt | Callable[[Sequence[Batch]], Any]
"""Raised, returned, or asked (and awaited where it asks for that)."""


def logs(*records: str, source: str = "file") -> Logs:
    """One batch of these records."""
    return Logs(source, (("job", "test"),), "".join(f"{each}\n" for each in records).encode(), len(records))


def texts(batches: Sequence[Batch]) -> list[str]:
    """Every record of one request, in order."""
    return [record.decode() for batch in batches if isinstance(batch, Logs) for record in batch.records()]


class Shelf:
    """What a drain needs of the spool. ``acked`` is what became of each parcel, by id."""

    def __init__(self, *batches: Batch | Parcel, first_id: int = 1) -> None:
        self.parcels: list[Parcel] = []
        self.acked: dict[int, Done] = {}
        self.quarantined: list[tuple[list[str], str]] = []
        self.fetches = 0
        self._next_id = first_id
        self._new = asyncio.Event()
        for batch in batches:
            self.put(batch)

    def put(self, batch: Batch | Parcel) -> int:
        """Adds one; its id."""
        if not isinstance(batch, Parcel):
            batch = Parcel(self._next_id, batch.source, batch.count, batch)
        self.parcels.append(batch)
        self._next_id = batch.id + 1
        self._new.set()
        return batch.id

    def announce(self) -> None:
        self._new.set()

    async def fetch(self, after: int, max_bytes: int) -> list[Parcel]:
        self._new.clear()
        self.fetches += 1
        await asyncio.sleep(0)
        found: list[Parcel] = []
        for parcel in self.parcels:
            if parcel.id > after and parcel.id not in self.acked:
                max_bytes -= parcel.batch.size_bytes if parcel.batch else 0
                if found and max_bytes < 0:
                    break
                found.append(parcel)
        return found

    async def wait_for_new(self) -> None:
        await self._new.wait()

    def ack(self, done: Sequence[Done], refused: Sequence[tuple[Batch, str, str]]) -> None:
        for each in done:
            assert each.parcel.id not in self.acked, f"{each.parcel.id} was acknowledged twice"
            assert each.parcel.id > max(self.acked, default=0), "acknowledged out of order"
            self.acked[each.parcel.id] = each
        self.quarantined += [(texts([batch]), reason) for batch, reason, _ in refused]

    def totals(self) -> Counter[str]:
        """Records by outcome, as the ledger would count them."""
        totals: Counter[str] = Counter()
        for done in self.acked.values():
            rejected, dropped = sum(done.rejected.values()), sum(done.dropped.values())
            assert rejected >= 0
            assert dropped >= 0
            totals["delivered"] += done.parcel.records - rejected - dropped
            totals["rejected"] += rejected
            totals["dropped"] += dropped
        return totals


class Backend:
    """A destination. It answers ``answers`` one after the other, and accepts when there are none left."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = deque(answers)
        self.always: Answer | None = None
        """What it answers instead of accepting."""
        self.asked: list[list[str]] = []
        self.accepted: list[str] = []
        self.under_way = 0

    async def send(self, batches: Sequence[Batch]) -> Receipt:
        assert self.under_way == 0, "two requests at once"
        assert batches
        assert all(batch.count for batch in batches), "an empty batch was sent"
        self.under_way += 1
        try:
            return await self._answered(batches)
        finally:
            self.under_way -= 1

    async def _answered(self, batches: Sequence[Batch]) -> Receipt:
        self.asked.append(texts(batches))
        answer = self.answers.popleft() if self.answers else self.always
        if callable(answer):
            answer = answer(batches)
            if isinstance(answer, Awaitable):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        self.accepted += texts(batches)
        return answer or Receipt()


async def hang(_batches: Sequence[Batch]) -> None:
    """An answer that never comes."""
    await asyncio.Event().wait()


async def no_healing(_parcel: Parcel) -> Batch | None:
    """A source that no longer has what is asked for."""
    return None


class Lane:
    """A drain at work, and everything around it."""

    def __init__(self, shelf: Shelf, backend: Any, drain: Drain, clock: FakeClock, meter: Meter) -> None:
        self.shelf = shelf
        self.backend = backend
        self.drain = drain
        self.state = drain.state
        self.clock = clock
        self.meter = meter
        self.task = asyncio.create_task(drain.run(), name="drain")

    def requests(self, outcome: str) -> float:
        return self.meter.value("telemetry_agent_export_requests_total", (self.state.name, outcome))


@asynccontextmanager
async def lane(
    shelf: Shelf, backend: Any, *, jitter: float = 0.5, heal: Any = no_healing, settled: bool = True, **options: Any
) -> AsyncIterator[Lane]:
    """A lane that has done what it can do without time passing."""
    clock, meter = FakeClock(), Meter()
    drain = Drain("loki/logs", shelf, backend, clock, meter, heal, jitter=lambda: jitter, **options)
    running = Lane(shelf, backend, drain, clock, meter)
    try:
        if settled:
            await clock.advance(0)
        yield running
    finally:
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
