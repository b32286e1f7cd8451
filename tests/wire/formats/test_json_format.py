"""Time and level of JSON objects are found whatever they are called; what is no object harms no other."""

from __future__ import annotations

import json
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.wire.format import Columns, Moment
from agent.wire.formats import format_of
from agent.wire.severity import level_of

JSON = format_of("json")
T = 1_795_192_801_123_000_000
MOMENT = Moment(T, UTC)


def batch(records: list[bytes], separator: bytes = b"\n") -> Logs:
    return Logs("file", (), b"".join(record + separator for record in records), len(records), separator)


def columns(*records: bytes | str, separator: bytes = b"\n") -> Columns:
    made = [record.encode() if isinstance(record, str) else record for record in records]
    return JSON.columns(batch(made, separator), MOMENT)


def read(*records: bytes | str) -> list[tuple[int, str]]:
    got = columns(*records)
    assert got.times_ns is not None
    assert got.severities is not None
    return list(zip(got.times_ns, map(level_of, got.severities), strict=True))


@pytest.mark.parametrize(
    "record",
    [
        '{"time":"2026-11-20T16:40:01.123Z","level":"ERROR","msg":"slog"}',
        '{"level":"error","ts":1795192801.123,"msg":"zap"}',
        '{"level":"error","time":1795192801123,"message":"zerolog"}',
        '{"level":50,"time":1795192801123,"pid":1,"msg":"pino"}',
        '{"@timestamp":"2026-11-20T16:40:01.123Z","log.level":"ERROR","message":"ecs"}',
        '{"@timestamp":"2026-11-20T16:40:01.123Z","log":{"level":"ERROR","logger":"a"},"message":"ecs"}',
        '{"@timestamp":"2026-11-20T16:40:01.123Z","log":{"level":"debug"},"log.level":"ERROR","message":"both"}',
        '{"asctime":"2026-11-20 16:40:01,123","levelname":"ERROR","message":"python"}',
        '{"@t":"2026-11-20T16:40:01.1230000Z","@l":"Error","@mt":"serilog"}',
        '{"version":"1.1","host":"a","short_message":"gelf","timestamp":1795192801.123,"level":3}',
        '{"timeUnixNano":"1795192801123000000","severityNumber":17,"body":{"stringValue":"otlp"}}',
        '{"severity":"ERROR","timestamp":"2026-11-20T17:40:01.123+01:00","msg":"google"}',
        '{"t":{"$date":"2026-11-20T16:40:01.123+00:00"},"s":"E","c":"NETWORK","msg":"mongodb"}',
        ' {"time" : "2026-11-20T16:40:01.123Z", "nested":{"time":1,"level":"info"}, "level" : "error" } ',
    ],
)
def test_time_and_level_are_found_whatever_they_are_called(record: str) -> None:
    assert read(record) == [(T, "error")]
    assert read(*[record] * 3) == [(T, "error")] * 3
    assert columns(record).unparsed == 0


def test_of_several_times_the_first_in_rank_counts() -> None:
    assert read('{"date":5,"level":"info","severity":"error","time":1795192801123}') == [(T, "info")]


def test_records_that_call_them_otherwise_are_read_too() -> None:
    first = '{"time":1795192801123,"level":"info"}'
    other = '{"ts":1795192801.123,"severity":"ERROR"}'
    assert read(*[first] * 40, other, *[first] * 40) == [(T, "info")] * 40 + [(T, "error")] + [(T, "info")] * 40


def test_what_few_records_say_is_found() -> None:
    rare = '{"time":1795192801123,"level":"error"}'
    assert read(*['{"a":1}'] * 500, rare, *['{"a":1}'] * 500)[500] == (T, "error")
    assert read(*['{"ts":1795192801123}'] * 500, rare, *['{"a":1}'] * 500)[499:501] == [(T, ""), (T, "error")]


