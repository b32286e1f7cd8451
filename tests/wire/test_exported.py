"""The lines of ``spool export``: whatever a batch holds, it is the same after a trip through a file."""

from __future__ import annotations

import json
import struct
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.batch import Batch, Logs, Metrics
from agent.wire import exported

TIME_NS = 1_700_000_000_000_000_001


def logs(records: list[bytes], separator: bytes = b"\n", **changes: object) -> Logs:
    made = Logs(
        source="file.app",
        labels=(("env", "prod"), ("host", "ü")),
        block=b"".join(record + separator for record in records),
        count=len(records),
        separator=separator,
        first_time_ns=TIME_NS,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def lines(*batches: Batch) -> list[bytes]:
    return [line for batch in batches for line in exported.encode(batch)]


def back(data: list[bytes]) -> list[Batch]:
    return [batch for batch, _ in exported.decode(data)]


def test_a_record_is_one_line_that_people_and_programs_can_read() -> None:
    batch = logs([b"one", b"two"], metadata={1: (("trace_id", "ab"),)}, severities=bytes([0, 9]))
    first, second = exported.encode(batch, 17, ["loki/logs"])
    assert first.decode() == (
        '{"signal":"logs","source":"file.app","time_ns":"1700000000000000001",'
        '"labels":{"env":"prod","host":"ü"},"line":"one","batch":17,"lanes":["loki/logs"]}\n'
    )
    assert json.loads(second)["metadata"] == {"trace_id": "ab"}
    assert json.loads(second)["severity"] == 9
    assert json.loads(second)["time_ns"] == str(TIME_NS + 1)


@settings(max_examples=60)
@given(
    st.lists(st.binary(max_size=12), min_size=1, max_size=8),
    st.booleans(),
    st.lists(st.integers(0, 24), min_size=8, max_size=8),
)
def test_log_records_of_any_bytes_come_back_as_they_were(
    records: list[bytes], own: bool, severities: list[int]
) -> None:
    separator = b"\xff\xfe|\xff"
    records = [record.replace(separator, b"") for record in records]
    times = array("q", range(5, 5 + len(records))) if own else None
    batch = logs(records, separator, times_ns=times, severities=bytes(severities[: len(records)]))
    (again,) = back(lines(batch))
    assert isinstance(again, Logs)
    assert again.records() == records
    assert list(again.times_ns or []) == list(times or range(TIME_NS, TIME_NS + len(records)))
    assert again.first_time_ns == 0
    assert (again.severities or bytes(len(records))) == batch.severities
    assert again.labels == batch.labels


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(min_size=8, max_size=8)), min_size=1, max_size=6))
def test_samples_come_back_bit_for_bit(samples: list[tuple[bytes, bytes]]) -> None:
    batch = Metrics(
        source="host",
        labels=(("host", "a"),),
        series=tuple(series for series, _ in samples),
        values=array("d", b"".join(bits for _, bits in samples)),
        families=(("up", "gauge", "Whether it is up."),),
        first_time_ns=TIME_NS,
    )
    (again,) = back(lines(batch))
    assert isinstance(again, Metrics)
    assert (again.series, again.values.tobytes()) == (batch.series, batch.values.tobytes())
    assert (again.labels, again.families, again.first_time_ns) == (batch.labels, batch.families, TIME_NS)


def test_a_log_that_tells_of_a_time_before_1970_comes_back_with_it() -> None:
    (batch,) = back(lines(logs([b"1969-07-20 20:17:40 landed"], times_ns=array("q", [-14_182_940_000_000_000]))))
    assert isinstance(batch, Logs)
    assert batch.times_ns == array("q", [-14_182_940_000_000_000])


def test_a_staleness_marker_stays_one() -> None:
    marker = struct.pack("<Q", 0x7FF0000000000002)
    batch = Metrics("host", (), (b"up",), array("d", marker), first_time_ns=1)
    (line,) = lines(batch)
    assert json.loads(line)["value_bits"] == "7ff0000000000002"
    (again,) = back([line])
    assert isinstance(again, Metrics)
    assert again.values.tobytes() == marker


def test_neighbours_of_one_kind_make_a_batch_within_its_bounds() -> None:
    other = replace(logs([b"x"]), labels=(("env", "test"),))
    assert [b.count for b in back(lines(logs([b"a", b"b"]), logs([b"c"]), other, logs([b"d"])))] == [3, 1, 1]
    long = [b"%d" % i * 1000 for i in range(100)]
    assert max(b.size_bytes for b in back(lines(logs(long * 5)))) < exported.BATCH_BYTES + 2_000
    many = back(lines(logs([b"" for _ in range(exported.BATCH_RECORDS + 1)])))
    assert [b.count for b in many] == [exported.BATCH_RECORDS, 1]


def test_every_batch_says_where_its_last_line_stands() -> None:
    data = [*lines(logs([b"a", b"b"])), b"\n", *lines(replace(logs([b"c"]), source="other"))]
    assert [last for _, last in exported.decode(data)] == [2, 4]


GOOD = {"signal": "logs", "source": "s", "time_ns": 5, "line": "x"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"signal": "spans"}, "spans"),
        ({"line": None}, "neither line nor line_base64"),
        ({"line": None, "line_base64": "!"}, "line_base64"),
        ({"time_ns": "yesterday"}, "yesterday"),
        ({"time_ns": -(1 << 70)}, "time_ns -"),
        ({"signal": "metrics", "series": "up", "value": 1.0, "time_ns": -1}, "time_ns -1"),
        ({"time_ns": 1 << 70}, "time_ns"),
        ({"severity": 999}, "severity 999"),
        ({"signal": "metrics", "series": "up"}, "neither value nor value_bits"),
        ({"signal": "metrics", "series": "up", "value_bits": "zz"}, "value_bits 'zz'"),
        ({"signal": "metrics", "value": 1.0}, "neither series"),
    ],
)
def test_a_line_that_is_no_record_is_named_after_what_came_before_it(change: dict[str, object], said: str) -> None:
    data = [json.dumps(GOOD).encode(), json.dumps(GOOD | change).encode(), json.dumps(GOOD).encode()]
    found: list[int] = []
    with pytest.raises(exported.ExportedError, match=said) as fault:
        found.extend(batch.count for batch, _ in exported.decode(data))
    assert fault.value.line == 2
    assert found == [1]


@pytest.mark.parametrize("data", [b"nonsense", b"[]", b"\xff", b'{"signal":"logs"}', b"{" * 5000])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(exported.ExportedError):
        list(exported.decode([data]))


def test_keys_that_others_added_are_let_pass() -> None:
    (batch,) = back([json.dumps(GOOD | {"ticket": 7}).encode()])
    assert batch.count == 1


def test_a_batch_that_does_not_hold_what_it_says_is_refused() -> None:
    with pytest.raises(ValueError, match="says it holds 3 records and holds 1"):
        lines(replace(logs([b"a"]), count=3))


def test_when_a_record_was_read_is_written_beside_the_time_that_it_says() -> None:
    own = Logs("file.app", (), b"x\ny\n", 2, times_ns=array("q", [5, 6]), first_time_ns=TIME_NS)
    told = [json.loads(line) for line in exported.encode(own)]
    assert [(each["time_ns"], each["read_ns"]) for each in told] == [("5", str(TIME_NS)), ("6", str(TIME_NS + 1))]
    assert "read_ns" not in json.loads(next(exported.encode(replace(own, times_ns=None))))
