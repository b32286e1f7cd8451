"""The chain accounts for every record, whatever the processors in it do."""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Batch, Logs, Metrics, Position
from agent.clock import Time
from agent.contract import Flow, Held
from agent.ownmetrics import Meter
from agent.process.chain import QUIET_SECONDS, Chain, Link, Step
from tests.fakes import FakeClock
from tests.process.holding import Flaky
from tests.spool_contents import logs, numbered

APP: Flow = ("file.app", "logs")


class Doing:
    """A processor that does what it is told; nothing is held and nothing is due unless said."""

    def __init__(
        self,
        process: Callable[[Batch], Iterable[Batch]] = lambda batch: (batch,),
        due: Callable[[], Iterable[Batch]] = lambda: (),
        held: Held | None = None,
    ) -> None:
        self.seen: list[Batch] = []
        self.holds = held
        self._process = process
        self._due = due

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        self.seen.append(batch)
        return self._process(batch)

    def due(self, now: Time) -> Iterable[Batch]:
        return self._due()

    def held(self) -> Held | None:
        return self.holds


def chain(*processors: Any, clock: FakeClock | None = None, meter: Meter | None = None, **links: Any) -> Chain:
    """A chain of processors named p0, p1, …"""
    made = [Link(f"p{place}", each, **links) for place, each in enumerate(processors)]
    return Chain(made, clock or FakeClock(), meter or Meter())


def metrics(source: str, count: int) -> Metrics:
    return Metrics(source, (), tuple(b"m%d" % i for i in range(count)), array("d", [1.0] * count), first_time_ns=1)


def records(step: Step) -> list[bytes]:
    return [record for batch in step.batches if isinstance(batch, Logs) for record in batch.records()]


def test_a_batch_that_nobody_changes_goes_on_whole_and_counts_as_read() -> None:
    step = chain(Doing(), Doing()).take(logs(numbered(5)))
    assert records(step) == numbered(5)
    assert step.read == {APP: 5}
    assert not step.dropped
    assert not step.states


def test_what_is_neither_returned_nor_held_is_dropped_by_name() -> None:
    step = chain(Doing(), Doing(lambda batch: (batch.select((0, 3)),))).take(logs(numbered(5)))
    assert records(step) == [b"line 0", b"line 3"]
    assert step.dropped == {(APP, "p1"): 3}


def test_what_a_processor_makes_is_read_from_it_and_is_not_given_to_it_again() -> None:
    counter = Doing(lambda batch: (batch, metrics("process.p0", 2), metrics("process.p0", 1)))
    after = Doing()
    step = chain(counter, after).take(logs(numbered(5)))
    assert step.read == {APP: 5, ("process.p0", "metrics"): 3}
    assert not step.dropped
    assert [batch.count for batch in after.seen] == [5, 2, 1]
    assert [batch.count for batch in counter.seen] == [5]


def test_what_is_held_is_neither_dropped_nor_returned_and_is_released_without_being_read_again() -> None:
    window = Doing(lambda batch: ())
    running = chain(window)
    window.holds = Held(b"five", {APP: 5})
    step = running.take(logs(numbered(5)))
    assert (step.read, step.dropped, step.batches) == ({APP: 5}, {}, [])
    assert step.states == {"p0": window.holds}
    window.holds, window._due = None, lambda: (logs(numbered(4)),)
    step = running.due()
    assert records(step) == numbered(4)
    assert (step.read, step.dropped, step.states) == ({}, {(APP, "p0"): 1}, {"p0": None})


def test_a_state_that_has_not_changed_is_not_written_again() -> None:
    keeper = Doing(held=Held(b"same"))
    running = chain(keeper)
    assert running.take(logs(numbered(1))).states == {"p0": keeper.holds}
    assert running.take(logs(numbered(1))).states == {}
    assert running.due().states == {}


def test_what_was_held_before_a_restart_is_not_read_again_when_it_comes_out() -> None:
    held = Held(b"three", {APP: 3})
    window = Doing(due=lambda: (logs(numbered(3)),))
    step = Chain([Link("p0", window, held=held)], FakeClock(), Meter()).due()
    assert (step.read, step.dropped, step.states) == ({}, {}, {"p0": None})


def test_processors_run_in_their_order_and_each_sees_what_the_one_before_it_made() -> None:
    def adding(word: bytes) -> Doing:
        return Doing(lambda batch: (replace(batch, block=batch.block.replace(b"\n", word + b"\n")),))

    assert records(chain(adding(b"a"), adding(b"b"), adding(b"c")).take(logs([b"x", b"y"]))) == [b"xabc", b"yabc"]


def test_what_is_due_goes_through_the_processors_behind_and_never_through_those_before() -> None:
    first, last = Doing(), Doing()
    middle = Doing(due=lambda: (logs(numbered(2)), metrics("process.p1", 1)))
    step = chain(first, middle, last).due()
    assert first.seen == []
    assert middle.seen == []
    assert [batch.source for batch in last.seen] == ["file.app", "process.p1"]
    assert step.read == {APP: 2, ("process.p1", "metrics"): 1}


def test_a_processor_sees_only_the_sources_it_names() -> None:
    chosen = Doing(lambda batch: ())
    running = chain(chosen, sees=lambda source: source == "file.web")
    assert records(running.take(logs(numbered(3)))) == numbered(3)
    assert running.take(logs(numbered(3), source="file.web")).dropped == {(("file.web", "logs"), "p0"): 3}