def test_a_member_log_that_holds_something_else_says_no_level() -> None:
    for value in ('"error"', '{"file":"a"}', '["error"]', "17", "null", '{"level":{"a":1}}'):
        record = f'{{"time":1795192801123,"log":{value}}}'
        assert read(*[record] * 3) == [(T, "")] * 3
    flat, nested = '{"time":1795192801123,"level":"info"}', '{"time":1795192801123,"log":{"level":"error"}}'
    assert read(*[flat] * 40, nested, *[flat] * 40)[39:42] == [(T, "info"), (T, "error"), (T, "info")]
    assert read(*['{"ts":1795192801123}'] * 500, nested, *['{"a":1}'] * 500)[500] == (T, "error")


def test_times_of_several_kinds_in_one_block_are_each_read() -> None:
    assert (
        read(
            '{"time":1795192801123}',
            '{"time":"2026-11-20T16:40:01.123Z"}',
            '{"time":"1795192801.123"}',
            '{"time":1795192801.123}',
            '{"time":null}',
            '{"time":true}',
            '{"time":{}}',
            '{"time":[1]}',
            '{"time":"yesterday"}',
            '{"time":1e400}',
            '{"time":123456789012345678901234567890}',
        )
        == [(T, "")] * 4 + [(0, "")] * 7
    )


def test_a_time_that_is_none_spoils_no_time_that_is_written_otherwise() -> None:
    bad, other = '{"time":"2026-13-41T00:00:00Z"}', '{"time":"20/Nov/2026:16:40:01 +0000"}'
    assert read(bad, other, bad, other) == [(0, ""), (T - 123_000_000, "")] * 2


def test_what_is_no_object_is_counted_and_harms_no_other() -> None:
    good = '{"time":1795192801123,"level":"warn"}'
    bad: list[bytes | str] = ["plain", "", "[1]", "{", '{"time":1', "42", b'{"a":"\xff"}', '"x"', good + good, "{}x"]
    assert read(*[part for each in bad for part in (good, each)])[::2] == [(T, "warn")] * len(bad)
    got = columns(good, *bad, good)
    assert got.unparsed == len(bad) - (b'{"a":"\xff"}' in bad)
    assert columns("", " ").unparsed == 2


def test_objects_of_several_lines_are_read() -> None:
    pretty = json.dumps({"time": 1795192801123, "level": "warn", "msg": "x"}, indent=2)
    got = columns(pretty, pretty, separator=b"\x1e")
    assert (got.unparsed, got.times_ns.tolist() if got.times_ns else None) == (0, [T, T])


def test_fields_are_its_members_and_the_message_under_its_own_name() -> None:
    assert JSON.fields(b'{"msg":"a","n":1,"o":{"p":[true,null]}}') == {
        "msg": "a",
        "n": 1,
        "o": {"p": [True, None]},
        "message": "a",
    }
    assert JSON.fields(b'{"message":"a","msg":"b"}') == {"message": "a", "msg": "b"}
    assert JSON.fields(b'{"n":1}') == {"n": 1}
    assert [JSON.fields(record) for record in (b"", b"x", b"[1]", b"{", b"\xff", b"1")] == [None] * 6
    assert JSON.fields(b'{"a":' * 5000 + b"1" + b"}" * 5000) is None


def test_it_is_told_by_an_object() -> None:
    assert JSON.matches(b'{"a":1}')
    assert not any(map(JSON.matches, (b"{}", b"{a}", b"[1]", b'x{"a":1}', b"")))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(st.sampled_from(["time", "ts", "level", "severity", "levelno", "msg", "a"]), VALUES)


@given(st.lists(st.binary(max_size=20) | OBJECTS.map(lambda made: json.dumps(made).encode()), max_size=10))
@settings(max_examples=150, deadline=None)
def test_no_record_at_all_raises(records: list[bytes]) -> None:
    made = batch([record.replace(b"\n", b" ") for record in records])
    got = JSON.columns(made, MOMENT)
    assert got.times_ns is not None
    assert got.severities is not None
    assert len(got.times_ns) == len(got.severities) == made.count
    for record in records:
        JSON.fields(record)
        JSON.matches(record)
