"""This file runs the sources: each batch waits for room, is processed, and is put into the spool, in that order.

Processing and putting are one step under one lock, so that what processors hold is committed with the batches it came
from. Waiting for room happens before it and outside it: a full lane pauses only the sources that are routed to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

from msgspec import Struct

from agent.batch import Batch
from agent.clock import Clock
from agent.config.model import Configured
from agent.contract import Context, Receiving, Source
from agent.ownlogs.lines import Repeating, correlated
from agent.ownmetrics import Meter
from agent.process.chain import Chain, Step
from agent.spool.records import Taken
from agent.spool.spool import Spool
from agent.worker import Worker

log = logging.getLogger("telemetry_agent.collect")

RESTART_SECONDS = 5.0
DUE_SECONDS = 1.0
REST_SECONDS = 0.5
"""How long a source that ends may take for what others had sent to it."""
LOST = "telemetry_agent_source_lost_total"
AT_ONCE_BYTES = 256 << 10
"""Metrics up to that size are processed where they are: nothing looks into every sample, and a change of threads costs
more than the work."""


class Intake:
    """What stands between the sources and the spool."""

    def __init__(self, spool: Spool, chain: Chain, worker: Worker, clock: Clock, meter: Meter) -> None:
        self._spool = spool
        self._chain = chain
        self._worker = worker
        self._clock = clock
        self._meter = meter
        self._order = asyncio.Lock()
        self._stirred = asyncio.Event()

    async def take(self, batches: Sequence[Batch], untaken: list[Batch] | None = None) -> None:
        """Returns when the spool has the batches of a source; all are durable with the next commit. They are in
        ``untaken`` while they wait for room: cancelling after that does not keep them from the spool."""
        waiting = [] if untaken is None else untaken
        waiting[:] = batches
        await self._spool.wait_for_room(batches)
        waiting.clear()
        at_once = all(batch.signal == "metrics" and batch.size_bytes <= AT_ONCE_BYTES for batch in batches)
        await self._step(partial(self._chain.take, *batches), at_once=at_once)
        for batch in batches:
            self._meter.add("telemetry_agent_collect_batches_total", 1, (batch.source,))
            self._meter.add("telemetry_agent_collect_bytes_total", batch.size_bytes, (batch.source,))

    async def due(self) -> None:
        """Asks the processors for what is due."""
        await self._step(self._chain.due)

    async def ending(self) -> None:
        """Asks the processors for what they make because the agent stops."""
        await self._step(self._chain.ending)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing goes through the processors until it is left, so that they can be changed; ``released`` may."""
        async with self._order:
            yield

    async def released(self, names: Sequence[str]) -> None:
        """While it is paused: lets the processors of these names go of all that they hold."""
        if names:
            self._put(await self._worker.run(partial(self._chain.released, names)))

    async def _step(self, call: Callable[[], Step], *, at_once: bool = False) -> None:
        """Runs the chain and puts what it made. Cancelling does not come between the two: what processors hold has
        changed by then, and would be committed without the batch that changed it."""
        if at_once and not self._order.locked():
            self._made(call())
            return
        stepping = asyncio.ensure_future(self._ordered(call, at_once=at_once))
        try:
            await asyncio.shield(stepping)
        except asyncio.CancelledError:
            stepping.add_done_callback(_not_awaited)
            raise

    async def _ordered(self, call: Callable[[], Step], *, at_once: bool = False) -> None:
        async with self._order:
            self._made(call() if at_once else await self._worker.run(call))

    def _made(self, step: Step) -> None:
        if step.states or any(link.last_error is not None for link in self._chain.links):
            self._stirred.set()
        self._put(step)

    def _put(self, step: Step) -> None:
        if step.batches or step.read or step.dropped or step.states or step.positions:
            self._spool.put(_taken(step))

    async def tick(self) -> None:
        """Asks again and again until cancelled, as often as the processors that hold something want to be asked."""
        while True:
            wait_seconds = self._chain.wait_seconds(self._clock.monotonic_seconds())
            await self._rest(max(wait_seconds, DUE_SECONDS))
            if self._chain.wait_seconds(self._clock.monotonic_seconds()) <= 0:
                await self.due()

    async def _rest(self, seconds: float) -> None:
        """Returns after ``seconds``, or sooner where a processor holds something else meanwhile."""
        if seconds <= DUE_SECONDS:
            await self._clock.sleep(seconds)
            return
        self._stirred.clear()
        await self._clock.wait(self._stirred, seconds)


def _not_awaited(stepping: asyncio.Future[None]) -> None:
    if not stepping.cancelled() and (error := stepping.exception()) is not None:
        log.error("what a source handed on before it was stopped could not be taken in", exc_info=error)


