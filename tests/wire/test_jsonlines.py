"""One line is one record, whatever the record holds."""

from __future__ import annotations

import json
from array import array
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Labels, Logs, Metrics, labels_of
from agent.wire import jsonlines, plainlines

APP = labels_of({"job": "app"})
FIRST_NS = 1_700_000_000_999_999_990
NASTY = [
    '"}\n{"time":"forged"}',
    "a\r\nb",
    "\x1b[2J\x1b[1;1H",
    "\\",
    '"',
    "\u2028x",
    "\x85y",
    "\x00",
    "\u202etxt",
    "\udc80",
]
line_bytes = st.binary(max_size=200).map(lambda line: line.replace(b"\n", b""))


def logs(lines: list[bytes], labels: Labels = APP, **changes) -> Logs:
    separator = changes.get("separator", b"\n")
    values = {"source": "file.app", "labels": labels, "first_time_ns": FIRST_NS} | changes
    return Logs(block=b"".join(line + separator for line in lines), count=len(lines), **values)


def read(batch) -> list[dict]:
    text = b"".join(jsonlines.encode(batch))
    assert text.endswith(b"\n") or not text
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def nanoseconds(time: str) -> int:
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 10**9 + int(fraction)


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(line_bytes, st.integers(-(2**62), 2**62), st.integers(0, 24)), max_size=30))
def test_any_record_comes_back_as_it_was(rows):
    batch = logs(
        [line for line, _, _ in rows],
        times_ns=array("q", [time for _, time, _ in rows]),
        severities=bytes(severity for _, _, severity in rows),
    )
    found = read(batch)
    assert [(each["line"], nanoseconds(each["time"])) for each in found] == [
        (line.decode(errors="replace"), time) for line, time, _ in rows
    ]
    assert [each.get("severity") for each in found] == [
        (None, "trace", "debug", "info", "warn", "error", "fatal")[(severity + 3) // 4] for _, _, severity in rows
    ]


def test_times_rise_across_a_second_and_across_pieces():
    found = read(logs([b"x"] * 3000))
    assert [nanoseconds(each["time"]) for each in found] == list(range(FIRST_NS, FIRST_NS + 3000))
    assert found[0] == {
        "time": "2023-11-14T22:13:20.999999990Z",
        "source": "file.app",
        "labels": {"job": "app"},
        "line": "x",
    }


def test_when_a_record_was_read_stands_beside_the_time_that_it_says():
    found = read(logs([b"x"] * 12, times_ns=array("q", range(12)), severities=bytes([9] * 12)))
    assert [nanoseconds(each["time"]) for each in found] == list(range(12))
    assert [nanoseconds(each["read"]) for each in found] == list(range(FIRST_NS, FIRST_NS + 12))
    assert all("read" not in each for each in read(logs([b"x"])))


def test_metadata_stays_with_its_record():
    found = read(logs([b"a", b"b"], metadata={1: (("trace_id", "x\ny"),)}))
    assert [each.get("metadata") for each in found] == [None, {"trace_id": "x\ny"}]


def test_samples_come_back_with_numbers_json_has_none_for():
    values = array("d", [1.5, float("nan"), float("inf"), float("-inf")])
    batch = Metrics("process.errors", APP, (b'a{x="1"}', b"b", b"c", b"d\xff"), values, first_time_ns=FIRST_NS)
    assert [(each["series"], each["value"]) for each in read(batch)] == [
        ('a{x="1"}', 1.5),
        ("b", "NaN"),
        ("c", "+Inf"),
        ("d\ufffd", "-Inf"),
    ]


@pytest.mark.parametrize("text", NASTY)
def test_nothing_in_a_record_forges_another_json_line(text):
    raw = text.encode(errors="surrogatepass")
    batch = logs(
        [raw, b"next"], labels=(("l", text), (text, "v")), separator=b"\x1e\x1e", metadata={0: ((text, text),)}
    )
    shown = raw.decode(errors="replace")
    first, second = read(batch)
    assert first["line"] == shown
    assert first["labels"]["l"] == shown
    assert first["metadata"] == {shown: shown}
    assert second["line"] == "next"


@pytest.mark.parametrize("text", NASTY)
def test_nothing_in_a_record_forges_another_line_on_a_terminal(text):
    raw = text.encode(errors="surrogatepass")
    batch = logs([raw, b"next"], labels=((text, text),), separator=b"\x1e\x1e", metadata={0: ((text, text),)})
    lines = b"".join(plainlines.encode(batch)).decode().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert lines[1].endswith("} next")
    metrics = Metrics(text, ((text, text),), (raw,), array("d", [1.0]), first_time_ns=FIRST_NS)
    (line,) = b"".join(plainlines.encode(metrics)).decode().splitlines()
    assert line.isprintable()


def test_a_terminal_shows_time_source_labels_level_and_line():
    batch = logs([b"hello\tworld"], severities=bytes([17]), metadata={0: (("user", "7"),)})
    assert b"".join(plainlines.encode(batch)).decode() == (
        '2023-11-14T22:13:20.999999990Z file.app {job="app"} ERROR hello\tworld user=7\n'
    )
    metrics = Metrics("process.n", APP, (b"errors_total",), array("d", [3.0]), first_time_ns=FIRST_NS)
    assert b"".join(plainlines.encode(metrics)).decode() == (
        '2023-11-14T22:13:20.999999990Z process.n {job="app"} errors_total 3\n'
    )
