"""An expression of one's own says what time, level and fields are."""

from __future__ import annotations

from datetime import UTC

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.wire.format import Moment
from agent.wire.formats import PATTERN, format_of

T = 1_795_192_801_000_000_000
MOMENT = Moment(T, UTC)
EXPRESSION = r"^(?P<time>\S+ \S+) (?P<level>\w+)?: (?P<message>.*?)(?: n=(?P<n>\d+))?$"


def logs(*records: bytes) -> Logs:
    return Logs("file", (), b"".join(each + b"\x1e" for each in records), len(records), b"\x1e")


def test_time_and_level_are_read_from_their_groups() -> None:
    of = format_of(PATTERN + EXPRESSION)
    got = of.columns(logs(b"2026-11-20 16:40:01 WARN: a", b"junk", b"2026-11-20 16:40:01 : b n=3", b"x y z: c"), MOMENT)
    assert got.times_ns is not None
    assert (got.times_ns.tolist(), got.severities, got.unparsed) == ([T, 0, T, 0], bytes((13, 0, 0, 0)), 1)
    assert of.name == PATTERN + EXPRESSION


def test_other_names_for_time_and_level_are_known_and_none_is_needed() -> None:
    of = format_of(PATTERN + r"(?P<severity>\d) (?P<timestamp>\d+)")
    got = of.columns(logs(b"3 1795192801", b"4 1795192801"), MOMENT)
    assert (got.times_ns.tolist() if got.times_ns else None, got.severities) == ([T, T], bytes((17, 13)))
    got = format_of(PATTERN + "(?P<a>x)").columns(logs(b"x", b"y"), MOMENT)
    assert (got.times_ns, got.severities, got.unparsed) == (None, None, 1)


def test_fields_are_its_groups() -> None:
    of = format_of(PATTERN + EXPRESSION)
    assert of.fields(b"1 2 a: hi \xff") == {"time": "1 2", "level": "a", "message": "hi \ufffd", "n": None}
    assert of.fields(b"junk") is None
    assert of.matches(b"1 2 a: hi")
    assert not of.matches(b"junk")


@given(st.lists(st.binary(max_size=30).map(lambda each: each.replace(b"\x1e", b""))))
@settings(max_examples=60, deadline=None)
def test_no_record_at_all_raises(records: list[bytes]) -> None:
    got = format_of(PATTERN + EXPRESSION).columns(logs(*records), MOMENT)
    assert got.times_ns is not None
    assert len(got.times_ns) == len(got.severities or b"") == len(records)
