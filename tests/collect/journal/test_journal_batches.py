"""Entries become batches: by label set, each record whole, with times that rise, bounded, and redacted."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import Logs
from agent.clock import now
from agent.collect.journal.batches import LABELS_MOVED, Batches
from agent.collect.journal.messages import separator_of
from agent.collect.journal.options import JournalOptions
from agent.collect.journal.origin import part_of
from agent.collect.journal.streams import MOST_BACK_NS
from agent.ownmetrics import Meter
from agent.process.redact.options import RedactOptions
from agent.process.redact.processor import Redactor
from agent.wire import jsonlines, loki
from agent.wire.spooled import decode, encode
from tests.fakes import FakeClock, context

CAPTURED = (Path(__file__).parents[2] / "fixtures/journal/debian-12.json").read_bytes()
BEGIN = "-----BEGIN RSA PRIVATE " + "KEY-----"
END = "-----END RSA PRIVATE " + "KEY-----"


class Making:
    """Batches of entries that are given as dictionaries."""

    def __init__(self, tmp_path: Path, **options: Any) -> None:
        self.clock = FakeClock()
        self.meter = Meter()
        made = context(tmp_path, "journal", clock=self.clock, meter=self.meter, labels={"env": "test"})
        self.batches = Batches(JournalOptions(**options), made)
        self._times = count(1_000_000)

    def of(self, *entries: dict[str, Any]) -> list[Logs]:
        lines = [json.dumps({"__REALTIME_TIMESTAMP": str(next(self._times))} | entry) for entry in entries]
        made = self.batches.of("".join(f"{line}\n" for line in lines).encode(), ("before", "last"))
        for batch in made:
            check(batch)
        return made


def check(batch: Logs) -> None:
    """What every batch holds to."""
    assert batch.block.count(batch.separator) == batch.count
    assert batch.block.endswith(batch.separator)
    assert batch.times_ns is not None
    assert batch.severities is not None
    assert len(batch.times_ns) == len(batch.severities) == batch.count
    assert all(one < following for one, following in zip(batch.times_ns, batch.times_ns[1:], strict=False))
    assert batch.origin is not None
    assert batch.origin.end - batch.origin.start == len(batch.block)
    assert decode(encode(batch, 0)).records() == batch.records()


def entry(message: Any = "text", unit: str = "app.service", **fields: Any) -> dict[str, Any]:
    return {"MESSAGE": message, "_SYSTEMD_UNIT": unit, "_TRANSPORT": "stdout", "PRIORITY": "6"} | fields


@pytest.fixture
def making(tmp_path: Path) -> Making:
    return Making(tmp_path)


def test_captured_entries_become_a_batch_for_each_label_set(making: Making) -> None:
    made = making.batches.of(CAPTURED, ("a", "b"))
    found = [(dict(batch.labels).get("unit"), dict(batch.labels)["transport"], batch.count) for batch in made]
    assert found == [
        ("init.scope", "journal", 3),
        ("app@1.service", "stdout", 5),
        ("app@1.service", "syslog", 1),
        (None, "journal", 5),
    ]
    assert all(
        dict(batch.labels) | {"host": "testhost", "env": "test", "source": "journal"} == dict(batch.labels)
        for batch in made
    )
    times = made[1].times_ns
    assert times is not None
    assert [time_ns % 1000 for time_ns in times[:3]] == [0, 1, 2], "three entries of one microsecond"


def test_each_record_stays_whole_whatever_its_message_holds(making: Making) -> None:
    messages = ["plain", "two\nlines", "", [0, 10, 255], "\x1e and \x1f", ["a", "b"], None]
    (batch,) = making.of(*map(entry, messages))
    assert batch.separator not in (b"\n", b"\x1e", b"\x1f")
    assert batch.records() == [b"plain", b"two\nlines", b"", b"\x00\n\xff", b"\x1e and \x1f", b"a\nb", b""]


@given(st.lists(st.text("\n\x1e\x1f\0" + "01ax", max_size=12), min_size=1, max_size=12))
def test_a_separator_never_cuts_a_record(lines: list[str]) -> None:
    raw = [line.encode() for line in lines]
    separator = separator_of(raw)
    assert b"".join(line + separator for line in raw).split(separator)[:-1] == raw


def test_times_rise_within_a_label_set_and_follow_a_clock_that_was_set_back(making: Making) -> None:
    def times(*micros: int) -> list[int]:
        (batch,) = making.of(*(entry(__REALTIME_TIMESTAMP=str(micro)) for micro in micros))
        return list(batch.times_ns or ())

    assert times(5_000_000, 5_000_000, 5_000_001) == [5_000_000_000, 5_000_000_001, 5_000_001_000]
    assert times(5_000_001, 4_999_999) == [5_000_001_001, 5_000_001_002]
    back = times(1_000_000)
    assert back == [1_000_000_000]
    assert 5_000_001_002 - back[0] > MOST_BACK_NS


def test_label_sets_do_not_share_their_times(making: Making) -> None:
    same = {"__REALTIME_TIMESTAMP": "7"}
    made = making.of(entry(unit="a.service") | same, entry(unit="b.service") | same)
    assert [list(batch.times_ns or ()) for batch in made] == [[7000], [7000]]


def test_fields_become_the_labels_and_the_metadata_that_were_asked_for(tmp_path: Path) -> None:
    making = Making(
        tmp_path,
        fields={"PRIORITY": "level", "SYSLOG_IDENTIFIER": "app"},
        metadata={"_PID": "pid", "CODE_FILE": "file"},
        labels={"job": "systemd-journal"},
    )
    first, second = making.of(
        entry(SYSLOG_IDENTIFIER="x", _PID="7"),
        entry(PRIORITY="3", CODE_FILE=["a.c", "b.c"]),
        entry(SYSLOG_IDENTIFIER="x"),
    )
    assert dict(first.labels) == {
        "app": "x",
        "env": "test",
        "host": "testhost",
        "job": "systemd-journal",
        "level": "info",
        "source": "journal",
    }
    assert first.metadata == {0: (("pid", "7"),)}
    assert dict(second.labels)["level"] == "error"
    assert second.metadata == {0: (("file", "a.c\nb.c"),)}


def test_without_any_field_there_is_one_batch(tmp_path: Path) -> None:
    making = Making(tmp_path, fields={})
    (batch,) = making.of(entry(unit="a.service"), entry(unit="b.service"))
    assert dict(batch.labels) == {"env": "test", "host": "testhost", "source": "journal"}


def test_beyond_the_bound_the_fields_stand_beside_the_records_of_one_batch(tmp_path: Path) -> None:
    making = Making(tmp_path, max_label_sets=2, metadata={"_PID": "pid"})
    units = [f"session-{i}.scope" for i in (1, 2, 3, 4, 3)]
    first, second, rest = making.of(*(entry(unit=unit, _PID=unit[8]) for unit in units))
    assert [dict(batch.labels)["unit"] for batch in (first, second)] == units[:2]
    assert "unit" not in dict(rest.labels)
    assert [dict(rest.metadata[i]) for i in range(3)] == [
        {"unit": unit, "transport": "stdout", "pid": unit[8]} for unit in units[2:]
    ]
    assert making.meter.value(LABELS_MOVED, ("journal",)) == 3
    making.clock.move(3601)
    (batch,) = making.of(entry(unit="session-9.scope"))
    assert dict(batch.labels)["unit"] == "session-9.scope", "what was not seen for an hour makes room"


def test_a_long_message_is_cut_marked_and_counted(tmp_path: Path) -> None:
    making = Making(tmp_path, max_line_bytes=1024)
    (batch,) = making.of(entry("short"), entry("é" * 1000), entry([255] * 2000))
    assert list(map(len, batch.records())) == [5, 1024, 1024]
    assert batch.metadata == {1: (("cut_bytes", "976"),), 2: (("cut_bytes", "976"),)}
    assert making.meter.value("telemetry_agent_lines_cut_total", ("journal",)) == 2
    assert making.meter.value("telemetry_agent_source_lost_total", ("journal", "cut")) == 1952


def test_where_records_lie_goes_on_from_block_to_block_and_is_told_by_label_set(making: Making) -> None:
    (one,) = making.of(entry("a#b"))
    other, two = making.of(entry(unit="other#.service"), entry("second"))
    assert one.origin is not None
    assert two.origin is not None
    assert other.origin is not None
    assert one.origin.stream == two.origin.stream != other.origin.stream
    assert two.origin.start == one.origin.end
    part = part_of(other.origin.key)
    assert (part.fields, part.start, part.count) == (("other#.service", "stdout"), other.origin.start, 1)
    assert (part.after, part.last) == ("before", "last")
    with pytest.raises(ValueError, match="unpack"):
        part_of("fd00:2a1f#1024.9f86d081884c7d65")


# What becomes of such batches


def redacted(redactor: Redactor, batch: Logs) -> Logs:
    (made,) = redactor.process(batch, now(FakeClock()))
    assert isinstance(made, Logs)
    return made


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(RedactOptions(), Meter(), "redact", None, FakeClock())


def test_secrets_are_removed_from_messages_of_many_lines(making: Making, redactor: Redactor) -> None:
    key = f"{BEGIN}\nQUJDREVG\nR0hJSktM\n{END}"
    (batch,) = making.of(entry("first\npassword=hunter22\nlast"), entry("plain"), entry(f"here:\n{key}\nafter"))
    made = redacted(redactor, batch)
    assert made.count == 3
    first, plain, third = made.records()
    assert first == b"first\npassword=[REDACTED]\nlast"
    assert plain == b"plain"
    assert b"QUJDREVG" not in third
    assert b"R0hJSktM" not in third
    assert third.endswith(b"\nafter")


def test_a_key_that_a_unit_writes_line_by_line_is_followed_past_what_others_write(
    making: Making, redactor: Redactor
) -> None:
    blocks = [
        [entry(BEGIN, unit="a.service"), entry("harmless", unit="b.service")],
        [entry("QUJDREVG", unit="a.service"), entry("b goes on", unit="b.service")],
        [entry(END, unit="a.service"), entry("b ends", unit="b.service")],
        [entry("a is well", unit="a.service")],
    ]
    lines: dict[str, list[bytes]] = {"a.service": [], "b.service": []}
    for block in blocks:
        for batch in making.of(*block):
            lines[dict(batch.labels)["unit"]] += redacted(redactor, batch).records()
    assert lines["b.service"] == [b"harmless", b"b goes on", b"b ends"]
    assert not any(b"QUJDREVG" in line for line in lines["a.service"])
    assert lines["a.service"][-1] == b"a is well"


def test_destinations_get_each_record_with_its_own_lines_time_and_level(making: Making) -> None:
    (batch,) = making.of(entry("two\nlines", PRIORITY="3"), entry([255, 10]), entry("three"))
    written = [json.loads(line) for line in b"".join(jsonlines.encode(batch)).splitlines()]
    assert [record["line"] for record in written] == ["two\nlines", "\ufffd\n", "three"]
    assert [record["severity"] for record in written] == ["error", "info", "info"]
    (stream,) = json.loads(loki.encode_json([batch]))["streams"]
    assert [(value[1], value[2]["level"]) for value in stream["values"]] == [
        ("two\nlines", "error"),
        ("\ufffd\n", "info"),
        ("three", "info"),
    ]
    assert [int(value[0]) for value in stream["values"]] == list(batch.times_ns or ())
