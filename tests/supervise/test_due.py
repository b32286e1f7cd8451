"""When processors are asked for what is due: while they hold something, as often as they want."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from agent.batch import Batch, Logs
from agent.clock import Time
from agent.contract import Held
from agent.ownmetrics import Meter
from agent.process.chain import Chain, Link
from agent.spool.records import Taken
from agent.spool.spool import Spool
from agent.supervise.intake import Intake
from agent.worker import Worker
from tests.fakes import FakeClock, settle


class Holder:
    """Holds every record it is given once ``holds`` is set, and notes when it is asked for what is due."""

    def __init__(self, clock: FakeClock, due_seconds: float | None = None) -> None:
        self._clock = clock
        self.asked: list[float] = []
        self.holds = False
        self._kept = 0
        if due_seconds is not None:
            self.due_seconds = due_seconds

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if not self.holds:
            return (batch,)
        self._kept += batch.count
        return ()

    def due(self, now: Time) -> Iterable[Batch]:
        self.asked.append(self._clock.monotonic_seconds())
        return ()

    def held(self) -> Held | None:
        return Held(b"%d" % self._kept, {("file", "logs"): self._kept}) if self._kept else None


class Put:
    """As much of a spool as the intake needs."""

    def put(self, taken: Taken) -> None:
        pass

    async def wait_for_room(self, batches: object) -> None:
        pass


class Scene:
    def __init__(self, worker: Worker, *holders: Holder, clock: FakeClock) -> None:
        chain = Chain([Link(str(place), holder) for place, holder in enumerate(holders)], clock, Meter())
        self.clock = clock
        self.intake = Intake(cast("Spool", Put()), chain, worker, clock, Meter())

    async def give(self) -> None:
        await self.intake.take([Logs("file", (), b"a line\n", 1)])

    async def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.clock.advance(1.0)
            await asyncio.sleep(0.002)  # the thread of the processors has the time it needs
            await settle()


@asynccontextmanager
async def ticking(*holders: Holder, clock: FakeClock) -> Any:
    with Worker("process") as worker:
        scene = Scene(worker, *holders, clock=clock)
        tick = asyncio.create_task(scene.intake.tick())
        await settle()
        try:
            yield scene
        finally:
            tick.cancel()
            await asyncio.gather(tick, return_exceptions=True)


async def test_one_that_holds_nothing_is_not_asked() -> None:
    holder = Holder(clock := FakeClock())
    async with ticking(holder, clock=clock) as scene:
        await scene.give()
        await scene.pass_seconds(30)
    assert holder.asked == []


async def test_one_that_holds_something_is_asked_every_second_from_then_on() -> None:
    holder = Holder(clock := FakeClock())
    async with ticking(holder, clock=clock) as scene:
        await scene.pass_seconds(30)
        holder.holds = True
        await scene.give()
        began = clock.monotonic_seconds()
        await scene.pass_seconds(4)
    assert holder.asked[0] - began <= 1.0
    assert len(holder.asked) >= 3


async def test_one_that_wants_to_be_asked_seldom_is_and_does_not_keep_another_from_being_asked() -> None:
    seldom, often = Holder(clock := FakeClock(), 60.0), Holder(clock)
    seldom.holds = True
    async with ticking(often, seldom, clock=clock) as scene:
        await scene.give()
        await scene.pass_seconds(100)
        assert 1 <= len(seldom.asked) <= 2
        often.holds = True
        before = len(often.asked)
        await scene.give()
        await scene.pass_seconds(4)
    assert len(often.asked) - before >= 3


async def test_one_that_has_failed_is_watched_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Holder):
        def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
            raise ValueError("no")

    holder = Failing(clock := FakeClock())
    async with ticking(holder, clock=clock) as scene:
        await scene.give()
        caplog.set_level("INFO")
        await scene.pass_seconds(63)
    assert "0 works again" in caplog.text
