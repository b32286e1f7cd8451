"""This file holds what [process.extract] makes labels and metadata of, and what it does beyond its bounds."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import Metrics
from agent.process.extract_options import ExtractOptions
from tests.process.making import Chained, lines, pairs


def test_records_are_put_together_by_their_labels_with_all_that_belongs_to_them() -> None:
    batch = pairs(
        *(b"s=a n=0", b"s=b n=1", b"s=a n=2", b"n=3"),
        times_ns=array("q", [5, 6, 7, 8]),
        severities=bytes([1, 2, 3, 4]),
        metadata={2: (("k", "v"),)},
    )
    one, two, none = Chained("extract", labels={"service": "s"}).take(batch)
    assert one.labels == (("app", "web"), ("service", "a"))
    assert (one.records(), one.times_ns, one.severities) == ([b"s=a n=0", b"s=a n=2"], array("q", [5, 7]), b"\1\3")
    assert one.metadata == {1: (("k", "v"),)}
    assert (two.records(), two.labels[1]) == ([b"s=b n=1"], ("service", "b"))
    assert (none.records(), none.labels) == ([b"n=3"], (("app", "web"),))


def test_a_batch_of_one_label_set_stays_whole_and_one_without_any_is_the_same_object() -> None:
    batch = pairs(b"s=a", b"s=a")
    (made,) = Chained("extract", labels={"service": "s"}).take(batch)
    assert made.block is batch.block
    assert made.labels == (("app", "web"), ("service", "a"))
    chained = Chained("extract", labels={"service": "none"}, metadata={"x": "none"})
    assert next(iter(chained.processor.process(batch, None))) is batch  # type: ignore[arg-type]


def test_fields_become_metadata_beside_what_there_is() -> None:
    batch = pairs(b"t=1 u=x", b"u=y", b"plain", metadata={0: (("k", "v"), ("user", "old"))})
    (made,) = Chained("extract", metadata={"trace": "t", "user": "u"}).take(batch)
    assert made.block is batch.block
    assert made.metadata == {0: (("k", "v"), ("trace", "1"), ("user", "x")), 1: (("user", "y"),)}


def test_beyond_max_values_a_value_is_metadata_and_counted() -> None:
    chained = Chained("extract", labels={"user": "u", "s": "s"}, max_values=2)
    batch = pairs(b"u=1 s=a", b"u=2 s=a", b"u=3 s=a", b"u=1 s=a", b"u=4 s=b")
    made = chained.take(batch)
    assert [batch.labels for batch in made] == [
        (("app", "web"), ("s", "a"), ("user", "1")),
        (("app", "web"), ("s", "a"), ("user", "2")),
        (("app", "web"), ("s", "a")),
        (("app", "web"), ("s", "b")),
    ]
    assert made[2].metadata == {0: (("user", "3"),)}
    assert chained.meter.value("telemetry_agent_process_overflow_total", ("extract",)) == 2
    assert sorted(lines(made)) == sorted(batch.records())


def test_beyond_max_label_sets_all_of_them_are_metadata() -> None:
    chained = Chained("extract", labels={"a": "a", "b": "b"}, max_label_sets=1)
    one, rest = chained.take(pairs(b"a=1 b=1", b"a=1 b=2"))
    assert one.labels == (("a", "1"), ("app", "web"), ("b", "1"))
    assert rest.labels == (("app", "web"),)
    assert rest.metadata == {0: (("a", "1"), ("b", "2"))}


def test_a_value_too_long_for_a_label_is_metadata() -> None:
    (made,) = Chained("extract", labels={"a": "a"}).take(pairs(b"a=" + b"x" * 1025))
    assert made.labels == (("app", "web"),)
    assert made.metadata[0][0][0] == "a"


def test_a_start_knows_the_labels_there_were_unless_others_are_wanted() -> None:
    chained = Chained("extract", labels={"a": "a"}, max_values=1)
    chained.take(pairs(b"a=1"))
    chained.start()
    assert [batch.labels[0] for batch in chained.take(pairs(b"a=2"), pairs(b"a=1"))] == [("app", "web"), ("a", "1")]
    chained.options = ExtractOptions(labels={"b": "a"}, max_values=1)
    chained.start()
    assert chained.take(pairs(b"a=2"))[0].labels == (("app", "web"), ("b", "2"))


def test_a_state_that_cannot_be_read_is_said(caplog: pytest.LogCaptureFixture) -> None:
    chained = Chained("extract", labels={"a": "a"})
    chained.state = b"\xc1"
    chained.start()
    assert "cannot be read" in caplog.text


def test_metrics_pass() -> None:
    cycle = Metrics("host", (), (b"a",), array("d", [1.0]))
    assert Chained("extract", labels={"a": "a"}).take(cycle)[0].series == (b"a",)


@given(
    values=st.lists(st.tuples(st.sampled_from(["", "x", "y", "z"]), st.sampled_from(["", "p", "q"])), min_size=1),
    bounds=st.tuples(st.integers(1, 3), st.integers(1, 4)),
)
def test_no_record_and_no_value_is_lost_and_no_bound_is_passed(values: Any, bounds: tuple[int, int]) -> None:
    records = [b"n=%d a=%b b=%b" % (n, a.encode(), b.encode()) for n, (a, b) in enumerate(values)]
    chained = Chained("extract", labels={"a": "a", "b": "b"}, max_values=bounds[0], max_label_sets=bounds[1])
    made = chained.take(pairs(*records))
    assert sorted(lines(made)) == sorted(records)
    for batch in made:
        assert batch.count == len(batch.records())
        for place, record in enumerate(batch.records()):
            found = {**dict(batch.labels), **dict(batch.metadata.get(place, ()))}
            a, b = values[int(record.split()[0][2:])]
            assert (found.get("a", ""), found.get("b", "")) == (a, b)
    extracted = [dict(batch.labels) for batch in made]
    assert all(len({labels.get(name) for labels in extracted} - {None}) <= bounds[0] for name in "ab")
    assert len([labels for labels in extracted if labels.keys() & {"a", "b"}]) <= bounds[1]


@pytest.mark.parametrize(("options", "key"), [({}, "labels"), ({"labels": {"a-b": "c"}}, "labels.a-b")])
def test_what_cannot_be_meant_is_said_where_it_stands(options: dict[str, Any], key: str) -> None:
    assert [found for found, _ in ExtractOptions(**options).faults()] == [key]
