"""The law of the chain, over every processor there is and whatever comes:

    given  =  returned  +  change in what it holds  +  dropped by it

and what goes on is what came: no record is made up, none is changed but by those that say so, and each keeps its own.
"""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.batch import Logs, Metrics
from agent.process import PROCESSORS
from tests.process.making import Chained, logs

OPTIONS: dict[str, dict[str, Any]] = {
    "redact": {},
    "drop": {"contains": ["drop"]},
    "labels": {"set": {"added": "1"}},
    "filter": {"when": [{"matches": "drop|a.c"}, {"field": "n", "at_least": 3}], "match": "any"},
    "sample": {"ratio": 0.5, "records_per_second": 2.0, "burst_seconds": 2.0, "key": "k"},
    "rate_limit": {
        "records_per_second": 2.0,
        "bytes_per_second": 60.0,
        "burst_seconds": 2.0,
        "summary": True,
        "key": "k",
    },
    "dedupe": {"window_seconds": 3.0, "max_keys": 3},
    "truncate": {"max_bytes": 16},
    "extract": {"labels": {"key": "k"}, "metadata": {"number": "n"}, "max_values": 2},
    "metrics": {
        "counter": [{"name": "lines_total", "labels": {"k": "k"}}],
        "gauge": [{"name": "n", "value": "n", "keep": "max"}],
        "histogram": [{"name": "h", "value": "n"}],
        "max_series": 2,
    },
    "errors": {"max_kinds": 2, "top": 2, "matches": "k=a", "summary_seconds": 2.0},
    "staleness": {},
}
KEEPING = {"labels", "truncate", "extract", "metrics", "errors", "staleness", "redact"}
"""Processors that let every record pass."""

RECORD = st.one_of(
    st.sampled_from([b"drop", b"abc", b"", b"x" * 40, "ü🙂".encode() * 9, b"\xff\xfe", b"k=a n=1 message=hi"]),
    st.builds(lambda k, n: b"k=%b n=%d" % (k, n), st.sampled_from([b"a", b"b", b"c"]), st.integers(-1, 9)),
)


@st.composite
def batches(draw: st.DrawFn) -> Logs:
    records = draw(st.lists(RECORD, max_size=8))
    count = len(records)
    columns: dict[str, Any] = {}
    if draw(st.booleans()):
        columns["severities"] = bytes(draw(st.lists(st.integers(0, 24), min_size=count, max_size=count)))
    if draw(st.booleans()):
        columns["times_ns"] = array("q", range(1, count + 1))
    if draw(st.booleans()):
        columns["metadata"] = {place: (("m", str(place)),) for place in range(0, count, 2)}
    separator = draw(st.sampled_from([b"\n", b"\0", b"--"]))
    log_format = draw(st.sampled_from(["", "logfmt", "json", "nginx", "gone"]))
    return logs(*records, separator=separator, format=log_format, **columns)


STEPS = st.lists(st.tuples(batches(), st.sampled_from([0.0, 0.5, 2.0, 30.0]), st.booleans()), min_size=1, max_size=5)


def test_every_processor_is_held_to_it() -> None:
    assert OPTIONS.keys() == PROCESSORS.keys()


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_every_record_that_was_given_came_out_or_counts_as_dropped(name: str, steps: list[Any]) -> None:
    chained = Chained(name, **OPTIONS[name])
    for batch, seconds, restart in steps:
        made = [each for each in chained.take(batch) if each.source == batch.source]
        assert sum(each.count for each in made) + chained.dropped == batch.count
        assert name not in KEEPING or chained.dropped == 0
        for each in made:
            assert each.count == len(each.records()) == each.block.count(each.separator)
            assert not each.metadata or max(each.metadata) < each.count
            check_columns(batch, each)
        if name not in ("truncate", "redact"):
            given_records = batch.records()
            assert all(given_records.count(record) for each in made for record in each.records())
        chained.due(seconds)
        if restart:
            chained.start()


def check_columns(batch: Logs, made: Logs) -> None:
    """What stands beside a record goes where the record goes: its time tells which one it was."""
    if batch.times_ns is None:
        return
    assert made.times_ns is not None
    places = [time - 1 for time in made.times_ns]
    assert places == sorted(places)
    if batch.severities is not None:
        assert made.severities == bytes(batch.severities[place] for place in places)
    for place, old in enumerate(places):
        beside = dict(made.metadata.get(place, ()))
        assert dict(batch.metadata.get(old, ())).items() <= beside.items()


@pytest.mark.parametrize("name", OPTIONS)
def test_metrics_pass_and_an_empty_batch_is_nothing(name: str) -> None:
    chained = Chained(name, **OPTIONS[name])
    cycle = Metrics("host", (("env", "prod"),), (b"a", b"b"), array("d", [1.0, 2.0]))
    (made,) = chained.take(cycle)
    assert (made.source, made.series, made.values) == (cycle.source, cycle.series, cycle.values)
    assert chained.take(logs()) == []


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(given_batches=st.lists(batches(), min_size=1, max_size=3))
def test_a_processor_that_is_taken_out_tells_what_it_has_yet_to_tell(name: str, given_batches: list[Logs]) -> None:
    """As when a reload no longer names it: what it has not told yet comes out, and nothing stays."""
    chained = Chained(name, **OPTIONS[name])
    out = [each for batch in given_batches for each in chained.take(batch)]
    out += chained.counted(chained.chain.released([name])).batches
    assert chained.chain.links[0].held is None
    if name == "dedupe":
        passed = sum(each.count for each in out if each.source != "process.dedupe")
        told = [pairs for each in out if each.source == "process.dedupe" for pairs in each.metadata.values()]
        assert passed + sum(int(dict(pairs)["repeated"]) for pairs in told) == sum(each.count for each in given_batches)
