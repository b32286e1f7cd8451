"""What ``parse`` makes of lines: records, each with a time of its own, none lost whatever the lines are."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Labels, Logs, Origin
from agent.clock import Time
from agent.collect.parse import UNPARSED, Parser, Stream
from agent.collect.parse_options import ParseOptions
from agent.collect.zones import zone_of
from agent.host import Host
from agent.wire.formats import FORMATS, format_of
from agent.wire.lines import UNCOUNTED
from agent.wire.severity import level_of
from tests.fakes import context

NOW = Time(1_795_194_000_000_000_000, 1.0)
T = 1_795_192_801_000_000_000
S = 1_000_000_000


def options(**values: Any) -> ParseOptions:
    return msgspec.convert({"timezone": "UTC"} | values, ParseOptions)


def parser(tmp_path: Path, **values: Any) -> Parser:
    return Parser(options(**values), context(tmp_path, "file.app"))


def logs(block: bytes, start: int = 0, labels: Labels = (), **values: Any) -> Logs:
    origin = Origin("f", start, start + len(block))
    return Logs("file.app", labels, block, block.count(b"\n"), origin=origin, **values)


def times(batch: Logs) -> list[int]:
    assert batch.times_ns is not None
    return batch.times_ns.tolist()


def levels(batch: Logs) -> list[str]:
    return list(map(level_of, batch.severities or b""))


def test_lines_that_nobody_wants_parsed_pass_as_the_object_they_are(tmp_path: Path) -> None:
    made = parser(tmp_path)
    assert made.stream() is made.stream()
    batch = logs(b"a\n b\n")
    assert made.stream().read(batch, NOW) is batch
    assert made.stream().cut(b"a\n b\n", 0, 5) == 5
    assert made.stream().decided == "none"


def test_records_get_the_time_and_level_they_say_and_the_name_of_their_format(tmp_path: Path) -> None:
    made = parser(tmp_path, parse="json")
    batch = made.stream().read(logs(b'{"ts":1795192801,"level":"warn"}\n{"ts":1795192802,"level":"info"}\n'), NOW)
    assert (times(batch), levels(batch), batch.format) == ([T, T + S], ["warn", "info"], "json")
    assert batch.separator == b"\n"
    assert made.context.meter.numbers(UNPARSED) == {}


@pytest.mark.parametrize("parse", ["auto", "json", "java", "postgres", "none"])
def test_lines_that_nobody_counted_are_counted_where_they_are_read(tmp_path: Path, parse: str) -> None:
    made = parser(tmp_path, parse=parse, multiline={"start": "^2026"} if parse == "none" else None)
    block = b"2026-11-20 16:40:01.123 INFO one\n2026-11-20 16:40:02.123 UTC [1] LOG:  two\n"
    stream = made.stream()
    assert stream.counts
    batch = stream.read(replace(logs(block), count=UNCOUNTED), NOW)
    assert batch.count == len(batch.records()) == 2
    assert not parser(tmp_path).stream().counts


def test_what_is_not_of_the_format_goes_on_and_is_counted(tmp_path: Path) -> None:
    made = parser(tmp_path, parse="json")
    batch = made.stream().read(logs(b'plain\n{"ts":1795192801}\nplain\n'), NOW)
    assert batch.records() == [b"plain", b'{"ts":1795192801}', b"plain"]
    assert times(batch) == [T, T + 1, T + 2]
    assert made.context.meter.numbers(UNPARSED) == {("file.app", "json"): 2}


def test_a_block_that_says_no_time_at_all_gets_it_where_it_is_taken_in(tmp_path: Path) -> None:
    assert parser(tmp_path, parse="json").stream().read(logs(b"plain\n"), NOW).times_ns is None


def test_equal_times_go_on_over_blocks_streams_and_files_of_the_same_labels(tmp_path: Path) -> None:
    made, line = parser(tmp_path, parse="json"), b'{"ts":1795192801}\n'
    stream = made.stream()
    assert times(stream.read(logs(line * 2), NOW)) == [T, T + 1]
    assert times(stream.read(logs(line, 2 * len(line)), NOW)) == [T + 2]
    assert times(made.stream().read(logs(line), NOW)) == [T + 3]
    assert times(made.stream().read(logs(line, labels=(("filename", "b"),)), NOW)) == [T]


def test_after_a_restart_and_read_again_records_do_not_meet_those_before(tmp_path: Path) -> None:
    line = b'{"ts":1795192801}\n'
    before = times(parser(tmp_path, parse="json").stream().read(logs(line * 3), NOW))
    after = times(parser(tmp_path, parse="json").stream().read(logs(line * 3, 3 * len(line)), NOW))
    again = times(parser(tmp_path, parse="json").stream().read(logs(line * 3, 3 * len(line)), NOW))
    assert after == again
    assert not set(before) & set(after)
    assert all(T <= each < T + 1_000_000 for each in after)


def test_stack_traces_are_one_record(tmp_path: Path) -> None:
    made = parser(tmp_path, parse="java")
    stream = made.stream()
    first = b"2026-11-20 16:40:01.000 [main] ERROR a.B - no\njava.lang.E: no\n\tat a.B.c(B.java:1)\n"
    second = b"2026-11-20 16:40:02.000 [main] INFO  a.B - yes\n"
    data = first + second
    assert stream.cut(data, 0, len(data)) == len(first)
    assert stream.cut(b"xx" + data, 2, 2 + len(first)) == 2
    batch = stream.read(logs(data), NOW)
    assert [record + b"\n" for record in batch.records()] == [first, second]
    assert (times(batch), levels(batch), batch.count) == ([T, T + S], ["error", "info"], 2)
    assert batch.separator not in data


def test_a_record_that_is_too_long_is_not_waited_for(tmp_path: Path) -> None:
    stream = parser(tmp_path, parse="java", max_record_bytes=1024).stream()
    data = b"2026-11-20 16:40:01.000 [main] ERROR a.B - no\n" + b"\tat a.B.c(B.java:1)\n" * 100
    assert stream.cut(data, 0, len(data)) == len(data)
    batch = stream.read(logs(data), NOW)
    assert max(map(len, batch.records())) <= 1024
    assert b"".join(record + b"\n" for record in batch.records()) == data


def test_the_operators_own_expressions_say_where_records_begin_and_end(tmp_path: Path) -> None:
    stream = parser(tmp_path, multiline={"start": "^BEGIN", "end": "^END"}).stream()
    data = b"BEGIN 1\nx\nEND\nloose\nBEGIN 2\ny\n"
    assert data[stream.cut(data, 0, len(data)) :] == b"BEGIN 2\ny\n"
    batch = stream.read(logs(data), NOW)
    assert batch.records() == [b"BEGIN 1\nx\nEND", b"loose", b"BEGIN 2\ny"]
    assert (batch.times_ns, batch.format, stream.decided) == (None, "", "none")


def test_a_format_of_the_operators_own_is_parsed_and_its_name_finds_it(tmp_path: Path) -> None:
    made = parser(tmp_path, parse={"regex": r"(?P<time>\d+) (?P<level>\w+) (?P<message>.*)"})
    batch = made.stream().read(logs(b"1795192801 ERROR no\nelse\n"), NOW)
    assert (times(batch), levels(batch)) == ([T, T + 1], ["error", ""])
    assert format_of(batch.format).fields(b"1 INFO x") == {"time": "1", "level": "INFO", "message": "x"}
    assert made.stream().decided == "regex"
    assert made.context.meter.numbers(UNPARSED) == {("file.app", "regex"): 1}


def test_what_was_said_of_lines_is_said_of_the_records_they_went_into(tmp_path: Path) -> None:
    stream = parser(tmp_path, multiline={"start": r"^\d"}).stream()
    batch = stream.read(logs(b"1\n a\n2\n3\n b\n", metadata={1: (("cut", "9"),), 4: (("cut", "7"),)}), NOW)
    assert batch.metadata == {0: (("cut", "9"),), 2: (("cut", "7"),)}


def test_a_batch_of_nothing_stays_as_it_is(tmp_path: Path) -> None:
    nothing = logs(b"")
    assert parser(tmp_path, parse="auto").stream().read(nothing, NOW) is nothing


def test_a_fault_in_a_format_stops_nobody_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(type(format_of("json")), "columns", fail)
    made = parser(tmp_path, parse="json")
    for _ in range(3):
        assert made.stream().read(logs(b"a\nb\n"), NOW).records() == [b"a", b"b"]
    assert [record.getMessage() for record in caplog.records] == [
        "a fault of the agent in reading json; records go on unparsed"
    ]
    assert made.context.meter.numbers(UNPARSED) == {("file.app", "json"): 6}


def test_a_fault_in_reading_at_once_leaves_lines_to_be_joined_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise IndexError

    monkeypatch.setattr(type(format_of("java")), "joined", fail)
    batch = parser(tmp_path, parse="java").stream().read(logs(b"2026-11-20 16:40:01 INFO a\n\tb\n"), NOW)
    assert batch.records() == [b"2026-11-20 16:40:01 INFO a\n\tb"]
    assert (times(batch), levels(batch)) == ([T], ["info"])
    assert len(caplog.messages) == 1


# auto


def lines(stream: Stream, block: bytes, times_: int = 1) -> Logs:
    batch = logs(block)
    for _ in range(times_):
        stream.cut(block, 0, len(block))
        batch = stream.read(logs(block), NOW)
    return batch


def test_auto_decides_by_the_first_lines_and_says_what(tmp_path: Path) -> None:
    stream = parser(tmp_path, parse="auto").stream()
    assert stream.decided == "undecided"
    batch = lines(stream, b'{"ts":1795192801,"level":"warn"}\n')
    assert (stream.decided, batch.format, levels(batch)) == ("json", "json", ["warn"])


def test_auto_joins_what_it_sees_in_the_very_first_block(tmp_path: Path) -> None:
    stream = parser(tmp_path, parse="auto").stream()
    data = b"2026-11-20 16:40:01.000 [main] ERROR a.B - no\njava.lang.E: no\n\tat a.B.c(B.java:1)\n"
    assert stream.cut(data, 0, len(data)) == 0
    assert stream.read(logs(data), NOW).count == 1
    assert stream.decided == "java"


@pytest.mark.parametrize(
    "trace",
    [
        b"java.lang.RuntimeException: no\n\tat com.a.B.c(B.java:1)\nCaused by: java.io.IOException: x\n\t... 2 more\n",
        b'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n    1/0\nZeroDivisionError: no\n',
        b"TypeError: x is not a function\n    at Object.<anonymous> (/srv/a.js:3:3)\n",
    ],
)
def test_auto_keeps_a_trace_whole_between_lines_of_no_format(tmp_path: Path, trace: bytes) -> None:
    made = parser(tmp_path, parse="auto").stream()
    block = (b"order accepted\n" * 10 + trace) * 20
    assert made.cut(block, 0, len(block)) == len(block) - len(b"order accepted\n" + trace)
    batch = made.read(logs(block), NOW)
    assert made.decided == "none"
    assert batch.records()[8:11] == [b"order accepted", b"order accepted\n" + trace[:-1], b"order accepted"]
    assert batch.count == 200


def test_auto_says_none_when_enough_lines_are_of_no_format_and_looks_again_later(tmp_path: Path) -> None:
    stream = parser(tmp_path, parse="auto").stream()
    batch = lines(stream, b"hello\n" * 20)
    assert (stream.decided, batch.format, batch.times_ns) == ("undecided", "", None)
    lines(stream, b"hello\n" * 20, 4)
    assert stream.decided == "none"
    lines(stream, b'{"ts":1795192801}\n' * 200, 10)
    assert stream.decided == "none"
    lines(stream, b'{"ts":1795192801}\n' * 2000, 6)
    assert stream.decided == "json"


def test_auto_reconsiders_a_decision_that_nearly_everything_contradicts(tmp_path: Path) -> None:
    stream = parser(tmp_path, parse="auto").stream()
    lines(stream, b'{"ts":1795192801}\n' * 120)
    assert stream.decided == "json"
    lines(stream, b"ts=1795192801 level=info\n" * 120, 2)
    lines(stream, b"ts=1795192801 level=info\n" * 120)
    assert stream.decided == "logfmt"


def test_auto_keeps_a_decision_while_some_of_it_is_right(tmp_path: Path) -> None:
    stream = parser(tmp_path, parse="auto").stream()
    lines(stream, b'{"ts":1795192801}\n' * 120)
    lines(stream, (b"what\n" * 5 + b'{"ts":1795192801}\n') * 50, 5)
    assert stream.decided == "json"


# Any lines


PIECES = (
    *(b'{"time":"2026-11-20T16:40:01.5Z","level":"info"}', b"ts=1795192801 level=warn", b"\tat a.b(C)", b"", b"}"),
    *(b"2026-11-20 16:40:01,123 ERROR x", b"Caused by: y", b"Traceback (most recent call last):", b"hello\x1e"),
    *(b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET / HTTP/1.1" 200 612 "-" "curl"', b"<13>Nov 20 16:40:01 h a: b"),
    *(b'{"log":"a\\n","stream":"stdout","time":"9999-12-31T23:59:59Z"}', b"9999-01-01T00:00:00Z stdout F a"),
    *(b"2026/11/20 16:40:01 go", b"I1120 16:40:01.123456 1 a.go:1] b", b"\xff\xfe\x00", b"goroutine 1 [running]:"),
)


@pytest.mark.parametrize("name", ["auto", *FORMATS])
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=25), st.integers(0, 1 << 33))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_lines_are_no_byte_is_lost_and_no_time_is_shared(
    tmp_path: Path, name: str, texts: list[bytes], start: int
) -> None:
    block = b"".join(text.replace(b"\n", b" ") + b"\n" for text in texts)
    stream = parser(tmp_path, parse=name).stream()
    at = stream.cut(block, 0, len(block))
    assert at == len(block) or at == 0 or block[at - 1 : at] == b"\n"
    for part, begin in ((block[:at], start), (block[at:], start + at)):
        batch = stream.read(logs(part, begin), NOW)
        assert b"".join(record + b"\n" for record in batch.records()) == part
        assert len(batch.records()) == batch.count
        assert batch.severities is None or len(batch.severities) == batch.count
        assert batch.metadata == {}
        if batch.times_ns is not None:
            assert isinstance(batch.times_ns, array)
            assert len(set(batch.times_ns)) == batch.count
            assert 0 not in batch.times_ns


# Options


def test_every_name_that_may_be_asked_for_is_there(tmp_path: Path) -> None:
    for name in FORMATS:
        assert parser(tmp_path, parse=name).stream().decided == name
        assert format_of(name).name == name


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ({"multiline": {}}, "multiline", "give start or end"),
        ({"multiline": {"start": "("}}, "multiline.start", "is not a regular expression: missing )"),
        ({"multiline": {"end": "["}}, "multiline.end", "is not a regular expression"),
        ({"parse": {"regex": "("}}, "parse.regex", "is not a regular expression"),
        ({"parse": {"regex": "abc"}}, "parse.regex", "has no named group"),
        ({"timezone": "Europe/Berln"}, "timezone", "is not a zone that this machine knows"),
        ({"timezone": "../etc"}, "timezone", "is not a zone that this machine knows"),
    ],
)
def test_what_is_wrong_is_said_of_the_key_it_is_in(values: dict[str, Any], key: str, message: str) -> None:
    ((found, said), *others) = options(**values).faults()
    assert (found, others) == (key, [])
    assert message in said


def test_what_is_right_has_no_faults() -> None:
    right = options(parse={"regex": "(?P<a>x)"}, multiline={"start": "^x", "end": "y$"}, timezone="Europe/Berlin")
    assert list(right.faults()) == []


def test_times_without_a_zone_are_of_the_one_asked_for_or_of_the_machine(tmp_path: Path) -> None:
    line = b'{"ts":"2026-11-20 17:40:01"}\n'
    assert times(parser(tmp_path, parse="json", timezone="Europe/Berlin").stream().read(logs(line), NOW)) == [T]
    there = Host(state_dir=tmp_path, run_dir=tmp_path, root=tmp_path, environ={"TZ": ":Europe/Berlin"})
    assert zone_of(None, there) == ZoneInfo("Europe/Berlin")
    assert zone_of("UTC", there) == ZoneInfo("UTC")
    nowhere = Host(state_dir=tmp_path, run_dir=tmp_path, root=tmp_path, environ={"TZ": "nowhere"})
    assert zone_of(None, nowhere).utcoffset(None) is not None


def test_every_format_is_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "parsing.md").read_text()
    assert [name for name in FORMATS if f"`{name}`" not in page] == []
