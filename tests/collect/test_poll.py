"""Collectors on their tick: each within its deadline, none in the way of another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from agent.batch import Family
from agent.collect.poll import NO_DATA, Poll
from agent.contract import Collector
from agent.errors import NoData
from agent.ownmetrics import Meter
from tests.fakes import FakeClock, settle

FAMILY = Family("up", "gauge", "Up.", (b"up",), (1.0,))
DEADLINE_SECONDS = 5.0


class Works:
    """Gives one family, and notes on which thread it was asked."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def collect(self) -> Iterable[Family]:
        self.threads.append(threading.get_ident())
        return [FAMILY]


class Raises:
    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    def collect(self) -> Iterable[Family]:
        if self.error is not None:
            raise self.error
        return [FAMILY]


class Hangs:
    """Does not come back before it is let go."""

    def __init__(self) -> None:
        self.let_go, self.entered = threading.Event(), threading.Event()
        self.calls = 0

    def collect(self) -> Iterable[Family]:
        self.calls += 1
        self.entered.set()
        self.let_go.wait(30)
        return [FAMILY]


class Scene:
    def __init__(self, **collectors: Collector) -> None:
        self.clock, self.meter = FakeClock(), Meter()
        self.poll = Poll("host", lambda: collectors, self.clock, self.meter, DEADLINE_SECONDS)

    def success(self, name: str) -> float | None:
        return self.meter.numbers("telemetry_agent_collector_success").get(("host", name))


@contextmanager
def scene(**collectors: Collector) -> Iterator[Scene]:
    made = Scene(**collectors)
    with made.poll:
        yield made


async def until(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0.001)


async def test_results_come_in_the_order_of_the_collectors_and_are_counted() -> None:
    with scene(a=Works(), b=Works()) as made:
        results = await made.poll.cycle()
    assert [(result.name, list(result.families), result.failure) for result in results] == [
        ("a", [FAMILY], None),
        ("b", [FAMILY], None),
    ]
    assert made.success("a") == made.success("b") == 1
    assert ("host", "a") in made.meter.numbers("telemetry_agent_collector_duration_seconds")


async def test_one_that_fails_loses_its_own_samples_alone_and_is_asked_again() -> None:
    failing = Raises(ValueError("line 3"))
    with scene(a=failing, b=Works()) as made:
        first = {result.name: result for result in await made.poll.cycle()}
        assert first["a"].failure == "ValueError: line 3"
        assert made.success("a") == 0
        assert list(first["b"].families) == [FAMILY]
        failing.error = None
        second = {result.name: result for result in await made.poll.cycle()}
    assert second["a"].failure is None
    assert made.success("a") == 1


async def test_one_that_has_nothing_is_no_failure() -> None:
    with scene(a=Raises(NoData("no such thing"))) as made:
        [result] = await made.poll.cycle()
    assert result.failure == NO_DATA
    assert made.success("a") is None


async def test_a_stuck_one_harms_nobody_and_is_left_alone_until_it_has_ended() -> None:
    stuck, before, after = Hangs(), Works(), Works()
    with scene(before=before, stuck=stuck, after=after) as made:
        cycling = asyncio.create_task(made.poll.cycle())
        await until(stuck.entered)
        await settle()
        await made.clock.advance(2 * DEADLINE_SECONDS)
        first = {result.name: result for result in await cycling}
        assert first["stuck"].failure == "no answer within 5 s"
        assert made.success("stuck") == 0
        assert list(first["before"].families) == list(first["after"].families) == [FAMILY]

        second = {result.name: result for result in await made.poll.cycle()}  # no deadline is waited for any more
        assert second["stuck"].failure == "no answer within 5 s"
        assert list(second["after"].families) == [FAMILY]
        assert stuck.calls == 1

        stuck.let_go.set()
        while any(thread.name == "host" and thread.ident == before.threads[0] for thread in threading.enumerate()):
            await asyncio.sleep(0.001)
        third = {result.name: result for result in await made.poll.cycle()}
    assert list(third["stuck"].families) == [FAMILY]
    assert made.success("stuck") == 1
    assert stuck.calls == 2


async def test_two_stuck_ones_are_left_behind_one_after_the_other() -> None:
    one, two, last = Hangs(), Hangs(), Works()
    with scene(one=one, two=two, last=last) as made:
        cycling = asyncio.create_task(made.poll.cycle())
        for each in (one, two):
            await until(each.entered)
            await settle()
            await made.clock.advance(2 * DEADLINE_SECONDS)
        results = {result.name: result.failure for result in await cycling}
        one.let_go.set()
        two.let_go.set()
    assert results == {"one": "no answer within 5 s", "two": "no answer within 5 s", "last": None}


async def test_collectors_of_a_cycle_share_one_thread() -> None:
    a, b = Works(), Works()
    with scene(a=a, b=b) as made:
        await made.poll.cycle()
        await made.poll.cycle()
    assert len({*a.threads, *b.threads}) == 1