def _taken(step: Step) -> Taken:
    return Taken(tuple(step.batches), step.read, step.dropped, tuple(step.positions), step.states)


class SourceState(Struct):
    """What ``/status`` shows of a source."""

    name: str
    type: str
    state: str = "waiting"
    last_error: str | None = None
    source: Source | None = None
    left: bool = False
    """Whether it was ended; what one that goes on all the same gives is not taken in."""

    def fail(self, error: BaseException) -> None:
        """Notes why it does not run."""
        self.state, self.last_error = "failed", f"{type(error).__name__}: {error}"

    def detail(self) -> Mapping[str, object]:
        """What the source says of itself."""
        status: Callable[[], Mapping[str, object]] | None = getattr(self.source, "status", None)
        try:
            return {} if status is None else status()
        except Exception as error:  # noqa: BLE001 - a source may fail in any way; the others are shown all the same
            return {"status_failed": f"{type(error).__name__}: {error}"}


async def run_source(
    configured: Configured, context: Callable[[], Context], intake: Intake, spool: Spool, state: SourceState
) -> None:
    """Opens a source and takes in what it gives, for ever; one that fails is opened again where it was."""
    context_now = context()
    clock, meter = context_now.clock, context_now.meter
    troubles = Repeating(log, clock.monotonic_seconds)
    while True:
        try:
            await _read(configured, context_now, intake, spool, state, troubles)
            return
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # it is this task that is ended, and not something of the source
                raise
            failure: BaseException = error
        except Exception as error:  # noqa: BLE001 - a source may fail in any way; the others go on
            failure = error
        state.fail(failure)
        meter.add("telemetry_agent_collect_errors_total", 1, (state.name,))
        troubles.failed(type(failure).__name__, f"{state.name} failed ({state.last_error}); it is opened again")
        log.debug("%s failed", state.name, exc_info=failure)
        del failure
        await clock.sleep(RESTART_SECONDS)
        await spool.flush()  # so that it begins where what it gave ends
        context_now = context()


async def _read(
    configured: Configured, context: Context, intake: Intake, spool: Spool, state: SourceState, troubles: Repeating
) -> None:
    """Takes in what a source gives until it gives no more, and the rest of what it was sent where it is ended. Raises
    whatever it raises."""
    untaken: list[Batch] = []
    try:
        async with configured.component.open(configured.options, context) as source:
            state.source, state.state = source, "running"
            try:
                async with _closing(source) as batches:
                    await _take_all(batches, untaken, intake, spool, state, troubles)
            except asyncio.CancelledError:
                if isinstance(source, Receiving):
                    await _take_rest(source, untaken, intake, context)
                raise
    finally:
        state.source = None


async def _take_all(
    given: AsyncIterator[Batch | Sequence[Batch]],
    untaken: list[Batch],
    intake: Intake,
    spool: Spool,
    state: SourceState,
    troubles: Repeating,
) -> None:
    while True:
        with correlated():  # one id for what the source says while it reads and what becomes of that
            some = await anext(given, None)
            if some is None or state.left:
                break
            batches = some if isinstance(some, Sequence) else (some,)
            state.state = "running" if spool.has_room(batches) else "blocked"
            await intake.take(batches, untaken)
        state.state = "running"
        if troubles.failing:
            state.last_error = None
            troubles.recovered(f"{state.name} is read again")
    state.state = "ended"


async def _take_rest(source: Receiving, untaken: list[Batch], intake: Intake, context: Context) -> None:
    """Takes in what a source was sent before it was ended, the batch that still waited for room first. What there is
    no time or room for is lost, and counted."""

    async def take() -> None:
        if untaken:
            await intake.take([*untaken], untaken)
        async with aclosing(source.rest()) as rest:
            async for batch in rest:
                await intake.take((batch,), untaken)

    taking = asyncio.ensure_future(take())
    try:
        _, late = await asyncio.wait([taking], timeout=REST_SECONDS)
    finally:
        taking.cancel()
        (failure,) = await asyncio.gather(taking, return_exceptions=True)
    if failure is not None:
        why = f"not within {REST_SECONDS:g} s" if late else f"{type(failure).__name__}: {failure}"
        lost_bytes = sum(batch.size_bytes for batch in untaken)
        log.warning("%s was ended before all that had been sent to it could be taken in: %s", context.name, why)
        context.meter.add(LOST, lost_bytes, (context.name, "ended"))


@asynccontextmanager
async def _closing(source: Source) -> AsyncIterator[AsyncIterator[Batch | Sequence[Batch]]]:
    """The source's batches; a generator is closed before the source is."""
    batches = source.batches()
    try:
        yield batches
    finally:
        close: Callable[[], Awaitable[None]] | None = getattr(batches, "aclose", None)
        if close is not None:
            await close()
