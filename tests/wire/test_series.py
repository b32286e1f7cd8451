"""A series as text, and a table of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.series import Metric, Table, parse, series, single

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


def test_labels_are_sorted_escaped_and_left_out_where_empty() -> None:
    assert series("up") == b"up"
    assert series("up", {"b": 'q"\\\n', "a": "ü", "c": ""}.items()) == 'up{a="ü",b="q\\"\\\\\\n"}'.encode()


def test_what_cannot_be_text_is_spelt_out() -> None:
    assert series("up", [("a", "\udcff")]) == rb'up{a="\\udcff"}'


@given(NAMES, st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=4))
def test_a_series_reads_back_as_what_was_written(name: str, labels: dict[str, str]) -> None:
    assert parse(series(name, labels.items())) == (name, tuple(sorted(labels.items())))


def test_a_table_gives_a_family_for_each_metric_that_a_row_has() -> None:
    table = Table(("device",), Metric("reads_total", "counter", "Reads."), Metric("age", "gauge", "Age."))
    reads, age = table.families({("a",): (1.0, None), ("b",): (2.0, 3.0)})
    assert reads == (
        "reads_total",
        "counter",
        "Reads.",
        (b'reads_total{device="a"}', b'reads_total{device="b"}'),
        (1.0, 2.0),
    )
    assert age == ("age", "gauge", "Age.", (b'age{device="b"}',), (3.0,))
    assert table.families({}) == []


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Table(("device",), Metric("reads", "gauge", "Reads.")).families({("a",): (1.0, 2.0)})


def test_a_single_value_is_a_family_of_its_own() -> None:
    assert single("up", "gauge", "Up.", 1.0) == ("up", "gauge", "Up.", (b"up",), (1.0,))


def test_text_that_is_no_series_is_passed_over_in_linear_time() -> None:
    text = b"a{" + b'b="' * 20_000 + b"x" * 200_000
    name, labels = parse(text)
    assert name == "a"
    assert len(labels) < 20_000
