"""Records told by the shape of their first line: in slices, between any separators, without Python for each of them."""

from __future__ import annotations

import sys
from array import array
from datetime import UTC
from types import FrameType

import pytest

from agent.batch import Logs
from agent.wire import shapes
from agent.wire.format import Columns, Moment
from agent.wire.formats import format_of
from agent.wire.joining import beginning_with

MOMENT = Moment(1_795_197_600 * 10**9, UTC)
STARTS = beginning_with(b"2026")
ISO = rb"(?P<time>2026-11-20T16:40:\d\d)"
FORMAT = shapes.Shaped(
    "example",
    (
        shapes.Shape(ISO + rb" (?P<level>[a-z]+) "),
        shapes.Shape(rb"(?P<level>[a-z]+) at " + ISO + rb" by (?P<pid>\d+): "),
        shapes.Shape(
            rb"(?P<mark>boom)", rb"(?P<message>.*)", level="mark", severities=shapes.severities_by({b"boom": 21})
        ),
    ),
    STARTS,
)
LINES = (
    b"2026-11-20T16:40:01 info one",
    b"error at 2026-11-20T16:40:02 by 7: two",
    b"nothing",
    b"boom",
    b"2026-11-20T16:40:03 unheard of",
)
T = 1_795_192_800 * 10**9
EXPECTED = ([T + 10**9, T + 2 * 10**9, 0, 0, T + 3 * 10**9], bytes([9, 17, 0, 21, 0]), 1)


def read(records: tuple[bytes, ...], separator: bytes = b"\n") -> Columns:
    block = b"".join(record + separator for record in records)
    return FORMAT.columns(Logs("", (), block, len(records), separator), MOMENT)


@pytest.mark.parametrize("separator", [b"\n", b"\x1e", b"\0", b"\x1e0\x1d"])
@pytest.mark.parametrize("times", [1, 2000])
def test_each_record_has_its_time_and_severity_whatever_its_neighbours_are(separator: bytes, times: int) -> None:
    columns = read(LINES * times, separator)
    assert columns.times_ns == array("q", EXPECTED[0] * times)
    assert columns.severities == EXPECTED[1] * times
    assert columns.unparsed == EXPECTED[2] * times


def test_records_that_are_longer_than_a_slice_are_read_once() -> None:
    long = LINES[0] + b"x" * (3 * shapes.SLICE_BYTES)
    assert read((long, LINES[1], long)).severities == bytes([9, 17, 9])


def test_a_slice_holds_so_many_records_at_most_and_all_slices_all_of_them() -> None:
    for data in (b"\n" * 5000, b"\n" * 3000 + b"\n" + b"x" * 200_000 + b"\n", b"\n" + b"x" * 300_000 + b"\n" * 4000):
        parts = list(shapes.slices(data, b"\n"))
        assert parts[0][0] == 0
        assert parts[-1][1] == len(data) - 1
        assert [end for _, end, _ in parts[:-1]] == [start for start, _, _ in parts[1:]]
        assert all(data[start : start + 1] == b"\n" for start, _, _ in parts)
        assert all(data.count(b"\n", start, end) == count for start, end, count in parts)
        assert max(count for _, _, count in parts) <= shapes.SLICE_RECORDS


def test_no_records_are_none() -> None:
    assert read(()) == Columns(array("q"), b"", 0)


def test_fields_are_those_of_the_first_shape_that_fits() -> None:
    assert FORMAT.fields(LINES[1]) == {"level": "error", "time": "2026-11-20T16:40:02", "pid": 7, "message": "two"}
    assert FORMAT.fields(b"boom!\r") == {"message": "!"}
    assert FORMAT.fields(LINES[2]) is None


def test_a_number_too_long_to_be_one_stays_text() -> None:
    fields = FORMAT.fields(b"error at 2026-11-20T16:40:02 by " + b"9" * 5000 + b": two")
    assert fields is not None
    assert fields["pid"] == "9" * 5000


LINE = b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/7.88.1"\n'
ERROR = b"2026-11-20 16:40:01.123 [main] ERROR org.example.Orders - no\n"


@pytest.mark.parametrize(("name", "line"), [("nginx", LINE), ("apache", LINE), ("java", ERROR), ("python", ERROR)])
def test_no_python_runs_for_each_record(name: str, line: bytes) -> None:
    found = format_of(name)

    def calls(count: int) -> int:
        entered = 0

        def note(frame: FrameType, event: str, _argument: object) -> None:
            nonlocal entered
            entered += event == "call"

        logs = Logs("", (), line * count, count)
        sys.setprofile(note)
        try:
            found.columns(logs, MOMENT)
        finally:
            sys.setprofile(None)
        return entered

    calls(10)
    few, many = calls(shapes.SLICE_RECORDS // 2), calls(20 * shapes.SLICE_RECORDS)
    assert many - few < 20 * shapes.SLICE_RECORDS / 5
