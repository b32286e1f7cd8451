"""This file is the only place that retries: one drain a lane, one request at a time, in the order of the spool.

What an answer means is the destination's business and arrives as an exception type; what to do about it is decided
here. Nothing is acknowledged before the destination has confirmed it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from agent.batch import Batch, Origin
from agent.clock import Clock
from agent.contract import Destination, Receipt
from agent.errors import Hold, Refusal, Reject, Retry, TooLarge
from agent.export.breaker import SLOW_SECONDS
from agent.export.delivery import Delivery, Outcome
from agent.export.lane import LaneState
from agent.ownlogs import Repeating, correlated
from agent.ownmetrics import Meter
from agent.wire.entries import Sendable, in_lines

log = logging.getLogger("telemetry_agent.export")

REQUEST_BYTES = 1 << 20
PROBE_SECONDS = 300.0
CAREFUL_AT_START = 256
"""Batches that may have been sent before a crash without their acknowledgement having been committed."""

DAMAGED = "damaged"
OUTCOMES: dict[type[Refusal], str] = {Retry: "retry", TooLarge: "too_large", Reject: "rejected", Hold: "held"}


@dataclass(frozen=True, slots=True)
class Parcel:
    """One batch as the queue hands it out: its id there, whose records, how many; ``batch`` None where it is damaged.

    ``origin`` and ``first_time_ns`` are what a damaged batch can be made again from.
    """

    id: int
    source: str
    records: int
    batch: Sendable | None
    origin: Origin | None = None
    first_time_ns: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a parcel: what is neither rejected nor dropped was delivered."""

    parcel: Parcel
    rejected: dict[str, int]
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class Mended:
    """A parcel's batch as it will be sent, and how many of its records are lost."""

    batch: Sendable | None
    lost: int


