"""This file holds what [process.drop] takes away, and that everything else stays as it is, columns included."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Batch, Logs, Metrics
from agent.clock import Time
from agent.process.drop import Dropper
from agent.process.drop_options import COMPONENT, DropOptions
from tests.fakes import context

NOW = Time(0, 0.0)


def logs(*records: bytes, separator: bytes = b"\n", **columns: Any) -> Logs:
    block = b"".join(record + separator for record in records)
    values = {"source": "file", "labels": (("app", "web"),), "block": block, "count": len(records)}
    return Logs(**(values | {"separator": separator} | columns))


def metrics(*series: bytes) -> Metrics:
    return Metrics(source="host", labels=(), series=series, values=array("d", range(len(series))))


def dropped(batch: Batch, **options: Any) -> list[Batch]:
    return list(Dropper(DropOptions(**options)).process(batch, NOW))


def test_records_that_contain_a_text_are_dropped() -> None:
    (left,) = dropped(logs(b"GET /health 200", b"GET / 200", b"/HEALTH"), contains=("/health", "nothing"))
    assert left.records() == [b"GET / 200", b"/HEALTH"]


def test_a_text_is_matched_in_its_case_and_byte_for_byte() -> None:
    (left,) = dropped(logs(b"DEBUG a.c", b"debug x", b"abc", "grün".encode()), contains=("debug", "a.c", "grün"))
    assert left.records() == [b"abc"]


def test_records_that_match_a_regex_are_dropped_and_anchors_mean_one_record() -> None:
    (left,) = dropped(logs(b"a 1", b"b 1", b"a 2", b"1"), regex=r"^a.*\d$|^1\Z")
    assert left.records() == [b"b 1"]


def test_with_texts_and_a_regex_either_drops() -> None:
    (left,) = dropped(logs(b"a", b"b", b"c"), contains=("a",), regex="b")
    assert left.records() == [b"c"]


def test_a_batch_in_which_nothing_matches_is_the_same_object() -> None:
    batch = logs(b"a", b"b")
    assert dropped(batch, contains=("x",))[0] is batch
    assert dropped(batch, contains=("a\n",), regex="x")[0] is batch


def test_a_batch_of_which_nothing_is_left_is_not_returned() -> None:
    assert dropped(logs(b"ax", b"bx"), contains=("x",)) == []


def test_columns_follow_their_records() -> None:
    batch = logs(
        b"a", b"x", b"b", b"x", b"c",
        times_ns=array("q", [1, 2, 3, 4, 5]), severities=bytes([1, 2, 3, 4, 5]),
        metadata={0: (("k", "a"),), 1: (("k", "x"),), 4: (("k", "c"),)},
    )  # fmt: skip
    (left,) = dropped(batch, contains=("x",))
    assert left == batch.select([0, 2, 4])
    (left,) = dropped(logs(b"a", b"x", b"b", first_time_ns=100), contains=("x",))
    assert left == logs(b"a", b"x", b"b", first_time_ns=100).select([0, 2])


def test_records_may_hold_line_ends_when_something_else_separates_them() -> None:
    (left,) = dropped(logs(b"a\nx", b"b\nc", separator=b"\0"), contains=("x",))
    assert left.records() == [b"b\nc"]


def test_labels_alone_drop_whole_batches_of_any_signal() -> None:
    batch = logs(b"a")
    assert dropped(batch, labels={"app": "w.b"}) == []
    assert dropped(batch, labels={"app": "w"}) == [batch]
    assert dropped(batch, labels={"app": "web", "unit": "x"}) == [batch]
    assert dropped(batch, labels={"app": "web", "unit": ""}) == []
    assert dropped(metrics(b"up"), labels={"app": ""}) == []


def test_labels_beside_other_options_say_where_these_apply() -> None:
    batch = logs(b"a", b"b")
    assert dropped(batch, labels={"app": "db"}, contains=("a",)) == [batch]
    (left,) = dropped(batch, labels={"app": "web"}, contains=("a",))
    assert left.records() == [b"b"]


def test_series_are_dropped_by_their_whole_name() -> None:
    batch = metrics(b'go_gc{a="1"}', b"up", b"go_gc", b"xgo_gc", b'up{name="go_gc"}')
    (left,) = dropped(batch, metrics=("(?i)GO_.*", "other"))
    assert left.series == (b"up", b"xgo_gc", b'up{name="go_gc"}')
    assert list(left.values) == [1.0, 3.0, 4.0]
    assert dropped(batch, metrics=("go",))[0] is batch
    assert dropped(batch, metrics=(".*",)) == []


def test_what_is_said_of_records_leaves_series_alone_and_the_other_way_round() -> None:
    series, lines = metrics(b"up"), logs(b"up")
    assert dropped(series, contains=("up",), regex="up")[0] is series
    assert dropped(lines, metrics=("up",))[0] is lines


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(st.text("abx ", max_size=6).map(str.encode), min_size=1, max_size=600),
    text=st.text("abx ", min_size=1, max_size=2),
)
def test_exactly_the_matching_records_go(records: list[bytes], text: str) -> None:
    left = dropped(logs(*records), contains=(text,), regex="^$")
    wanted = [record for record in records if record and text.encode() not in record]
    assert [record for batch in left for record in batch.records()] == wanted


def calls_of(dropper: Dropper, batch: Logs) -> int:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        list(dropper.process(batch, NOW))
    finally:
        sys.setprofile(None)
    return calls


def test_a_block_without_the_texts_costs_the_same_calls_however_many_lines_it_has() -> None:
    dropper = Dropper(DropOptions(contains=("nowhere",)))
    calls_of(dropper, logs(b"the first compiles"))
    assert calls_of(dropper, logs(*[b"line"] * 10)) == calls_of(dropper, logs(*[b"line"] * 20_000))


def test_no_python_runs_for_a_single_record() -> None:
    dropper = Dropper(DropOptions(contains=("even",), regex="0$"))
    lines = [b"even 0" if number % 2 else b"odd 1" for number in range(20_000)]
    assert calls_of(dropper, logs(*lines)) < len(lines) / 10


def test_faults_name_the_key_and_say_what_is_wrong() -> None:
    assert list(DropOptions().faults()) == [
        ("contains", "nothing says what to drop: give contains, regex, metrics or labels")
    ]
    options = DropOptions(regex="(", metrics=("ok", "["), labels={"app": "*"})
    assert [key for key, _ in options.faults()] == ["metrics[1]", "labels.app", "regex"]
    assert list(DropOptions(contains=("(",)).faults()) == []


async def test_it_opens_and_closes_and_holds_nothing(tmp_path: Path) -> None:
    async with COMPONENT.open(DropOptions(contains=("x",)), context(tmp_path)) as dropper:
        assert dropper.held() is None
        assert list(dropper.due(NOW)) == []


@pytest.mark.parametrize("options", [{"contains": ("a",)}, {"regex": "a"}, {"metrics": ("a",)}, {"labels": {"a": "b"}}])
def test_any_one_option_is_enough(options: dict[str, Any]) -> None:
    assert list(DropOptions(**options).faults()) == []
