"""This file holds what [process.metrics] counts, what it sends, and that each record is counted once over all kills."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.batch import Metrics
from agent.process.metrics.options import MetricsOptions
from tests.process.making import ERROR, INFO, Chained, logs, pairs

REQUESTS = (b"status=200 size=10", b"status=404 size=5", b"status=200 size=30", b"size=x", b"status=200 size=-1")


def sent(chained: Chained, seconds: float = 15.0) -> dict[bytes, float]:
    """What is sent after so many seconds, by series."""
    return {
        series: value
        for batch in chained.due(seconds)
        if isinstance(batch, Metrics)
        for series, value in zip(batch.series, batch.values, strict=True)
    }


def made(batch: Any, **tables: Any) -> dict[bytes, float]:
    chained = Chained("metrics", **tables)
    (passed,) = chained.take(batch)
    assert passed.block is batch.block
    return sent(chained)


def test_records_are_counted_by_what_they_say() -> None:
    counter = {"name": "requests_total", "labels": {"code": "status", "app": "app"}}
    assert made(pairs(*REQUESTS), counter=[counter]) == {
        b'requests_total{app="web",code="200"}': 3,
        b'requests_total{app="web",code="404"}': 1,
        b'requests_total{app="web"}': 1,
    }


def test_only_records_of_which_the_conditions_hold_are_counted() -> None:
    batch = logs(b"a", b"timeout b", b"timeout c", severities=bytes([ERROR, ERROR, INFO]))
    when = [{"contains": "timeout"}, {"field": "level", "at_least": "error"}]
    assert made(batch, counter=[{"name": "timeouts_total", "when": when}]) == {b"timeouts_total": 1}
    assert made(batch, counter=[{"name": "any_total", "when": when, "match": "any"}]) == {b"any_total": 3}


def test_a_counter_may_add_the_number_of_a_field_and_never_falls() -> None:
    chained = Chained("metrics", counter=[{"name": "bytes_total", "value": "size"}])
    chained.take(pairs(*REQUESTS))
    assert sent(chained) == {b"bytes_total": 45}
    assert chained.meter.value("telemetry_agent_process_unread_values_total", ("metrics",)) == 2


@pytest.mark.parametrize(
    ("keep", "first", "second", "third"),
    [("last", 3, 2, 2), ("min", 1, 2, None), ("max", 9, 2, None), ("sum", 13, 2, None)],
)
def test_a_gauge_keeps_the_last_or_what_an_interval_had(keep: str, first: int, second: int, third: int | None) -> None:
    chained = Chained("metrics", gauge=[{"name": "queue", "value": "n", "keep": keep}])
    chained.take(pairs(b"n=1", b"n=9"), pairs(b"n=3"))
    assert sent(chained) == {b"queue": first}
    chained.take(pairs(b"n=2"))
    assert sent(chained) == {b"queue": second}
    assert sent(chained) == ({} if third is None else {b"queue": third})


def test_a_histogram_has_rising_buckets_a_sum_and_a_count() -> None:
    table = {"name": "size_bytes", "value": "size", "buckets": [5, 20], "labels": {"app": "app"}}
    assert made(pairs(b"size=1", b"size=5", b"size=6", b"size=100"), histogram=[table]) == {
        b'size_bytes_bucket{app="web",le="5"}': 2,
        b'size_bytes_bucket{app="web",le="20"}': 3,
        b'size_bytes_bucket{app="web",le="+Inf"}': 4,
        b'size_bytes_sum{app="web"}': 112,
        b'size_bytes_count{app="web"}': 4,
    }


def test_what_is_sent_says_whose_it_is_and_comes_every_interval() -> None:
    chained = Chained("metrics", counter=[{"name": "lines_total", "help": "Lines."}], interval_seconds=15)
    assert chained.due() == []
    chained.take(logs(b"a"))
    (batch,) = chained.due()
    assert batch.source == "process.metrics"
    assert batch.labels == (("instance", "testhost"), ("job", "logs"))
    assert batch.families == (("lines_total", "counter", "Lines."),)
    assert chained.due(14.0) == []
    (again,) = chained.due(1.0)
    assert again.series is batch.series


async def test_the_endpoint_is_shown_what_is_counted_now() -> None:
    chained = Chained("metrics", counter=[{"name": "lines_total"}])
    chained.take(logs(b"a", b"b"))
    (family,) = await chained.processor.view()  # type: ignore[attr-defined]
    assert (family.name, family.kind, family.series, family.values) == (
        "lines_total",
        "counter",
        (b"lines_total",),
        (2,),
    )


def test_beyond_max_series_records_count_in_one_other() -> None:
    chained = Chained("metrics", counter=[{"name": "by_total", "labels": {"who": "who"}}], max_series=2)
    chained.take(pairs(b"who=a", b"who=b"), pairs(b"who=c", b"who=a", b"who=d", b"who=c"))
    assert sent(chained) == {b'by_total{who="a"}': 2, b'by_total{who="b"}': 1, b'by_total{who="other"}': 3}
    assert chained.meter.value("telemetry_agent_process_overflow_total", ("metrics",)) == 3


def test_numbers_go_on_after_a_start_and_begin_anew_where_they_mean_something_else() -> None:
    counter = {"name": "lines_total", "labels": {"app": "app"}}
    histogram = {"name": "size", "value": "size", "buckets": [5]}
    chained = Chained("metrics", counter=[counter], histogram=[histogram])
    chained.take(pairs(b"size=1"))
    chained.start()
    chained.take(pairs(b"size=2"))
    before = sent(chained)
    assert before[b'lines_total{app="web"}'] == 2
    assert before[b"size_sum"] == 3
    chained.options = msgspec.convert(
        {"counter": [counter], "histogram": [{**histogram, "buckets": [6]}]}, MetricsOptions
    )
    chained.start()
    assert sent(chained) == {b'lines_total{app="web"}': 2}


def test_a_state_that_cannot_be_read_is_said(caplog: pytest.LogCaptureFixture) -> None:
    chained = Chained("metrics", counter=[{"name": "lines_total"}])
    chained.state = b"\xc1"
    chained.start()
    assert "begins anew" in caplog.text


@pytest.mark.parametrize(
    ("tables", "key", "words"),
    [
        ({}, "counter", "at least one"),
        ({"counter": [{"name": "a b"}]}, "counter[0].name", "not a metric name"),
        ({"counter": [{"name": "telemetry_agent_x"}]}, "counter[0].name", "agent's own"),
        ({"gauge": [{"name": "node_load1", "value": "v"}]}, "gauge[0].name", "'node_load1' is like the machine's"),
        ({"counter": [{"name": "a"}], "gauge": [{"name": "a", "value": "v"}]}, "gauge[0].name", "twice"),
        ({"counter": [{"name": "a_sum"}], "histogram": [{"name": "a", "value": "v"}]}, "histogram[0].name", "'a_sum'"),
        ({"counter": [{"name": "a", "labels": {"a-b": "c"}}]}, "counter[0].labels.a-b", "not a label name"),
        ({"counter": [{"name": "a", "when": [{"matches": "("}]}]}, "counter[0].when[0].matches", "regular"),
        ({"histogram": [{"name": "a", "value": "v", "buckets": [2, 1]}]}, "histogram[0].buckets", "rise"),
        ({"histogram": [{"name": "a", "value": "v", "labels": {"le": "x"}}]}, "histogram[0].labels.le", "'le'"),
    ],
)
def test_what_cannot_be_meant_is_said_where_it_stands(tables: dict[str, Any], key: str, words: str) -> None:
    ((found, message),) = msgspec.convert(tables, MetricsOptions).faults()
    assert found == key
    assert words in message


def test_a_metric_that_was_given_no_help_says_where_it_comes_from() -> None:
    chained = Chained("metrics", counter=[{"name": "a_total"}, {"name": "b_total", "help": "Bees."}])
    chained.take(logs(b"x"))
    (batch,) = [each for each in chained.due(15.0) if isinstance(each, Metrics)]
    assert [text for _, _, text in batch.families] == ["Made of records by [process.metrics].", "Bees."]
