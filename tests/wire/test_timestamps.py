"""Times are read as logs write them, whatever they leave out, a column at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.format import Moment
from agent.wire.timestamps import PATTERNS, Layout, epoch_ns, epochs_of, layout_of, time_of, times_of

BERLIN = ZoneInfo("Europe/Berlin")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ns(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1) * 1000


def at(*when: int) -> Moment:
    return Moment(ns(datetime(*when, tzinfo=UTC)), BERLIN)  # type: ignore[misc,arg-type]


NOW = at(2026, 11, 20, 17)


def utc(*when: int) -> int:
    return ns(datetime(*when, tzinfo=UTC))  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "layout", "expected"),
    [
        ("2026-11-20T16:40:01Z", "iso", utc(2026, 11, 20, 16, 40, 1)),
        ("2026-11-20t16:40:01.5z", "iso", utc(2026, 11, 20, 16, 40, 1, 500_000)),
        ("2026-11-20T16:40:01.5Z", "iso", utc(2026, 11, 20, 16, 40, 1, 500_000)),
        ("2026-11-20T16:40:01.123456789Z", "iso", utc(2026, 11, 20, 16, 40, 1, 123_456) + 789),
        ("2026-11-20 16:40:01,123", "iso", utc(2026, 11, 20, 15, 40, 1, 123_000)),
        ("2026-11-20 16:40:01.123 UTC", "iso", utc(2026, 11, 20, 16, 40, 1, 123_000)),
        ("2026-11-20 16:40:01.123 CET", "iso", utc(2026, 11, 20, 15, 40, 1, 123_000)),
        ("2026-11-20T16:40:01+05:30", "iso", utc(2026, 11, 20, 11, 10, 1)),
        ("2026-11-20T16:40:01-0330", "iso", utc(2026, 11, 20, 20, 10, 1)),
        ("2026-11-20 16:40:01-03", "iso", utc(2026, 11, 20, 19, 40, 1)),
        ("2026-11-20 16:40:01 +0100", "iso", utc(2026, 11, 20, 15, 40, 1)),
        ("2026/11/20 16:40:01.123456", "iso", utc(2026, 11, 20, 15, 40, 1, 123_456)),
        ("2026-07-20 16:40:01", "iso", utc(2026, 7, 20, 14, 40, 1)),
        ("20/Nov/2026:16:40:01 +0200", "clf", utc(2026, 11, 20, 14, 40, 1)),
        ("Nov 20 16:40:01", "syslog", utc(2026, 11, 20, 15, 40, 1)),
        ("Nov  2 16:40:01.25", "syslog", utc(2026, 11, 2, 15, 40, 1, 250_000)),
        ("Fri Nov 20 16:40:01 2026", "ctime", utc(2026, 11, 20, 15, 40, 1)),
        ("Fri Nov 20 16:40:01.123456 2026", "ctime", utc(2026, 11, 20, 15, 40, 1, 123_456)),
        ("1120 16:40:01.123456", "klog", utc(2026, 11, 20, 15, 40, 1, 123_456)),
        ("1795192801", "epoch", 1_795_192_801_000_000_000),
        ("1795192801.5", "epoch", 1_795_192_801_500_000_000),
        ("1795192801123", "epoch", 1_795_192_801_123_000_000),
        ("1795192801123456", "epoch", 1_795_192_801_123_456_000),
        ("1795192801123456789", "epoch", 1_795_192_801_123_456_789),
    ],
)
def test_a_time_is_read_and_its_layout_told(text: str, layout: Layout, expected: int) -> None:
    assert time_of(text, layout, NOW) == time_of(text.encode(), layout, NOW) == expected
    assert times_of([text] * 3, layout, NOW).tolist() == [expected] * 3
    assert layout_of(text) == layout_of(text.encode()) == layout


@pytest.mark.parametrize("layout", PATTERNS)
@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "2026-13-20T16:40:01Z", "2026-11-31 16:40:01", "2026-11-20T24:40:01Z", "2026-11-20T16:60:01Z"),
        *("2026-11-20T16:40:61Z", "2026-11-20T16:40:01.Z", "2026-11-20T16:40:01.1x3Z", "2026-11-20T16:40:1_Z"),
        *(
            "31/Nov/2026:16:40:01 +0000",
            "20/Foo/2026:16:40:01 +0000",
            "Feb 30 16:40:01",
            "9" * 40,
            "1_795_192_801",
            "nan",
        ),
    ],
)
def test_what_is_no_time_is_0_and_harms_no_other(text: str, layout: Layout) -> None:
    good = {
        "iso": "2026-11-20T16:40:01Z",
        "clf": "20/Nov/2026:16:40:01 +0000",
        "syslog": "Nov 20 17:40:01",
        "ctime": "Fri Nov 20 17:40:01 2026",
        "klog": "1120 17:40:01.000000",
        "epoch": "1795192801",
    }[layout]
    known = utc(2026, 11, 20, 16, 40, 1)
    assert times_of([good, text, good], layout, NOW).tolist() == [known, 0, known]


def test_times_of_several_kinds_in_one_column_are_each_read() -> None:
    texts = ["2026-11-20T16:40:01Z", "", "2026-11-20T16:40:01.25Z", "2026-11-20T17:40:01+01:00", "2026-11-20 17:40:01"]
    texts += ["2026-11-20T16:40:01.123Z", "2026-11-20T16:40:01,124Z", "2026-11-20T16:40:01+0123"]
    wanted = [time_of(text, "iso", NOW) for text in texts]
    assert times_of(texts, "iso", NOW).tolist() == wanted
    assert wanted.count(0) == 1


@pytest.mark.parametrize(
    ("now", "text", "year"),
    [
        ((2027, 1, 1, 0, 0, 5), "Dec 31 23:59:59", 2026),
        ((2026, 12, 31, 23, 59), "Jan  1 00:10:00", 2027),
        ((2026, 12, 31, 12), "Jan  2 23:00:00", 2026),
        ((2026, 6, 1), "Jun  3 00:00:00", 2025),
        ((2026, 6, 1), "Jun  1 23:00:00", 2026),
        ((2026, 6, 1), "Feb 29 12:00:00", 2024),
        ((2028, 2, 28, 23), "Feb 29 01:00:00", 2028),
    ],
)
def test_a_missing_year_is_the_last_that_is_not_more_than_a_day_ahead(
    now: tuple[int, ...], text: str, year: int
) -> None:
    moment = Moment(utc(*now), UTC)
    read = datetime.fromtimestamp(time_of(text, "syslog", moment) / 1e9, UTC)
    assert (read.year, f"{read:%b} {read.day:2} {read:%H:%M:%S}") == (year, text)


def test_an_hour_that_comes_twice_is_the_one_nearer_to_now() -> None:
    first, second = utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)
    assert time_of("2026-10-25 02:30:00", "iso", Moment(first + 5, BERLIN)) == first
    assert time_of("2026-10-25 02:30:00", "iso", Moment(second + 5, BERLIN)) == second
    assert time_of("2026-10-25 02:30:00+01:00", "iso", Moment(first, BERLIN)) == second


def test_an_hour_that_never_was_is_read_all_the_same() -> None:
    assert time_of("2026-03-29 02:30:00", "iso", NOW) in (utc(2026, 3, 29, 0, 30), utc(2026, 3, 29, 1, 30))


def test_a_leap_second_is_the_first_of_the_next_minute() -> None:
    assert time_of("2016-12-31T23:59:60Z", "iso", NOW) == utc(2017, 1, 1)


def test_numbers_are_told_by_their_size() -> None:
    second = 1_795_192_801
    for factor in (1, 1000, 1_000_000, 1_000_000_000):
        assert epochs_of([second * factor, (second + 1) * factor]).tolist() == [second * 10**9, (second + 1) * 10**9]
    assert epochs_of([second + 0.123456, second]).tolist() == [second * 10**9 + 123_456_000, second * 10**9]
    assert epochs_of([second * 1000.0, second]).tolist() == [second * 10**9] * 2
    assert epochs_of([0, second]).tolist() == [0, second * 10**9]
    assert [epoch_ns(value) for value in (0, float("nan"), float("inf"), 1e30, 10**30, -(10**30))] == [0] * 6


@given(st.lists(st.integers(86400 * 10**6, 2**62 // 1000), min_size=1, max_size=20), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_what_is_read(moments: list[int], digits: int) -> None:
    texts, wanted = [], []
    for moment in (EPOCH + timedelta(microseconds=each) for each in moments):
        fraction = f"{moment.microsecond:06}000"[:digits]
        texts.append(f"{moment:%Y-%m-%dT%H:%M:%S}{'.' if digits else ''}{fraction}Z")
        wanted.append(utc(*moment.timetuple()[:6]) + int(fraction.ljust(9, "0")))
    assert times_of(texts, "iso", NOW).tolist() == wanted


@given(st.lists(st.binary(max_size=30) | st.from_regex(PATTERNS["iso"], fullmatch=True), max_size=8))
@settings(max_examples=150, deadline=None)
def test_no_bytes_at_all_raise(texts: list[bytes]) -> None:
    for layout in PATTERNS:
        assert len(times_of(texts, layout, NOW)) == len(texts)
        assert times_of(texts, layout, NOW).tolist() == [time_of(text, layout, NOW) for text in texts]


@pytest.mark.parametrize("digits", range(10))
@pytest.mark.parametrize("step_ms", [1, 777, 61_000])
def test_many_times_are_read_as_one_is(digits: int, step_ms: int) -> None:
    moments = [datetime(2026, 11, 20, 16, 59, 30, tzinfo=UTC) + timedelta(milliseconds=i * step_ms) for i in range(100)]
    texts = []
    for number, moment in enumerate(moments):
        fraction = f"{moment.microsecond:06}{number:03}"[:digits]
        texts.append(f"{moment:%Y-%m-%d %H:%M:%S}{'.' if digits else ''}{fraction}+01:00")
    for odd in (None, "2026-11-20 16:59:60", "2026-11-20 16:59:61", "2026-11-20 16:5x:01", "2026-11-20 1\u0666:59:01"):
        column = texts if odd is None else [*texts[:50], odd + texts[50][19:], *texts[51:]]
        wanted = [time_of(text, "iso", NOW) for text in column]
        assert times_of(column, "iso", NOW).tolist() == wanted
        assert wanted.count(0) == (odd not in (None, "2026-11-20 16:59:60"))
        if odd is None or odd.isascii():
            assert times_of([text.encode() for text in column], "iso", NOW).tolist() == wanted


def test_many_times_before_1970_are_read_as_one_is() -> None:
    texts = [f"1969-12-31T23:59:{i % 60:02}Z" for i in range(100)]
    assert times_of(texts, "iso", NOW).tolist() == [(i % 60 - 60) * 10**9 for i in range(100)]
