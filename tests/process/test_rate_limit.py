"""This file holds what [process.rate_limit] lets through, and what it says of the rest."""

from __future__ import annotations

import logging

import pytest

from agent.process.rate_limit_options import RateLimitOptions
from tests.process.making import Chained, lines, logs, pairs


def numbered(count: int, size: int = 10) -> list[bytes]:
    return [(b"%d" % place).ljust(size - 1, b".") for place in range(count)]


def test_what_comes_faster_than_it_may_is_dropped_and_what_may_come_is_the_same_object() -> None:
    chained = Chained("rate_limit", records_per_second=10.0, burst_seconds=1.0)
    batch = logs(*numbered(8))
    assert chained.take(batch)[0].block is batch.block
    assert lines(chained.take(batch)) == numbered(8)[:2]
    assert chained.dropped == 6
    assert chained.take(batch) == []
    chained.clock.move(0.5)
    assert len(lines(chained.take(batch))) == 5


def test_after_a_rest_of_any_length_no_more_may_come_at_once_than_a_burst() -> None:
    chained = Chained("rate_limit", records_per_second=2.0, burst_seconds=3.0)
    assert len(lines(chained.take(logs(*numbered(20))))) == 6
    chained.clock.move(1000.0)
    assert len(lines(chained.take(logs(*numbered(20))))) == 6
    by_bytes = Chained("rate_limit", bytes_per_second=20.0, burst_seconds=3.0)
    assert len(lines(by_bytes.take(logs(*numbered(20))))) == 6
    by_bytes.clock.move(1000.0)
    assert len(lines(by_bytes.take(logs(*numbered(20))))) == 6


def test_bytes_are_limited_too_and_whichever_is_reached_first_counts() -> None:
    chained = Chained("rate_limit", bytes_per_second=55.0, burst_seconds=1.0)
    assert len(lines(chained.take(logs(*numbered(8))))) == 5
    both = Chained("rate_limit", bytes_per_second=55.0, records_per_second=3.0, burst_seconds=1.0)
    assert len(lines(both.take(logs(*numbered(8))))) == 3


def test_each_value_of_the_key_has_a_limit_of_its_own() -> None:
    chained = Chained("rate_limit", records_per_second=2.0, burst_seconds=1.0, key="who")
    batch = pairs(b"who=a", b"who=b", b"who=a", b"who=a", b"x=1", b"plain", b"plain")
    assert lines(chained.take(batch)) == [b"who=a", b"who=b", b"who=a", b"x=1", b"plain"]
    assert lines(chained.take(pairs(b"who=b", b"who=b"))) == [b"who=b"]
    by_label = Chained("rate_limit", records_per_second=2.0, burst_seconds=1.0, key="app")
    assert len(lines(by_label.take(logs(*numbered(5)), logs(*numbered(5), labels=(("app", "db"),))))) == 4


def test_keys_beyond_max_keys_share_one_limit() -> None:
    chained = Chained("rate_limit", records_per_second=1.0, burst_seconds=1.0, key="who", max_keys=2)
    batch = pairs(b"who=a", b"who=b", b"who=c", b"who=d", b"who=c")
    assert lines(chained.take(pairs(b"who=a", b"who=b"))) == [b"who=a", b"who=b"]
    assert lines(chained.take(batch)) == [b"who=c"]
    many = Chained("rate_limit", records_per_second=1.0, burst_seconds=1.0, key="who", max_keys=2)
    assert lines(many.take(pairs(b"who=a", b"who=b", b"who=c", b"who=a", b"who=d"))) == [b"who=a", b"who=b", b"who=c"]
    assert chained.meter.value("telemetry_agent_process_overflow_total", ("rate_limit",)) == 2


def test_it_says_when_a_limit_is_reached_and_when_no_more_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    chained = Chained("rate_limit", records_per_second=1.0, burst_seconds=1.0)
    for _ in range(5):
        chained.take(logs(*numbered(5)))
        chained.due(1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "rate_limit: file.app comes faster than records_per_second = 1; what is more is dropped"
    ]
    assert chained.meter.value("telemetry_agent_process_limited_keys", ("rate_limit",)) == 1
    caplog.clear()
    assert chained.due(10.0) == []
    assert [record.getMessage() for record in caplog.records] == [
        "rate_limit: file.app is within its limit again; 20 records (200 bytes) of it were dropped"
    ]
    assert chained.processor.held() is None
    assert chained.meter.value("telemetry_agent_process_limited_keys", ("rate_limit",)) == 0


def test_of_many_keys_only_some_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    chained = Chained("rate_limit", records_per_second=1.0, burst_seconds=1.0, key="who")
    batch = pairs(*(b"who=k%d" % place for place in range(100)))
    chained.take(batch, batch, batch)
    assert len(caplog.records) == 11
    chained.due(60.0)
    assert chained.processor.held() is None


def test_a_summary_tells_how_much_was_dropped_of_whom() -> None:
    chained = Chained("rate_limit", records_per_second=1.0, burst_seconds=1.0, summary=True, summary_seconds=5.0)
    chained.take(logs(*numbered(5)))
    assert chained.due(4.0) == []
    (made,) = chained.due(1.0)
    assert made.source == "process.rate_limit"
    assert made.labels == (("app", "web"),)
    assert lines([made]) == [
        b"4 records (40 bytes) of file.app were dropped in 5 s: they came faster than records_per_second = 1"
    ]
    assert dict(made.metadata[0])["dropped_records"] == "4"
    assert made.severities == bytes([13])
    assert chained.due(5.0) == [], "what was told is not told again"


def test_what_is_told_has_the_labels_that_all_have_of_whom_something_was_dropped() -> None:
    chained = Chained("rate_limit", records_per_second=1.0, burst_seconds=1.0, summary=True)
    for app in ("web", "web", "db"):
        chained.take(logs(*numbered(3), labels=(("app", app), ("env", "prod"))))
    (made,) = chained.due(10.0)
    assert made.labels == (("env", "prod"),)


def test_a_key_that_is_being_limited_still_is_after_a_kill_and_the_rest_is_told_once() -> None:
    chained = Chained("rate_limit", records_per_second=1.0, burst_seconds=5.0, summary=True, summary_seconds=5.0)
    chained.take(logs(*numbered(9)))
    chained.start()
    assert chained.take(logs(*numbered(5))) == []
    (made,) = chained.due(5.0)
    assert b"9 records" in made.block
    chained.start()
    assert chained.due(3.0) == []


def test_a_state_that_cannot_be_read_limits_nobody(caplog: pytest.LogCaptureFixture) -> None:
    chained = Chained("rate_limit", records_per_second=1.0)
    chained.state = b"\xc1"
    chained.start()
    assert "cannot be read" in caplog.text
    assert len(lines(chained.take(logs(*numbered(3))))) == 3


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    chained = Chained("rate_limit", records_per_second=1.0, burst_seconds=1.0)
    chained.take(logs(*numbered(1)))
    chained.clock.set_wall(chained.clock.wall_ns() - 10**12)
    assert chained.take(logs(*numbered(2))) == []


def test_a_table_that_limits_nothing_is_refused() -> None:
    assert [key for key, _ in RateLimitOptions().faults()] == ["records_per_second"]
