"""This file holds what [process.filter] takes away and keeps, by field, level and pattern."""

from __future__ import annotations

import re
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import Metrics
from agent.process.conditions.options import ConditionOptions
from agent.process.conditions.pattern import Pattern, needed
from agent.process.fields.reader import Reader
from agent.process.filter_options import FilterOptions
from tests.process.making import ERROR, INFO, WARN, Chained, lines, logs, pairs


def left(batch: Any, *when: dict[str, Any], **options: Any) -> list[bytes]:
    return lines(Chained("filter", when=list(when), **options).take(batch))


REQUESTS = (b"status=200 path=/", b"status=404 path=/a", b"status=503 path=/b", b"path=/c", b"status=x")


@pytest.mark.parametrize(
    ("condition", "indexes"),
    [
        ({"equals": 404}, [1]),
        ({"equals": "404"}, [1]),
        ({"in": [200, "x"]}, [0, 4]),
        ({"at_least": 404}, [1, 2]),
        ({"below": 404}, [0]),
        ({"at_least": 300, "below": 500}, [1]),
        ({"exists": True}, [0, 1, 2, 4]),
        ({"exists": False}, [3]),
        ({"matches": "^[45]"}, [1, 2]),
        ({"contains": "0"}, [0, 1, 2]),
        ({"equals": 404, "not": True}, [0, 2, 3, 4]),
    ],
)
def test_records_are_told_apart_by_a_field(condition: dict[str, Any], indexes: list[int]) -> None:
    condition = {"field": "status", **condition}
    assert left(pairs(*REQUESTS), condition, action="keep") == [REQUESTS[index] for index in indexes]
    assert left(pairs(*REQUESTS), condition) == [
        record for index, record in enumerate(REQUESTS) if index not in indexes
    ]


def test_all_conditions_or_any_of_them() -> None:
    when = ({"field": "status", "at_least": 400}, {"field": "path", "in": ["/a", "/c"]})
    assert left(pairs(*REQUESTS), *when) == [REQUESTS[0], *REQUESTS[2:]]
    assert left(pairs(*REQUESTS), *when, match="any") == [REQUESTS[0], REQUESTS[4]]


def test_levels_are_compared_by_rank_and_a_record_without_one_has_none() -> None:
    batch = logs(b"a", b"b", b"c", b"d", severities=bytes([INFO, WARN, ERROR, 0]))
    assert left(batch, {"field": "level", "at_least": "warn"}) == [b"a", b"d"]
    assert left(batch, {"field": "level", "below": "warn"}) == [b"b", b"c", b"d"]
    assert left(batch, {"field": "level", "in": ["info", "error"]}) == [b"b", b"d"]


def test_a_label_of_the_batch_is_a_field_like_others() -> None:
    assert left(logs(b"a", b"b"), {"field": "app", "equals": "web"}) == []
    assert left(logs(b"a", b"b"), {"field": "app", "equals": "db"}) == [b"a", b"b"]
    assert left(logs(b"a", b"b"), {"field": "other", "exists": True}) == [b"a", b"b"]


def test_a_whole_record_is_searched_where_no_field_is_named() -> None:
    batch = logs(b"GET /health 200", b"GET / 200", b"POST /health 500")
    assert left(batch, {"matches": r"^GET /health\b"}) == [b"GET / 200", b"POST /health 500"]
    assert left(batch, {"contains": "POST"}) == [b"GET /health 200", b"GET / 200"]
    assert left(batch, {"contains": "DELETE"}, {"matches": "x{1000}"}, match="any") == batch.records()


def test_a_batch_of_which_nothing_goes_is_the_same_object_and_what_goes_is_counted() -> None:
    from agent.clock import Time
    from agent.process.filter import Filter

    batch = logs(b"a", b"b")
    when = (ConditionOptions(contains="zzz"),)
    assert next(iter(Filter(FilterOptions(when=when)).process(batch, Time(0, 0)))) is batch
    chained = Chained("filter", when=[{"contains": "a"}])
    assert lines(chained.take(batch)) == [b"b"]
    assert chained.dropped == 1


def test_a_text_that_is_in_many_records_is_looked_for_in_each() -> None:
    records = [b"GET /%d abc" % place if place % 3 else b"POST" for place in range(300)]
    for expression in ("^GET /[0-9]*5 abc", "(?i)^get /[0-9]*5 ABC", "^(?:GET|PUT) /[0-9]*5 "):
        made = left(logs(*records), {"matches": expression}, action="keep")
        assert made == [record for record in records if b"5 abc" in record]


def test_columns_stay_with_their_records_and_metrics_pass() -> None:
    batch = logs(*(b"0", b"1", b"2"), times_ns=array("q", [5, 6, 7]), severities=b"abc", metadata={2: (("k", "v"),)})
    (made,) = Chained("filter", when=[{"contains": "1"}]).take(batch)
    assert (made.records(), made.times_ns, made.severities) == ([b"0", b"2"], array("q", [5, 7]), b"ac")
    assert made.metadata == {1: (("k", "v"),)}
    cycle = Metrics("host", (), (b"a",), array("d", [1.0]))
    assert Chained("filter", when=[{"contains": "a"}]).take(cycle)[0].series == (b"a",)


@pytest.mark.parametrize(
    ("when", "key", "words"),
    [
        ([], "when", "at least one condition"),
        ([{"field": "a"}], "when[0]", "says nothing of the field"),
        ([{"equals": 1}], "when[0]", "which field"),
        ([{"matches": "("}], "when[0].matches", "regular expression"),
        ([{"field": "a", "at_least": "warn"}], "when[0].at_least", "level"),
    ],
)
def test_what_cannot_be_meant_is_said_where_it_stands(when: list[dict[str, Any]], key: str, words: str) -> None:
    ((found, message),) = msgspec.convert({"when": when}, FilterOptions).faults()
    assert found == key
    assert words in message


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        (b"GET /health", {b"GET /health"}),
        (b"(foo|bar)+x", {b"foo", b"bar"}),
        (b"x?(?:abcd)*", None),
        (b"a|bcd", None),
        (b"foo(?i:barbar)", {b"foo"}),
        (b"(?=abcdef)...", None),
        (b"^(?:connection|socket) timed out", {b" timed out"}),
    ],
)
def test_what_every_match_contains_is_read_from_the_expression(expression: bytes, texts: set[bytes] | None) -> None:
    found = needed(expression)
    assert (None if found is None else set(found.texts)) == texts


EXPRESSIONS = st.sampled_from(
    ["abc", "^abc", "abc$", "(?i)ABC", "abc|bca", "a(bc|cb)c", "a.c", "(abc){2}", "abc\\b", "[ab]bca", "abcabc+"]
)


@given(
    expression=EXPRESSIONS,
    records=st.lists(st.text("abcA ", max_size=12).map(str.encode), min_size=1, max_size=40),
    separator=st.sampled_from([b"\n", b"\0", b"--"]),
)
def test_a_pattern_finds_what_it_finds_in_each_record_alone(
    expression: str, records: list[bytes], separator: bytes
) -> None:
    table = Reader([]).table(logs(*records, separator=separator))
    expected = bytes(re.search(expression.encode(), record) is not None for record in records)
    assert Pattern(expression).mask(table) == expected
