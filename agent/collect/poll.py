"""This file runs collectors on their tick: one after the other on one thread, each within its deadline.

    ┌ a ─ b ─ c ─ … ┐        c takes longer than its deadline
    └───────────────┘  ──→   thread 1: c … (by itself, until it ends)      thread 2: d ─ e ─ …

What is late loses its own samples and nobody else's: its thread is left to it, the others go on with a new one, and it
is not called again before it has ended. Threads are daemons, so that nothing of this delays the exit.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from agent.errors import NoData
from agent.ownlogs.lines import Repeating
from agent.worker import Worker

if TYPE_CHECKING:
    from types import TracebackType

    from agent.batch import Family
    from agent.clock import Clock
    from agent.contract import Collector
    from agent.ownmetrics import Meter

log = logging.getLogger("telemetry_agent.collect")

NO_DATA: Final = "no data"


class Result(Struct, frozen=True):
    """What one collector gave in one cycle: ``failure`` is None, NO_DATA, or what went wrong."""

    name: str
    families: Sequence[Family] = ()
    failure: str | None = None
    seconds: float = 0.0


class _Round(Struct):
    """What one thread still has to do of a cycle, and which collector it is in, since when."""

    late: Container[str]
    names: Sequence[str] = ()
    waiting: deque[tuple[str, Collector]] = field(default_factory=deque)
    results: dict[str, Result] = field(default_factory=dict)
    current: tuple[str, float] | None = None
    abandoned: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, now_seconds: float) -> tuple[str, Collector] | None:
        """The next collector; None where there is none, or where others go on without this thread."""
        with self.lock:
            if self.abandoned or not self.waiting:
                self.current = None
                return None
            taken = self.waiting.popleft()
            self.current = (taken[0], now_seconds)
            return taken

    def give(self, result: Result) -> None:
        """Notes what a collector gave, unless it was too late."""
        with self.lock:
            if not self.abandoned:
                self.results[result.name] = result

    def abandon(self, stuck: tuple[str, float]) -> bool:
        """Ends the round for its thread, which is still in ``stuck``; False where it is not."""
        with self.lock:
            self.abandoned = self.current is stuck
            return self.abandoned


class Poll:
    """Runs ``collectors`` by name, in their order. Leaving ``with`` ends its threads when they are done."""

    def __init__(
        self,
        source: str,
        collectors: Callable[[], Mapping[str, Collector]],
        clock: Clock,
        meter: Meter,
        deadline_seconds: float,
    ) -> None:
        self._source = source
        self._collectors = collectors
        self._clock = clock
        self._meter = meter
        self._deadline_seconds = deadline_seconds
        self._worker = Worker(source)
        self._late: dict[str, asyncio.Future[None]] = {}
        self._troubles: dict[str, Repeating] = {}

    def __enter__(self) -> Poll:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._worker.close()
        for late in self._late.values():
            late.cancel()

    async def cycle(self) -> list[Result]:
        """Calls every collector once; returns when each has answered or is late."""
        late = {name: ended for name, ended in self._late.items() if not ended.done()}
        self._late = late
        turn = _Round(late)
        found = {name: self._overdue(name) for name in late}
        found |= await self._run(turn)
        while turn.waiting:
            turn = _Round(late, turn.names, turn.waiting)
            found |= await self._run(turn)
        results = [found[name] for name in turn.names if name in found]
        for result in results:
            self._note(result)
        return results

    async def _run(self, turn: _Round) -> dict[str, Result]:
        """Works on a round until it is empty, or a collector in it is late: that one is left behind with its thread."""
        running = asyncio.ensure_future(self._worker.run(self._work, turn))
        try:
            return await self._watched(turn, running)
        except asyncio.CancelledError:
            running.cancel()
            raise

    async def _watched(self, turn: _Round, running: asyncio.Future[None]) -> dict[str, Result]:
        ended = asyncio.Event()
        running.add_done_callback(lambda _: ended.set())
        while not running.done():
            before = turn.current
            await self._clock.wait(ended, self._deadline_seconds)
            stuck = turn.current
            if not running.done() and stuck is not None and stuck is before and turn.abandon(stuck):
                self._leave(stuck[0], running)
                return {**turn.results, stuck[0]: self._overdue(stuck[0])}
        running.result()
        return turn.results

    def _leave(self, name: str, running: asyncio.Future[None]) -> None:
        self._late[name] = running
        self._worker.close()
        self._worker = Worker(self._source)

    def _overdue(self, name: str) -> Result:
        seconds = self._deadline_seconds
        return Result(name, failure=f"no answer within {seconds:g} s", seconds=seconds)

    def _work(self, turn: _Round) -> None:
        """On the thread: calls what is waiting, until nothing is or the round was abandoned meanwhile."""
        if not turn.names:
            collectors = self._collectors()
            turn.names = list(collectors)
            turn.waiting.extend((name, each) for name, each in collectors.items() if name not in turn.late)
        began = self._clock.monotonic_seconds()
        while (taken := turn.take(began)) is not None:
            result = self._call(*taken, began)
            turn.give(result)
            began += result.seconds

    def _call(self, name: str, collector: Collector, began: float) -> Result:
        families: Sequence[Family] = ()
        failure = None
        try:
            families = list(collector.collect())
        except NoData:
            failure = NO_DATA
        except Exception as error:  # noqa: BLE001 - a collector may fail in any way; the others go on
            failure = f"{type(error).__name__}: {error}"
        return Result(name, families, failure, self._clock.monotonic_seconds() - began)

    def _note(self, result: Result) -> None:
        """Counts how it went; says when that changes."""
        labels = (self._source, result.name)
        if result.failure == NO_DATA:
            return
        self._meter.set("telemetry_agent_collector_success", float(result.failure is None), labels)
        self._meter.set("telemetry_agent_collector_duration_seconds", result.seconds, labels)
        troubles = self._troubles.get(result.name)
        if result.failure is not None:
            if troubles is None:
                troubles = self._troubles[result.name] = Repeating(log, self._clock.monotonic_seconds)
            troubles.failed(
                result.failure.partition(":")[0], f"{self._source}: collector {result.name} failed: {result.failure}"
            )
        elif troubles is not None:
            troubles.recovered(f"{self._source}: collector {result.name} works again")
