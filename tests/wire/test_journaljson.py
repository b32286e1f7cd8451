"""What journalctl printed on Debian 12 is read right, and a line is told by its bytes only where it should be."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.journaljson import (
    KEYWORDS,
    SEVERITIES,
    SLICE_BYTES,
    Reader,
    boot_of_cursor,
    bytes_of,
    cursor_of,
    keyword_of,
    last_line,
    member,
    place_of,
    realtime_us_of,
    severity_of,
    text_of,
    time_us_of_cursor,
    without,
)
from agent.wire.severity import level_of

CAPTURED = (Path(__file__).parents[1] / "fixtures/journal/debian-12.json").read_bytes()
"""Entries of journald 252: of systemd, of a unit app@1.service, of syslog, and sent in the journal's own protocol."""
FIELDS = ("MESSAGE", "PRIORITY", "_SYSTEMD_UNIT", "_TRANSPORT", "SYSLOG_IDENTIFIER")
OWN = member("_SYSTEMD_UNIT", "telemetry-agent.service")


def as_printed(*entries: dict[str, Any]) -> bytes:
    """Lines as journalctl prints them, members in any order."""
    order = random.Random(7)
    lines = []
    for entry in entries:
        members = list(({"__REALTIME_TIMESTAMP": "1"} | entry).items())
        order.shuffle(members)
        lines.append(json.dumps(dict(members), separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    return b"".join(lines)


def test_captured_entries_are_read_with_their_messages_times_and_fields() -> None:
    entries = Reader(FIELDS).entries(CAPTURED)
    assert (entries.count, entries.undecodable) == (14, 0)
    messages = list(map(bytes_of, entries.fields["MESSAGE"]))
    assert messages[2:8] == [
        b"plain line",
        b"an error",
        "café".encode() + b" \xff\xfe raw",
        b"\x1b[31mred\x1b[0m",
        b'quote "_SYSTEMD_UNIT":"telemetry-agent.service" back\\slash',
        b"from syslog",
    ]
    assert messages[9:12] == [b"Traceback:\n  File a\n  File b\nValueError", b"\x00\x01\xffbin\nary", b"one\ntwo"]
    assert messages[12:] == [b"", b"L" * 6000]
    assert entries.fields["_SYSTEMD_UNIT"][2:6] == ["app@1.service"] * 4
    assert entries.fields["_TRANSPORT"][7] == "syslog"
    assert [level_of(severity_of(priority)) for priority in entries.fields["PRIORITY"][2:8]] == [
        *("info", "error", "info", "info", "info", "warn")
    ]
    expected = [int(json.loads(line)["__REALTIME_TIMESTAMP"]) for line in CAPTURED.splitlines()]
    assert entries.times_us == expected
    assert expected[2] == expected[3] == expected[4], "entries of one microsecond exist"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("text", b"text"),
        ("", b""),
        (None, b""),
        ([104, 105, 255], b"hi\xff"),
        ([], b""),
        (["a", "b"], b"a\nb"),
        ([[1, 2], "b", None], b"\x01\x02\nb\n"),
        ([300], b"300"),
        ({"a": 1}, b'{"a":1}'),
        (7, b"7"),
        ("\ud800", b"?"),
    ],
)
def test_a_value_of_any_shape_is_bytes_and_text(value: object, read: bytes) -> None:
    assert bytes_of(value) == read
    assert isinstance(text_of(value), str)


def test_a_line_that_is_no_entry_is_counted_and_its_neighbours_are_read() -> None:
    good = as_printed({"MESSAGE": "one"}), as_printed({"MESSAGE": "two"})
    bad = b"-- No entries --\n{\n[]\n{}\n\n\xff\xfe\n" + b'{"__REALTIME_TIMESTAMP":"soon"}\n'
    entries = Reader(("MESSAGE",)).entries(good[0] + bad + good[1])
    assert entries.fields["MESSAGE"] == ["one", "two"]
    assert entries.undecodable == 6


def test_bytes_that_are_not_utf_8_do_not_cost_the_entry() -> None:
    line = as_printed({"MESSAGE": "X"}).replace(b"X", b"caf\xe9")
    entries = Reader(("MESSAGE",)).entries(line)
    assert (entries.fields["MESSAGE"], entries.undecodable) == (["caf\ufffd"], 0)


def test_a_block_of_many_slices_is_read_in_order() -> None:
    block = as_printed(*({"MESSAGE": f"{i} {'x' * 5000}"} for i in range(200)))
    assert len(block) > 5 * SLICE_BYTES
    messages = Reader(("MESSAGE",)).entries(block).fields["MESSAGE"]
    assert [int(message.split()[0]) for message in messages] == list(range(200))


def test_the_priority_of_syslog_has_a_severity_and_a_name() -> None:
    levels = [level_of(severity_of(str(number))) for number in range(8)]
    assert levels == ["fatal", "error", "error", "error", "warn", "info", "info", "debug"]
    assert [keyword_of(str(number)) for number in range(8)] == list(KEYWORDS)
    assert [severity_of(other) for other in ("8", "", "-1", None, ["3"], 3)] == [0] * 6
    assert keyword_of("notice!") == "notice!"
    assert len(SEVERITIES) == 8


