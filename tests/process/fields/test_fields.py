"""This file holds where a name is looked for, and that what is not there, or is no format, never raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.process.fields.json import json_columns
from agent.process.fields.reader import Reader, at_least, rows_of
from agent.wire.formats import format_of
from tests.process.making import ERROR, INFO, WARN, logs, pairs


def column(batch: Any, name: str) -> list[Any]:
    return list(Reader([name]).table(batch).column(name))


def json_logs(*records: object, **columns: Any) -> Any:
    return logs(*(json.dumps(each).encode() for each in records), format="json", **columns)


def test_metadata_comes_before_fields_and_these_before_labels() -> None:
    batch = pairs(b"app=one x=1", b"app=two", b"x=2", b"none", metadata={1: (("app", "three"),)})
    assert column(batch, "app") == ["one", "three", "web", "web"]
    assert column(batch, "x") == ["1", None, "2", None]


def test_a_dotted_name_is_that_field_or_what_lies_inside() -> None:
    batch = json_logs({"a": {"b": {"c": 1}}}, {"a.b": {"c": 2}}, {"a.b.c": 3}, {"a": 4}, {"a": [1]}, {})
    assert column(batch, "a.b.c") == [1, None, 3, None, None, None]
    assert column(batch, "a.b") == ['{"c":1}', '{"c":2}', None, None, None, None]


def test_a_value_is_text_a_number_or_nothing() -> None:
    batch = json_logs({"v": True}, {"v": None}, {"v": [1, "a"]}, {"v": 1.5}, {"v": "x"}, {"v": {"k": False}})
    assert column(batch, "v") == ["true", None, '[1,"a"]', 1.5, "x", '{"k":false}']


def test_level_is_the_name_of_the_severity_and_message_all_of_a_record_without_one() -> None:
    batch = pairs(b"level=odd message=hello", b"level=odd", b"\xff", severities=bytes([WARN, 0, ERROR + 1]))
    assert column(batch, "level") == ["warn", "odd", "error"]
    assert column(batch, "message") == ["hello", "level=odd", "�"]


def test_records_at_least_that_severe_are_told_apart() -> None:
    batch = logs(*[b"x"] * 5, severities=bytes([0, INFO, WARN, ERROR, 200]))
    assert at_least(batch, "warn") == bytes([0, 0, 1, 1, 0])
    assert at_least(logs(b"x"), "trace") == bytes(1)


def test_a_format_that_is_not_there_reads_nothing() -> None:
    batch = logs(b"a=1", format="no such")
    assert column(batch, "a") == [None]
    assert Reader(["a"]).table(batch).same_everywhere("a")


@pytest.mark.parametrize(
    "block",
    [
        b'{"a":1}{"a":2}\n\n',
        b'{"a":1} {"a":2}\n \n',
        b'{"a":\n1}\n',
        b'{"a":1}\n[]\n',
        b'{"a":1}\n{"a":\n',
        b"\n{}\n",
        b'{"a":1}\n{bad}\n',
    ],
)
def test_lines_that_are_not_one_object_each_are_read_one_by_one(block: bytes) -> None:
    batch = logs(*block.split(b"\n")[:-1], format="json")
    assert json_columns(batch, ("a",)) is None
    expected = [(format_of("json").fields(record) or {}).get("a") for record in batch.records()]
    assert column(batch, "a") == expected


def test_a_format_that_fails_loses_no_record() -> None:
    def failing(record: bytes) -> dict[str, str]:
        if record == b"bad":
            raise KeyError("bad")
        return {"a": record.decode()}

    assert rows_of(failing, [b"x", b"bad", b"y"]) == [{"a": "x"}, None, {"a": "y"}]


OBJECTS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "a.b"]), st.one_of(st.integers(-5, 5), st.text(max_size=3), st.none())),
    min_size=1,
    max_size=6,
)


@given(records=OBJECTS, ending=st.sampled_from([b"\n", b"\r\n"]))
def test_a_whole_block_of_json_reads_as_its_records_do(records: list[dict[str, Any]], ending: bytes) -> None:
    texts = [json.dumps(record).encode() + ending[:-1] for record in records]
    found = json_columns(logs(*texts, format="json"), ("a", "b"))
    assert found is not None
    assert found["a"] == [record.get("a") for record in records]
    assert found["b"] == [record.get("b") for record in records]


def test_the_message_of_json_is_what_its_format_calls_so_also_in_a_whole_block() -> None:
    records = [{"msg": "a"}, {"message": "b", "msg": "c"}, {"x": 1}, {"body": {"k": "d"}}]
    batch = json_logs(*records)
    expected = ["a", "b", '{"x": 1}', '{"k":"d"}']
    assert column(batch, "message") == expected
    assert [Reader([]).table(batch).message(place) for place in range(4)] == expected


def test_objects_that_go_over_lines_are_none_and_lend_no_value_to_their_neighbours() -> None:
    batch = logs(b'{"a":', b'{"b":1}}', b'{"a":1}{"a":2}', format="json")
    assert json_columns(batch, ("a",)) is None
    assert column(batch, "a") == [None, None, None]


def test_a_large_block_is_read_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.process.fields.json.SLICE_BYTES", 10)
    found = json_columns(json_logs(*({"a": each} for each in range(50))), ("a",))
    assert found is not None
    assert found["a"] == list(range(50))