def test_the_position_of_a_batch_moves_even_where_nothing_remains_of_it() -> None:
    position = Position("/var/log/a", "17")
    empty = logs([], positions=(position,))
    for processor, batch in ((Doing(lambda _: ()), logs(numbered(3), positions=(position,))), (Doing(), empty)):
        step = chain(processor).take(batch)
        assert step.batches == []
        assert step.positions == [("file.app", position)]
        assert all(seen.count for seen in processor.seen)


@given(count=st.integers(1, 70), poison=st.sets(st.integers(0, 69)), stumbles=st.integers(0, 2), before=st.booleans())
def test_of_a_batch_that_makes_a_processor_fail_only_the_poison_is_dropped(
    count: int, poison: set[int], stumbles: int, before: bool
) -> None:
    poisoned = [i in poison for i in range(count)]
    lines = [b"poison %d" % i if bad else b"line %d" % i for i, bad in enumerate(poisoned)]
    meter = Meter()
    processors = [Flaky(b"poison"), Doing()] if before else [Doing(), Flaky(b"poison")]
    running = chain(*processors, meter=meter)
    step = running.take(logs(lines, time_ns=0, severities=bytes(range(count)), metadata={0: (("k", "v"),)}))
    assert records(step) == [line for line in lines if not line.startswith(b"poison")]
    bad = sum(poisoned)
    assert step.read == {APP: count}
    assert +Counter(step.dropped) == ({(APP, f"p{int(not before)}.failed"): bad} if bad else {})
    kept = [severity for batch in step.batches for severity in batch.severities or b""]
    assert kept == [i for i in range(count) if not poisoned[i]]
    assert bool(meter.value("telemetry_agent_process_errors_total", (f"p{int(not before)}",))) == bool(bad)


def test_a_batch_that_lies_about_its_records_is_a_failure_and_never_reaches_the_spool() -> None:
    honest = logs(numbered(4))
    lies: list[Batch] = [
        replace(honest, count=5),
        replace(honest, block=honest.block + b"half"),
        replace(honest, severities=b"\x01"),
        replace(honest, times_ns=array("q", [1])),
        replace(metrics("process.p0", 3), values=array("d", [1.0])),
    ]
    for lie in lies:
        step = chain(Doing(lambda _, lie=lie: (lie,))).take(logs(numbered(4)))
        assert step.batches == []
        assert step.dropped == {(APP, "p0.failed"): 4}
        assert step.read == {APP: 4}


def test_a_failure_in_due_loses_nothing_and_stops_nobody() -> None:
    def fail() -> Iterable[Batch]:
        raise RuntimeError

    held = Held(b"kept", {APP: 3})
    running = chain(Doing(due=fail, held=held), Doing(due=lambda: (logs(numbered(2)),)))
    running.links[0].held = held
    step = running.due()
    assert records(step) == numbered(2)
    assert (step.dropped, step.states) == ({}, {})


def test_a_failure_is_said_once_without_quoting_a_record_and_its_end_is_said_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    running = chain(Flaky(b"secret"), clock=clock)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            running.take(logs([b"secret of somebody", b"line"]))
        running.due()
        assert running.links[0].last_error is not None
        clock.move(QUIET_SECONDS)
        running.due()
        running.due()
    assert running.links[0].last_error is None
    said = [entry.getMessage() for entry in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("p0 failed on a batch: ValueError in holding.py:")
    assert said[1].startswith("p0 works again")
    assert not any("somebody" in line for line in said)


class Arbitrary(Doing):
    """Keeps, holds, drops and makes whatever is drawn, and fails now and then."""

    def __init__(self, data: st.DataObject) -> None:
        super().__init__()
        self._data = data
        self._window: list[bytes] = []

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if not isinstance(batch, Logs) or batch.source != "file.app":
            return (batch,)
        if self._data.draw(st.integers(0, 5)) == 0:
            raise ValueError
        lines = batch.records()
        drawn = self._data.draw(st.lists(st.sampled_from("kkkhd"), min_size=len(lines), max_size=len(lines)))
        fates = list(zip(lines, drawn, strict=True))
        self._remember(self._window + [line for line, fate in fates if fate == "h"])
        kept = logs([line for line, fate in fates if fate == "k"])
        return [kept, metrics("process.x", self._data.draw(st.integers(0, 2)))]

    def due(self, now: Time) -> Iterable[Batch]:
        released = self._window
        self._remember([])
        return [logs(released)]

    def _remember(self, window: list[bytes]) -> None:
        self._window = window
        self.holds = Held(b"\n".join(window), {APP: len(window)}) if window else None


def left_over(step: Step) -> Counter[Flow]:
    """What a step counted as read, less what it dropped and gave out."""
    sums: Counter[Flow] = Counter(step.read)
    for (flow, _), number in step.dropped.items():
        assert number > 0
        sums[flow] -= number
    for batch in step.batches:
        assert batch.count
        sums[batch.source, batch.signal] -= batch.count
    return sums


@given(st.data())
def test_what_is_read_is_given_out_held_or_dropped_whatever_processors_do(data: st.DataObject) -> None:
    running = chain(Arbitrary(data), Arbitrary(data))
    sums: Counter[Flow] = Counter()
    for _ in range(data.draw(st.integers(1, 6))):
        sums.update(left_over(running.take(logs(numbered(data.draw(st.integers(0, 8)))))))
        sums.update(left_over(running.due()))
    for link in running.links:
        assert link.held == link.processor.held()
        sums.subtract((link.held or Held(b"")).records)
    assert set(sums.values()) <= {0}
