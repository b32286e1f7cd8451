"""This file is the only place that retries: one drain a lane, one request at a time, in the order of the spool.

    ┌→ fetch ─ send batch by batch, or together ─→ acknowledge ─┐
    │     │              │ Retry            │ Hold              │
    │   empty         back off, or      wait for a person, ─────┤
    │   wait for new  the breaker       probe with one record   │
    └─────┴──────────────┴──────────────────────────────────────┘

What an answer means is the destination's business and arrives as an exception type; what to do about it is decided
here. Nothing is acknowledged before the destination has confirmed it, and nothing is in memory while the lane waits.

A destination that takes a repeat only while nothing newer has come (``takes_repeats_of_the_newest``) gets one cycle of
each source a request, acknowledged durably before the next: so whatever a crash repeats is the newest it has.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, Protocol

from msgspec import Struct

from agent.batch import Batch, Labels, Origin
from agent.clock import Clock
from agent.contract import Destination
from agent.errors import Hold, Refusal, Reject, Retry, TooLarge
from agent.export.delivery import Delivery, Fault, Outcome, judged
from agent.export.lane import LaneState
from agent.export.request import Requests
from agent.ownlogs.lines import Repeating, correlated
from agent.ownmetrics import Meter
from agent.wire.entries import Sendable

log = logging.getLogger("telemetry_agent.export")

REQUEST_BYTES = 1 << 20
PROBE_SECONDS = 300.0
CAREFUL_AT_START = 256
"""Batches that may have been sent before a crash without their acknowledgement having been committed."""

DURABLE_SECONDS = 1.0
"""How long a lane that sends cycle by cycle waits for an acknowledgement to be durable: a full disk must not end it."""

MOST_FAULTS = 5
"""Times in a row that a destination's code may fail on a unit before the records it fails on are looked for."""

DAMAGED = "damaged"


class Parcel(Struct, frozen=True):
    """One batch as the queue hands it out: its id there, whose records, how many; ``batch`` None where it is damaged.

    ``origin`` and ``first_time_ns`` are what a damaged batch can be made again from.
    """

    id: int
    source: str
    records: int
    batch: Sendable | None
    origin: Origin | None = None
    first_time_ns: int = 0


class Done(Struct, frozen=True):
    """What became of a parcel: what is neither rejected nor dropped was delivered."""

    parcel: Parcel
    rejected: dict[str, int]
    dropped: dict[str, int]


class Mended(Struct, frozen=True):
    """A parcel's batch as it will be sent, and how many of its records are lost."""

    batch: Sendable | None
    lost: int


class Pause(Struct, frozen=True):
    """Why a lane stopped sending. It keeps nothing of what was to be sent, as an exception's frames would."""

    why: Literal["more", "empty", "failed", "held"]
    retry_after_seconds: float | None = None


MORE, EMPTY, HELD = Pause("more"), Pause("empty"), Pause("held")


class Queue(Protocol):
    """What a drain needs of the spool, for its own lane."""

    async def fetch(self, after: int, max_bytes: int) -> list[Parcel]: ...

    async def wait_for_new(self) -> None: ...

    def ack(self, done: Sequence[Done], refused: Sequence[tuple[Batch, str, str]]) -> None: ...

    async def acknowledged(self, last: int) -> None: ...


