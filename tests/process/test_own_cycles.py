"""This file shows when a processor sends the metrics that it makes itself, and under which labels."""

from __future__ import annotations

from pathlib import Path

from agent.batch import Family
from agent.clock import NANOSECONDS, Time
from agent.process.own_cycles import OwnCycles
from tests.fakes import context

COUNTER = Family("errors_total", "counter", "Errors.", (b"errors_total",), (3.0,))


def at(second: float) -> Time:
    return Time(int(second * NANOSECONDS), second)


def test_a_cycle_is_due_an_interval_after_the_last_and_at_once_where_the_clock_was_set_back(tmp_path: Path) -> None:
    cycles = OwnCycles(context(tmp_path, "errors"), 15.0)
    assert cycles.due(at(1000))
    cycles.made([COUNTER], at(1000))
    assert not cycles.due(at(1000))
    assert not cycles.due(at(1014.9))
    assert cycles.due(at(1015))
    assert cycles.due(at(999))


def test_a_cycle_says_which_processor_made_it_and_on_which_host(tmp_path: Path) -> None:
    made = OwnCycles(context(tmp_path, "errors", labels={"env": "test"}), 15.0).made([COUNTER], at(1000))
    assert (made.source, made.series, list(made.values)) == ("process.errors", (b"errors_total",), [3.0])
    labels = dict(made.labels)
    assert (labels["job"], labels["env"], set(labels)) == ("logs", "test", {"job", "env", "instance"})


def test_it_is_asked_often_enough_to_be_little_late_and_no_more_than_once_a_second(tmp_path: Path) -> None:
    assert OwnCycles(context(tmp_path, "errors"), 60.0).due_seconds == 4.0
    assert OwnCycles(context(tmp_path, "errors"), 2.0).due_seconds == 1.0
