"""Time and level of pairs are found wherever they stand; what are no pairs harms no other."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.wire.format import Columns, Moment
from agent.wire.formats import format_of
from agent.wire.severity import level_of

LOGFMT = format_of("logfmt")
T = 1_795_192_801_000_000_000
MOMENT = Moment(T, UTC)


def columns(*records: bytes) -> Columns:
    return LOGFMT.columns(Logs("file", (), b"".join(each + b"\n" for each in records), len(records)), MOMENT)


def read(*records: bytes) -> list[tuple[int, str]]:
    got = columns(*records)
    assert got.times_ns is not None
    assert got.severities is not None
    return list(zip(got.times_ns, map(level_of, got.severities), strict=True))


@pytest.mark.parametrize(
    "record",
    [
        b'time=2026-11-20T16:40:01Z level=ERROR msg="slog"',
        b'ts=2026-11-20T16:40:01Z caller=main.go:42 level=error msg="go-kit"',
        b'time="2026-11-20T16:40:01Z" level=error msg="logrus"',
        b'time="2026-11-20 16:40:01" level="error" msg=x',
        b'level=error msg="a \\"quoted\\" level=info" ts=1795192801',
        b'msg="first time=1 level=info" level=error t=1795192801.0 n=1',
        b'lvl=eror t=2026-11-20T16:40:01+0000 msg="log15"',
        b"  severity=ERROR timestamp=1795192801000",
        b"a= b=1 ts=2026-11-20T16:40:01Z level=error",
    ],
)
def test_time_and_level_are_found_wherever_they_stand(record: bytes) -> None:
    assert read(record) == [(T, "error")]
    assert read(*[record] * 5) == [(T, "error")] * 5
    assert columns(record).unparsed == 0


def test_records_of_several_shapes_are_each_read() -> None:
    one, two, three = b"ts=1795192801 level=info a=b", b'level=warn msg="x y" ts=1795192801', b'a=1 msg="level=error"'
    got = columns(one, two, b"plain text", three, one, b"", two, b"level=debug")
    assert got.unparsed == 2
    assert got.severities is not None
    assert [level_of(each) for each in got.severities] == ["info", "warn", "", "", "info", "", "warn", "debug"]
    assert got.times_ns is not None
    assert got.times_ns.tolist() == [T, T, 0, 0, T, 0, T, 0]


def test_pairs_without_time_and_level_are_of_the_format() -> None:
    got = columns(b"a=b c=d", b"e=f")
    assert (got.unparsed, got.times_ns) == (0, columns(b"a=b", b"a=b").times_ns)
    assert columns(b"hello", b"hello there a=b").unparsed == 2


def test_fields_are_the_pairs() -> None:
    assert LOGFMT.fields(b'ts=1 msg="a \\"b\\"\\tc" empty= bare url=http://x/?a=b quoted=""') == {
        "ts": "1",
        "msg": 'a "b"\tc',
        "empty": "",
        "bare": True,
        "url": "http://x/?a=b",
        "quoted": "",
        "message": 'a "b"\tc',
    }
    assert LOGFMT.fields(b'a="bad \\q escape"') == {"a": "bad \\q escape"}
    assert LOGFMT.fields(b"a=\xff") == {"a": "\ufffd"}
    assert [LOGFMT.fields(record) for record in (b"", b"x", b"hello there", b"=1")] == [None] * 4


def test_it_is_told_by_lines_of_nothing_but_pairs() -> None:
    assert LOGFMT.matches(b'a=b msg="c d" e=')
    assert not any(map(LOGFMT.matches, (b"a=b", b"a=b hello c=d", b"GET /?a=b c=d x", b"", b'a="b c=d')))


def test_a_line_made_to_backtrack_is_looked_at_once() -> None:
    """Were it more than linear this would not end."""
    for line in (b"a=b " * 50_000 + b"!", b'a="' * 50_000, b"a" * 200_000, b'a="\\' + b"\\" * 200_000, b"a=" * 100_000):
        LOGFMT.matches(line)
        LOGFMT.fields(line)
        assert columns(line, line).times_ns is not None


PARTS = [
    b"ts=1795192801",
    b"level=info",
    b"level=",
    b'msg="a b"',
    b'"',
    b" ",
    b"=",
    b"x",
    b"\\",
    b"time=\xff",
    b"lvl=warn",
]


@given(st.lists(st.lists(st.sampled_from(PARTS) | st.binary(max_size=4), max_size=6).map(b" ".join), max_size=12))
@settings(max_examples=300, deadline=None)
def test_no_record_at_all_raises_and_a_record_is_read_alone_as_among_others(records: list[bytes]) -> None:
    records = [record.replace(b"\n", b" ") for record in records]
    got = columns(*records)
    assert got.times_ns is not None
    assert got.severities is not None
    assert len(got.times_ns) == len(got.severities) == len(records)
    for record, time_ns, severity in zip(records, got.times_ns, got.severities, strict=True):
        alone = columns(record)
        assert alone.times_ns is not None
        assert (alone.times_ns.tolist(), alone.severities) == ([time_ns], bytes((severity,)))
        LOGFMT.fields(record)
        LOGFMT.matches(record)
