"""This file sends one request of a lane: timed, counted, and told to the breaker while it is still under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NoReturn, cast

from agent.batch import Batch
from agent.clock import Clock
from agent.contract import Destination, Receipt
from agent.errors import Hold, Refusal, Reject, Retry, TooLarge
from agent.export.delivery import Fault
from agent.export.lane import LaneState
from agent.ownmetrics import Meter
from agent.wire.entries import Sendable

log = logging.getLogger("telemetry_agent.export")

OUTCOMES: dict[type[Refusal], str] = {
    Fault: "failed", Retry: "retry", TooLarge: "too_large", Reject: "rejected", Hold: "held"
}  # fmt: skip
ANSWERED = (TooLarge, Reject, Hold)
"""Refusals that show the backend alive."""


class Requests:
    """What a lane asks of its destination, one request at a time."""

    def __init__(self, state: LaneState, destination: Destination, clock: Clock, meter: Meter) -> None:
        self._state = state
        self._destination = destination
        self._clock = clock
        self._meter = meter

    async def send(self, batches: Sequence[Sendable]) -> Receipt:
        """Returns the receipt, or raises Retry, TooLarge, Reject or Hold; Fault (a Retry) for everything else."""
        state, began, outcome = self._state, self._clock.monotonic_seconds(), "cancelled"
        state.breaker.admit()
        state.progress_seconds = began
        watch = asyncio.create_task(self._watch(), name=f"{state.name} watch")
        try:
            receipt = await self._sent(batches)
            outcome = "accepted"
        except Refusal as refusal:
            outcome = next(OUTCOMES[kind] for kind in type(refusal).__mro__ if kind in OUTCOMES)
            now_seconds = state.progress_seconds = self._clock.monotonic_seconds()
            (state.breaker.succeeded if isinstance(refusal, ANSWERED) else state.breaker.failed)(now_seconds)
            raise
        finally:
            watch.cancel()
            self._meter.add("telemetry_agent_export_requests_total", 1, (state.name, outcome))
            seconds = self._clock.monotonic_seconds() - began
            self._meter.observe("telemetry_agent_export_duration_seconds", seconds, (state.name,))
        state.accepted(self._clock.monotonic_seconds())
        return receipt

    async def _sent(self, batches: Sequence[Sendable]) -> Receipt:
        """What the destination returns or raises; what it may not raise is a Fault, and never ends the lane."""
        try:
            return await self._destination.send(cast("Sequence[Batch]", batches))  # entries only where it takes them
        except (Retry, *ANSWERED):
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # it is this lane that is ended
                raise
            self._blame(error)
        except Exception as error:  # noqa: BLE001 - any fault of a destination
            self._blame(error)

    def _blame(self, error: BaseException) -> NoReturn:
        log.debug("%s: sending failed", self._state.name, exc_info=error)
        raise Fault(error) from None

    async def _watch(self) -> None:
        """Tells the breaker, once a second, of a request that goes unanswered for longer than its patience."""
        await self._clock.sleep(self._state.breaker.patience_seconds)
        while True:
            self._state.breaker.failed(self._clock.monotonic_seconds())
            await self._clock.sleep(1.0)