# Telling a line by its bytes


def test_only_lines_of_the_unit_itself_are_left_out() -> None:
    mine = {"MESSAGE": "mine", "_SYSTEMD_UNIT": "telemetry-agent.service"}
    others = [
        {"MESSAGE": '"_SYSTEMD_UNIT":"telemetry-agent.service"', "_SYSTEMD_UNIT": "app.service"},
        {"MESSAGE": ',"_SYSTEMD_UNIT":"telemetry-agent.service",', "_SYSTEMD_UNIT": "app.service"},
        {"MESSAGE": "x", "_SYSTEMD_UNIT": "telemetry-agent.service.d"},
        {"MESSAGE": "x", "_SYSTEMD_UNIT": "my-telemetry-agent.service"},
        {"MESSAGE": "x", "UNIT": "telemetry-agent.service", "_SYSTEMD_UNIT": "init.scope"},
        {"MESSAGE": "x", "X_SYSTEMD_UNIT": "telemetry-agent.service"},
        {"MESSAGE": ["_SYSTEMD_UNIT", "telemetry-agent.service"]},
        {"MESSAGE": "no unit"},
    ]
    block = as_printed(mine, *others, mine)
    kept, left_out = without(block, [OWN])
    assert left_out == 2
    assert kept == b"".join(block.splitlines(keepends=True)[1:-1])


def test_a_block_without_own_lines_stays_the_same_object() -> None:
    block = as_printed({"MESSAGE": "x", "_SYSTEMD_UNIT": "app.service"})
    assert without(block, [OWN])[0] is block
    assert without(CAPTURED, [OWN])[0] is CAPTURED


def test_every_member_must_be_there_and_the_line_young_enough() -> None:
    lines = as_printed(
        {"_PID": "7", "_BOOT_ID": "a", "__REALTIME_TIMESTAMP": "100"},
        {"_PID": "7", "_BOOT_ID": "a", "__REALTIME_TIMESTAMP": "99"},
        {"_PID": "7", "_BOOT_ID": "b", "__REALTIME_TIMESTAMP": "100"},
        {"_PID": "77", "_BOOT_ID": "a", "__REALTIME_TIMESTAMP": "100"},
    )
    kept, left_out = without(lines, [member("_PID", "7"), member("_BOOT_ID", "a")], since_us=100)
    assert left_out == 1
    assert kept == b"".join(lines.splitlines(keepends=True)[1:])


units = st.sampled_from(["telemetry-agent.service", "app.service", 'x"y.service', "telemetry-agent@1.service", ""])
values = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ['"_SYSTEMD_UNIT":"telemetry-agent.service"', '\\"_SYSTEMD_UNIT":"telemetry-agent.service', "{", "\n"]
    ),
    st.lists(st.integers(0, 255), max_size=8),
)


@given(st.lists(st.fixed_dictionaries({"MESSAGE": values, "_SYSTEMD_UNIT": units, "OTHER": values}), max_size=8))
@settings(max_examples=100)
def test_what_is_left_out_by_bytes_is_what_would_be_left_out_by_reading(entries: list[dict[str, Any]]) -> None:
    block = as_printed(*entries)
    kept, left_out = without(block, [OWN])
    wanted = [entry for entry in entries if entry["_SYSTEMD_UNIT"] != "telemetry-agent.service"]
    assert left_out == len(entries) - len(wanted)
    got = [json.loads(line) for line in kept.split(b"\n")[:-1]]
    assert [{name: entry[name] for name in ("MESSAGE", "OTHER")} for entry in got] == [
        {name: entry[name] for name in ("MESSAGE", "OTHER")} for entry in wanted
    ]


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_are_entries_or_counted(data: bytes) -> None:
    block = data + b"\n"
    entries = Reader(FIELDS).entries(block)
    assert entries.count + entries.undecodable == sum(1 for line in block.split(b"\n") if line.strip())
    assert without(block, [OWN]) == (block, 0)
    assert without(block + b"{%s}\n" % OWN + block, [OWN]) == (block + block, 1)
    cursor_of(block)
    realtime_us_of(block)


# Cursors


def test_a_cursor_tells_place_boot_and_time() -> None:
    line = last_line(CAPTURED)
    cursor = cursor_of(line)
    assert cursor == json.loads(line)["__CURSOR"]
    assert place_of(cursor) == ("b8f63a9feb2345ed9e7f38448368e4cc", 0x49)
    assert boot_of_cursor(cursor) == json.loads(line)["_BOOT_ID"]
    assert time_us_of_cursor(cursor) == realtime_us_of(line) == int(json.loads(line)["__REALTIME_TIMESTAMP"])


@pytest.mark.parametrize("text", ["", "nonsense", "s=12;i=3", "i=3", "s=" + "0" * 32, "s=" + "0" * 32 + ";i=xyz"])
def test_what_is_no_cursor_tells_nothing(text: str) -> None:
    assert place_of(text) is None
    assert boot_of_cursor(text) == ""
    assert time_us_of_cursor(text) == 0


def test_the_last_line_is_the_one_before_the_last_newline() -> None:
    assert [last_line(block) for block in (b"a\nb\n", b"a\n", b"\n", b"")] == [b"b", b"a", b"", b""]