class Drain:
    """Empties one lane of the spool into its destination until cancelled."""

    def __init__(
        self,
        name: str,
        queue: Queue,
        destination: Destination,
        clock: Clock,
        meter: Meter,
        heal: Callable[[Parcel], Awaitable[Batch | None]],
        *,
        request_bytes: int = REQUEST_BYTES,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.state = LaneState(name, progress_seconds=clock.monotonic_seconds())
        self.last_try = False
        self.leaving = False
        self._queue = queue
        self._requests = Requests(self.state, destination, clock, meter)
        self._clock = clock
        self._meter = meter
        self._heal = heal
        self._request_bytes = request_bytes
        self._jitter = jitter
        self._by_cycle: bool = getattr(destination, "takes_repeats_of_the_newest", False)
        self.after = 0
        """The id of the last batch that was acknowledged, durably or not yet."""
        self._careful_until: int | None = None
        self._faults = 0
        self._nudged = asyncio.Event()
        self._troubles = Repeating(log, clock.monotonic_seconds)
        self._refusals = defaultdict[str, Repeating](lambda: Repeating(log, clock.monotonic_seconds))

    def nudge(self) -> None:
        """Tries again at once: the configuration or a secret has changed, or somebody asked."""
        self._nudged.set()

    def leave(self) -> None:
        """Ends ``run`` behind the request that is under way."""
        self.leaving = True
        self._nudged.set()

    async def run(self) -> None:
        """Sends what there is, for ever; once ``last_try`` is set, until nothing is left or one try fails, and once
        ``leaving`` is, until the request that is under way has been answered."""
        while not self.leaving:
            pause = await (self._turn() if self.state.hold_reason is None else self._probe())
            if self.last_try and pause is not MORE:
                break
            if not self.leaving:
                await self._rest(pause)
        self.state.does("idle", self._clock.monotonic_seconds())

    # Sending

    async def _turn(self) -> Pause:
        """Sends what one fetch gives; returns why it stopped."""
        parcels = await self._queue.fetch(self.after, self._request_bytes)
        if self._careful_until is None:
            self._careful_until = parcels[0].id + CAREFUL_AT_START if parcels else 0
        for unit in self._units(parcels, self._careful_until):
            if self._by_cycle and self.after:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DURABLE_SECONDS):
                        await self._queue.acknowledged(self.after)
            with correlated():
                pause = await self._pass(unit)
            if pause is not MORE or self.leaving:
                return pause
        return MORE if parcels else EMPTY

    def _units(self, parcels: list[Parcel], careful_until: int) -> list[list[Parcel]]:
        """What goes into one request each: possible repeats alone, everything newer together or cycle by cycle."""
        alone = [[parcel] for parcel in parcels if parcel.id <= careful_until]
        rest = parcels[len(alone) :]
        if self._by_cycle:
            return [*alone, *_cycles(rest)]
        return [*alone, rest] if rest else alone

    async def _pass(self, unit: list[Parcel]) -> Pause:
        """Sends a unit once and acknowledges it, or returns why all of it must be sent again."""
        self.state.does("sending", self._clock.monotonic_seconds())
        mended = [await self._mended(parcel) for parcel in unit]
        self._nudged.clear()
        isolate = self._faults >= MOST_FAULTS
        delivery = Delivery(
            self._requests.send,
            self.state.refused_whole,
            isolate=isolate,
            accepted_any=lambda: self.state.accepted_any,
        )
        try:
            outcome = await delivery.deliver([part.batch for part in mended if part.batch is not None])
        except (Retry, Hold) as refusal:
            unseen = isinstance(refusal, Retry) and not refusal.answered
            if unseen or delivery.outcome.delivered_bytes:
                self._be_careful(unit[-1].id)
            return self._failed(refusal)
        self._faults = 0
        self._acknowledge(unit, mended, outcome)
        return MORE

    def _be_careful(self, until: int) -> None:
        """What may have arrived is sent batch by batch from now on, and never together with what is newer."""
        self._careful_until = max(self._careful_until or 0, until)

    async def _mended(self, parcel: Parcel) -> Mended:
        """The parcel's batch; a damaged one is read again from its source, and what that does not give is lost."""
        if parcel.batch is not None:
            return Mended(parcel.batch, 0)
        try:
            batch = await self._heal(parcel)
        except Exception as error:  # noqa: BLE001 - a source may fail in any way; then it does not have the batch
            log.warning("batch %d of %s cannot be read again: %s", parcel.id, parcel.source, error)
            batch = None
        self.state.progress_seconds = self._clock.monotonic_seconds()
        if batch is None or not batch.count:
            return Mended(None, parcel.records)
        if batch.count > parcel.records:
            batch = batch.select(range(parcel.records))
        return Mended(batch, parcel.records - batch.count)

    def _acknowledge(self, unit: list[Parcel], mended: list[Mended], outcome: Outcome) -> None:
        places = iter(range(len(unit)))
        done = [
            Done(
                parcel,
                {} if part.batch is None else dict(outcome.rejected.get(next(places), {})),
                {DAMAGED: part.lost} if part.lost else {},
            )
            for parcel, part in zip(unit, mended, strict=True)
        ]
        self._queue.ack(done, outcome.refused)
        self.after = unit[-1].id
        self._meter.add("telemetry_agent_export_bytes_total", outcome.delivered_bytes, (self.state.name,))
        self._tell_of_damage(unit, mended)
        self._tell_of_refusals(outcome)
        self.state.does("idle", self._clock.monotonic_seconds())
        self._troubles.recovered(f"{self.state.name}: delivering again")

    def _tell_of_damage(self, unit: list[Parcel], mended: list[Mended]) -> None:
        for parcel, part in zip(unit, mended, strict=True):
            if parcel.batch is None:
                self._meter.add("telemetry_agent_spool_damaged_total", 1, ("lost" if part.lost else "reread",))
            if part.lost:
                log.error(
                    "batch %d of %s is damaged: %d of its %d records are lost",
                    parcel.id,
                    parcel.source,
                    part.lost,
                    parcel.records,
                )

    def _tell_of_refusals(self, outcome: Outcome) -> None:
        for reason, detail in outcome.details.items():
            self._refusals[reason].failed(reason, f"{self.state.name}: records refused for good ({reason}): {detail}")

    # Not sending

    def _failed(self, refusal: Retry | Hold) -> Pause:
        """Notes and says why nothing was acknowledged."""
        state = self.state
        self._faults = self._faults + 1 if isinstance(refusal, Fault) and refusal.records_fault else 0
        self._tell_of_trouble(refusal)
        if isinstance(refusal, Hold):
            state.hold_reason = str(refusal)
            return HELD
        state.backoff = state.backoff.failed()
        return Pause("failed", refusal.after_seconds)

    def _tell_of_trouble(self, refusal: Refusal) -> None:
        self.state.last_error = str(refusal)
        self._meter.add("telemetry_agent_export_retries_total", 1, (self.state.name,))
        self._troubles.failed(refusal.reason, f"{self.state.name}: {refusal}; its records are kept")

    async def _rest(self, pause: Pause) -> None:
        """Waits until there may be something to do. The breaker's time replaces what the server asked for."""
        state, now_seconds = self.state, self._clock.monotonic_seconds()
        if pause is EMPTY:
            state.does("idle", now_seconds)
            await self._queue.wait_for_new()
            now_seconds = self._clock.monotonic_seconds()
        if pause is HELD:
            state.does("held", now_seconds)
            await self._wait(PROBE_SECONDS)
        elif state.breaker.state == "open":
            state.does("open", now_seconds)
            await self._wait(state.breaker.wait_seconds(now_seconds))
        elif pause.why == "failed":
            state.does("backoff", now_seconds)
            await self._wait(state.backoff.delay_seconds(self._jitter, pause.retry_after_seconds))

    async def _probe(self) -> Pause:
        """Sends one record that waits, and where that is refused by itself another; held on where all are.

        What is accepted is not acknowledged by this: it is sent again with its batch, and alone.
        """
        parcels = await self._queue.fetch(self.after, self._request_bytes)
        intact = [parcel.batch for parcel in parcels if parcel.batch is not None and parcel.batch.count]
        self._nudged.clear()
        for batch in _probes(intact):
            try:
                with correlated():
                    await self._requests.send([batch])
            except (Retry, TooLarge, Reject, Hold) as refusal:
                if judged(batch, refusal):
                    break
                self._still_held(refusal)
                if isinstance(refusal, (Retry, Hold)):
                    return HELD
            else:
                self._be_careful(parcels[-1].id)
                break
        else:
            if intact:
                return HELD
        self.state.hold_reason = None
        return MORE

    def _still_held(self, refusal: Refusal) -> None:
        self._tell_of_trouble(refusal)
        if not isinstance(refusal, Retry):  # a backend that cannot be reached says nothing about why it refused us
            self.state.hold_reason = str(refusal)

    async def _wait(self, seconds: float) -> None:
        """Returns after ``seconds``; at once when nudged, also where that was while the last request was under way."""
        self.state.retry_at_seconds = self._clock.monotonic_seconds() + seconds
        try:
            await self._clock.wait(self._nudged, seconds)
        finally:
            self.state.retry_at_seconds = None


def _cycles(parcels: Sequence[Parcel]) -> list[list[Parcel]]:
    """Parcels in their order, as many together as hold no two of one source with the same labels."""
    cycles: list[list[Parcel]] = []
    seen: set[tuple[str, Labels]] = set()
    for parcel in parcels:
        key = parcel.source, () if parcel.batch is None else parcel.batch.labels
        if key in seen or not cycles:
            cycles.append([])
            seen.clear()
        seen.add(key)
        cycles[-1].append(parcel)
    return cycles


def _probes(batches: Sequence[Sendable]) -> Iterator[Batch]:
    """The first record, the last one of the same batch, and the last one of all, which may have arrived since.

    Not so of metrics: a sample sent ahead of its turn would make those before it in its series out of order.
    """
    places = [(0, 0), (0, -1), (-1, -1)] if batches else []
    if batches and batches[0].signal == "metrics":
        places.pop()
    seen: set[tuple[int, int]] = set()
    for batch_place, record_place in places:
        number = range(len(batches))[batch_place]
        index = range(batches[number].count)[record_place]
        if (number, index) not in seen:
            seen.add((number, index))
            yield batches[number].select((index,))