class Queue(Protocol):
    """What a drain needs of the spool, for its own lane."""

    async def fetch(self, after: int, max_bytes: int) -> list[Parcel]: ...

    async def wait_for_new(self) -> None: ...

    def ack(self, done: Sequence[Done], refused: Sequence[tuple[Batch, str, str]]) -> None: ...


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
        self._queue = queue
        self._destination = destination
        self._takes_entries = getattr(destination, "takes_entries", False)
        self._clock = clock
        self._meter = meter
        self._heal = heal
        self._request_bytes = request_bytes
        self._jitter = jitter
        self._after = 0
        self._careful_until: int | None = None
        self._nudged = asyncio.Event()
        self._troubles = Repeating(log, clock.monotonic_seconds)

    def nudge(self) -> None:
        """Tries again at once: the configuration or a secret has changed, or somebody asked."""
        self._nudged.set()

    async def run(self) -> None:
        """Sends what there is, for ever; once ``last_try`` is set, until nothing is left or one try fails."""
        while True:
            parcels = await self._queue.fetch(self._after, self._request_bytes)
            if not parcels:
                if self.last_try:
                    return
                self.state.doing = "idle"
                await self._queue.wait_for_new()
            for unit in self._units(parcels):
                if not await self._pass(unit):
                    break
            if self.last_try and self.state.last_error is not None:
                return

    def _units(self, parcels: list[Parcel]) -> list[list[Parcel]]:
        """What goes into one request each: possible repeats alone, everything newer together."""
        if self._careful_until is None and parcels:
            self._careful_until = parcels[0].id + CAREFUL_AT_START
        alone = [[parcel] for parcel in parcels if parcel.id <= (self._careful_until or 0)]
        rest = parcels[len(alone) :]
        return [*alone, rest] if rest else alone

    async def _pass(self, unit: list[Parcel]) -> bool:
        """Sends a unit once and acknowledges it; False where it must be sent again, after the wait that takes."""
        mended = [await self._mended(parcel) for parcel in unit]
        await self._wait_for_breaker()
        delivery = Delivery(self._attempt, self.state.refused_whole)
        self.state.doing = "sending"
        try:
            with correlated():
                outcome = await delivery.deliver([part.batch for part in mended if part.batch is not None])
        except Hold as refusal:
            self._failed(refusal)
            await self._hold(refusal, mended)
        except Retry as refusal:
            self._failed(refusal)
            if not refusal.answered or delivery.outcome.delivered_bytes:
                self._careful_until = max(self._careful_until or 0, unit[-1].id)
            await self._back_off(refusal)
        else:
            self._acknowledge(unit, mended, outcome)
            return True
        return False

    async def _mended(self, parcel: Parcel) -> Mended:
        """The parcel's batch; a damaged one is read again from its source, and what that does not give is lost."""
        if parcel.batch is not None:
            return Mended(parcel.batch if self._takes_entries else in_lines(parcel.batch), 0)
        batch = await self._heal(parcel)
        if batch is None or not batch.count:
            self._meter.add("telemetry_agent_spool_damaged_total", 1, ("lost",))
            log.error("batch %d of %s is damaged: %d records are lost", parcel.id, parcel.source, parcel.records)
            return Mended(None, parcel.records)
        self._meter.add("telemetry_agent_spool_damaged_total", 1, ("reread",))
        if batch.count > parcel.records:
            batch = batch.select(range(parcel.records))
        return Mended(batch, parcel.records - batch.count)

    # One request

    async def _attempt(self, batches: Sequence[Sendable]) -> Receipt:
        """One request: counted, timed, and told to the breaker."""
        began, outcome = self._clock.monotonic_seconds(), "accepted"
        self.state.breaker.admit()
        watch = asyncio.create_task(self._watch(), name=f"{self.state.name} watch")
        try:
            receipt = await self._destination.send(
                cast("Sequence[Batch]", batches)
            )  # in lines, unless it takes entries
        except Refusal as refusal:
            outcome = OUTCOMES[type(refusal)]
            if isinstance(refusal, Retry):
                self.state.breaker.failed(self._clock.monotonic_seconds())
            else:
                self.state.breaker.succeeded(self._clock.monotonic_seconds())
            raise
        except Exception as error:  # a fault of ours must not end the lane: it is shown, and tried again
            outcome = "failed"
            log.exception("%s: sending failed", self.state.name)
            self.state.breaker.failed(self._clock.monotonic_seconds())
            raise Retry("failed", f"{type(error).__name__}: {error}", answered=False) from error
        finally:
            watch.cancel()
            seconds = self._clock.monotonic_seconds() - began
            self._meter.add("telemetry_agent_export_requests_total", 1, (self.state.name, outcome))
            self._meter.observe("telemetry_agent_export_duration_seconds", seconds, (self.state.name,))
        self.state.accepted(self._clock.monotonic_seconds())
        return receipt

    async def _watch(self) -> None:
        """Tells the breaker of a request that goes unanswered, once a second from SLOW_SECONDS on."""
        await self._clock.sleep(SLOW_SECONDS)
        while True:
            self.state.breaker.failed(self._clock.monotonic_seconds())
            await self._clock.sleep(1.0)

    # Afterwards

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
        self._after = unit[-1].id
        self._meter.add("telemetry_agent_export_bytes_total", outcome.delivered_bytes, (self.state.name,))
        for _, reason, detail in outcome.refused[:1]:
            log.warning("%s: records refused for good (%s) and quarantined: %s", self.state.name, reason, detail)
        self.state.doing = "idle"
        self.state.progress_seconds = self._clock.monotonic_seconds()
        if self._troubles.failing:
            self._troubles.recovered(f"{self.state.name}: delivering again")

    def _failed(self, refusal: Refusal) -> None:
        self.state.last_error = str(refusal)
        self.state.backoff = self.state.backoff.failed()
        self._meter.add("telemetry_agent_export_retries_total", 1, (self.state.name,))
        self._troubles.failed(refusal.reason, f"{self.state.name}: {refusal}; its records are kept")

    async def _back_off(self, refusal: Retry) -> None:
        if self.last_try:
            return
        self.state.doing = "backoff"
        await self._wait(self.state.backoff.delay_seconds(self._jitter, refusal.after_seconds))

    async def _wait_for_breaker(self) -> None:
        while not self.last_try and (seconds := self.state.breaker.wait_seconds(self._clock.monotonic_seconds())) > 0:
            self.state.doing = "open"
            await self._wait(seconds)

    async def _hold(self, refusal: Hold, mended: list[Mended]) -> None:
        """Keeps everything until one small request is accepted; tried every PROBE_SECONDS and when nudged."""
        self.state.doing, self.state.hold_reason = "held", str(refusal)
        batches = [part.batch for part in mended if part.batch is not None]
        probes = [batches[0].select((0,)), batches[-1].select((batches[-1].count - 1,))]
        del mended, batches
        while not self.last_try:
            await self._wait(PROBE_SECONDS)
            self.state.doing = "held"
            for probe in probes:
                try:
                    await self._attempt([probe])
                except Refusal as again:
                    self.state.last_error = self.state.hold_reason = str(again)
                    continue
                return

    async def _wait(self, seconds: float) -> None:
        """Returns after ``seconds``, or at once when nudged."""
        self.state.retry_at_seconds = self._clock.monotonic_seconds() + seconds
        self._nudged.clear()
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        nudged = asyncio.ensure_future(self._nudged.wait())
        try:
            await asyncio.wait((timer, nudged), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (timer, nudged):
                task.cancel()
            await asyncio.gather(timer, nudged, return_exceptions=True)
            self.state.retry_at_seconds = None
