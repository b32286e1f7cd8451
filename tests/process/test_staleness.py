"""A series that ends gets its marker, once, in the cycle that no longer has it; one that lives never does."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Batch, Labels, Logs, Metrics
from agent.clock import Time, now
from agent.contract import Held
from agent.ownmetrics import Meter
from agent.process.chain import Chain, Link, Step
from agent.process.staleness import Staleness
from agent.process.staleness_options import StalenessOptions
from tests.fakes import FakeClock, context
from tests.spool_contents import logs, numbered

STALE = 0x7FF0000000000002
LABELS: Labels = (("env", "prod"),)


def cycle(*series: bytes, source: str = "host", labels: Labels = LABELS, **changes: Any) -> Metrics:
    return Metrics(source, labels, series, array("d", [1.0] * len(series)), **changes)


class World:
    """The processor in a chain, as the agent runs it, and across starts."""

    def __init__(self, *before: Any, clock: FakeClock | None = None, **options: Any) -> None:
        self.clock = clock or FakeClock()
        self.meter = Meter()
        self.options = StalenessOptions(**options)
        self.before = before
        self.state: bytes | None = None
        self.start()

    def start(self) -> None:
        """Opens it on what the last commit left."""
        ctx = context(Path("/nonexistent"), "staleness", clock=self.clock, meter=self.meter, state=self.state)
        self.processor = Staleness(self.options, ctx)
        links = [Link(f"p{place}", each) for place, each in enumerate(self.before)]
        self.chain = Chain(
            [*links, Link("staleness", self.processor, held=self.processor.held())], self.clock, self.meter
        )

    def take(self, *batches: Metrics, seconds: float = 15.0) -> list[tuple[Labels, list[bytes], list[bytes]]]:
        """For each batch that comes out: its labels, what lives in it, what ends in it."""
        out = []
        for batch in batches:
            out += self.read(self.chain.take(batch))
        self.clock.move(seconds)
        return out

    def read(self, step: Step) -> list[tuple[Labels, list[bytes], list[bytes]]]:
        """What one step made; the law must hold in it."""
        made = sum(batch.count for batch in step.batches)
        assert sum(step.read.values()) == made + sum(step.dropped.values())
        if "staleness" in step.states:
            held = step.states["staleness"]
            self.state = None if held is None else held.blob
            assert held is None or not held.records
        return [(batch.labels, *lives_and_ends(batch)) for batch in step.batches if isinstance(batch, Metrics)]

    def marked(self, *batches: Metrics) -> list[bytes]:
        """What ended in these."""
        return [series for _, _, ended in self.take(*batches) for series in ended]


def lives_and_ends(batch: Metrics) -> tuple[list[bytes], list[bytes]]:
    bits = struct.unpack(f"={batch.count}Q", batch.values.tobytes())
    lives = [series for series, value in zip(batch.series, bits, strict=True) if value != STALE]
    return lives, [series for series, value in zip(batch.series, bits, strict=True) if value == STALE]


def test_a_cycle_like_the_last_goes_on_as_it_came_and_nothing_is_written() -> None:
    world = World()
    world.take(cycle(b"a", b"b"))
    same = cycle(b"a", b"b")
    step = world.chain.take(same)
    assert [batch.series for batch in step.batches] == [same.series]
    assert step.states == {}
    for equal in (cycle(b"b", b"a"), cycle(b"a", b"b")):
        assert world.marked(equal) == [], "the same in another order"


def test_a_series_that_is_gone_ends_in_the_cycle_that_lacks_it_and_once() -> None:
    world = World()
    world.take(cycle(b"a", b"b", b"c"))
    assert world.take(cycle(b"a")) == [(LABELS, [b"a"], [b"b", b"c"])]
    assert world.take(cycle(b"a"), cycle(b"a", b"b")) == [(LABELS, [b"a"], []), (LABELS, [b"a", b"b"], [])]
    assert world.marked(cycle(b"a")) == [b"b"], "one that came back ends again"
    assert world.meter.value("telemetry_agent_staleness_markers_total", ("staleness",)) == 3
    assert world.meter.value("telemetry_agent_staleness_series", ("staleness",)) == 1


def test_a_marker_counts_as_read_from_the_source_it_stands_for() -> None:
    world = World()
    world.take(cycle(b"a", b"b"))
    step = world.chain.take(cycle(b"a"))
    assert step.read == {("host", "metrics"): 2}
    assert not step.dropped


def test_logs_pass() -> None:
    world = World()
    batch = logs(numbered(3))
    step = world.chain.take(batch)
    assert step.states == {}
    assert [each.count for each in step.batches] == [3]


class FailsOn:
    """A processor that fails on every batch with that series."""

    def __init__(self, series: bytes) -> None:
        self._series = series

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if isinstance(batch, Metrics) and self._series in batch.series:
            raise ValueError
        return (batch,)

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        return None


def test_a_cycle_that_another_processor_took_apart_is_one_cycle() -> None:
    world = World(FailsOn(b"bad"))
    series = [b"m%d" % i for i in range(9)]
    world.take(cycle(*series))
    out = world.take(cycle(*series[:4], b"bad", *series[4:8]))
    assert len(out) > 1, "it was taken apart"
    assert [each for _, lives, _ in out for each in lives] == series[:8]
    assert [each for _, _, ends in out for each in ends] == [b"m8"]
    assert world.marked(cycle(*series)) == []


def test_what_it_fails_on_itself_goes_on_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.take(cycle(b"a", b"b"))
    with monkeypatch.context() as patched:
        patched.setattr(world.processor, "_compared", lambda *_: 1 / 0)
        world.chain = Chain([Link("staleness", world.processor, held=world.processor.held())], world.clock, world.meter)
        assert world.take(cycle(b"a")) == [(LABELS, [b"a"], [])]
    assert world.marked(cycle(b"a")) == [b"b"]


# After a start


def test_after_a_start_what_neither_of_the_first_two_cycles_has_ends_in_the_second() -> None:
    world = World()
    world.take(cycle(b"both", b"first", b"second", b"none"))
    world.start()
    assert world.marked(cycle(b"both", b"first")) == []
    assert world.marked(cycle(b"both", b"second")) == [b"first", b"none"]
    assert world.marked(cycle(b"both")) == [b"second"]


def test_after_a_start_with_everything_there_nothing_ends() -> None:
    world = World()
    world.take(cycle(b"a", b"b"))
    for _ in range(3):
        world.start()
        assert world.marked(cycle(b"a", b"b"), cycle(b"a", b"b")) == []
    assert world.marked(cycle(b"a")) == [b"b"]


def test_a_start_between_the_two_cycles_forgets_nothing() -> None:
    world = World()
    world.take(cycle(b"a", b"gone"))
    for _ in range(3):
        world.start()
        assert world.marked(cycle(b"a")) == []
    assert world.marked(cycle(b"a")) == [b"gone"]


def test_labels_that_an_operator_changed_end_at_the_second_cycle_with_the_others() -> None:
    world = World()
    world.take(cycle(b"a", b"b"))
    world.start()
    other = (("env", "test"),)
    assert world.take(cycle(b"a", labels=other)) == [(other, [b"a"], [])]
    assert world.take(cycle(b"a", labels=other)) == [(other, [b"a"], []), (LABELS, [], [b"a", b"b"])]
    assert world.marked(cycle(b"a", labels=other)) == []
    world.start()
    assert world.marked(cycle(b"a", labels=other), cycle(b"a", labels=other)) == []


def test_a_source_with_several_labels_has_a_cycle_of_each() -> None:
    world = World()
    one, two = (("target", "1"),), (("target", "2"),)
    for _ in range(2):
        for _ in range(3):
            assert world.marked(cycle(b"a", labels=one), cycle(b"b", labels=two), cycle(b"c", source="other")) == []
        for _ in range(5):
            assert world.marked(cycle(b"a", labels=one)) == [], "the other comes less often"
        world.start()
    assert world.take(cycle(labels=two), cycle(b"x", labels=two)) == [(two, [b"x"], [])]
    assert world.marked(cycle(b"x", labels=two)) == [b"b"]


def test_a_state_that_cannot_be_read_is_none(caplog: pytest.LogCaptureFixture) -> None:
    for state in (b"", b"\xff" * 40, b"\x05\0\0\0nonsense"):
        world = World()
        world.state = state
        world.start()
        assert world.marked(cycle(b"a"), cycle(b"b")) == [b"a"]
    assert "cannot be read and ends unmarked" in caplog.text


# Ends of sources


def test_a_source_that_has_fallen_silent_ends_with_all_its_series() -> None:
    world = World(silent_seconds=60)
    world.take(cycle(b"a", b"b"), cycle(b"c", source="other"), seconds=50)
    world.take(cycle(b"c", source="other"), seconds=10)
    step = world.chain.due()
    assert [(batch.source, batch.labels) for batch in step.batches] == [("host", LABELS)]
    assert world.read(step) == [(LABELS, [], [b"a", b"b"])]
    assert world.read(world.chain.due()) == []
    world.start()
    assert world.marked(cycle(b"a"), cycle(b"a")) == []


def test_a_source_that_is_no_longer_configured_ends_after_a_start() -> None:
    world = World(silent_seconds=60)
    world.take(cycle(b"a"), cycle(b"c", source="other"), seconds=3600)
    world.start()
    assert world.read(world.chain.due()) == [], "time passed while nobody ran is no silence"
    world.take(cycle(b"c", source="other"), seconds=59)
    assert world.read(world.chain.due()) == []
    world.take(cycle(b"c", source="other"), seconds=1)
    assert world.read(world.chain.due()) == [(LABELS, [], [b"a"])]


@pytest.mark.parametrize("stale_on_stop", [False, True])
def test_on_a_stop_series_end_only_where_that_was_asked_for(stale_on_stop: bool) -> None:
    world = World(stale_on_stop=stale_on_stop)
    world.take(cycle(b"a", b"b"), cycle(b"c", source="other"))
    ended = world.read(world.chain.ending())
    assert ended == ([(LABELS, [], [b"a", b"b"]), (LABELS, [], [b"c"])] if stale_on_stop else [])
    assert (world.state is None) == stale_on_stop
    world.start()
    assert world.marked(cycle(b"a"), cycle(b"a")) == ([] if stale_on_stop else [b"b"])


# Bounds


def test_no_more_series_are_watched_than_allowed_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    world = World(max_series=3)
    unwatched = "telemetry_agent_staleness_unwatched_series"
    world.take(cycle(b"a", b"b"), cycle(b"c", b"d", b"e", source="other"))
    assert world.meter.value(unwatched, ("staleness",)) == 2
    assert "2 series more than max_series = 3" in caplog.text
    assert world.marked(cycle(b"x", source="other")) == [b"c"]
    assert world.meter.value(unwatched, ("staleness",)) == 0
    assert world.marked(cycle(b"y", b"a"), cycle(b"y", b"a")) == [b"b"]


def test_comparing_a_cycle_with_one_like_it_takes_no_python_for_a_series() -> None:
    world = World()

    def calls(count: int) -> int:
        series = [b'm{i="%d"}' % i for i in range(count)]
        batches = [cycle(*series, source=str(count)), cycle(*series, source=str(count))]
        world.take(batches[0])
        entered = 0

        def profile(frame: Any, event: str, arg: Any) -> None:
            nonlocal entered
            entered += event == "call"

        moment = now(world.clock)
        sys.setprofile(profile)
        try:
            world.processor.process_all((batches[1],), moment)
            world.processor.held()
        finally:
            sys.setprofile(None)
        return entered

    assert calls(5000) == calls(5)


# Whatever happens

SERIES = st.sets(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]))


@given(st.lists(st.one_of(SERIES, st.just("start"), st.just("poison")), max_size=20))
@settings(max_examples=200)
def test_whatever_comes_and_goes_what_lives_downstream_is_what_the_last_two_cycles_had(events: list[Any]) -> None:
    """What lives downstream: the last sample of the series is no marker."""
    world = World(FailsOn(b"poison"))
    lives: set[bytes] = set()
    marked: list[bytes] = []
    since_start, previous = 2, set[bytes]()
    for event in events:
        if event == "start":
            world.start()
            since_start = 0
            continue
        poisoned = event == "poison"
        present = previous if poisoned else event
        out = world.take(cycle(*sorted(present), *([b"poison"] if poisoned else [])))
        for _, alive, ended in out:
            assert set(ended) <= lives - present, "what does not live, or is there, does not end"
            lives = (lives | set(alive)) - set(ended)
            marked += ended
        since_start += bool(present)  # a cycle of which nothing is left is none
        if since_start >= 2 and present:
            assert lives == present
        previous = present
    assert lives >= previous


def test_a_batch_of_logs_and_metrics_keeps_its_order() -> None:
    processor = World().processor
    batches: list[Batch] = [cycle(b"a"), logs(numbered(1)), replace(cycle(b"b"), source="other")]
    made = list(processor.process_all(batches, now(FakeClock())))
    assert [type(batch) for batch in made] == [Metrics, Logs, Metrics]
