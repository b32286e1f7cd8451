"""Messages of the journal are understood where that is asked for: their format for each unit, and their level."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agent.batch import Logs
from agent.collect.journal.batches import Batches, formats
from agent.collect.journal.options import JournalOptions
from agent.collect.journal.parse import LOOKED_AT_AGAIN_AFTER, UNPARSED
from agent.collect.parse_options import Regex
from agent.ownmetrics import Meter
from agent.wire.formats import format_of
from tests.fakes import context

ERROR = '{"level":"error","msg":"no","time":"2001-02-03T04:05:06Z"}'
INFO = '{"level":"info","msg":"yes"}'
LOGFMT = 'time=2001-02-03T04:05:06Z level=warn msg="disk is nearly full"'


class Reading:
    """Batches of messages of units."""

    def __init__(self, tmp_path: Path, **options: Any) -> None:
        self.meter = Meter()
        self._batches = Batches(JournalOptions(**options), context(tmp_path, "journal", meter=self.meter))
        self._times = count(1_000_000)

    def of(self, *messages: tuple[str, Any]) -> dict[str, Logs]:
        """The batch of each unit."""
        entries = [
            {
                "__REALTIME_TIMESTAMP": str(next(self._times)),
                "_SYSTEMD_UNIT": unit,
                "_TRANSPORT": "stdout",
                "PRIORITY": "6",
                "MESSAGE": message,
            }
            for unit, message in messages
        ]
        block = "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()
        made = {dict(batch.labels).get("unit", ""): batch for batch in self._batches.of(block, ("before", "last"))}
        for batch in made.values():
            assert batch.block.count(batch.separator) == batch.count
            assert batch.severities is not None
            assert len(batch.severities) == batch.count
        return made

    def formats(self) -> dict[str, str]:
        """What /status says."""
        return formats(self._batches.streams)


def test_messages_are_left_alone_where_nobody_asks(tmp_path: Path) -> None:
    batch = Reading(tmp_path).of(("app", ERROR))["app"]
    assert (batch.format, batch.severities) == ("", b"\x09")


def test_each_unit_is_of_the_format_that_its_own_messages_are_of(tmp_path: Path) -> None:
    made = Reading(tmp_path, parse="auto").of(
        ("json", ERROR), ("plain", "Started the thing."), ("logfmt", LOGFMT), ("json", INFO), ("logfmt", LOGFMT)
    )
    assert {unit: batch.format for unit, batch in made.items()} == {"json": "json", "plain": "", "logfmt": "logfmt"}
    fields = format_of(made["json"].format).fields(made["json"].records()[0])
    assert fields is not None
    assert fields["level"] == "error"


def test_status_says_what_was_decided_for_each_unit(tmp_path: Path) -> None:
    assert Reading(tmp_path).formats() == {}
    auto = Reading(tmp_path, parse="auto")
    auto.of(*[("json", ERROR), ("plain", "Started the thing.")] * 100, ("young", "Started."), (None, "usb 1-1"))
    assert auto.formats() == {
        "json/stdout": "json",
        "plain/stdout": "none",
        "young/stdout": "undecided",
        "-/stdout": "undecided",
    }
    told = Reading(tmp_path, parse=Regex(regex="(?P<message>.*)"))
    told.of(("app", INFO))
    assert told.formats() == {"app/stdout": "regex"}


def test_time_and_level_stay_the_journals_unless_the_messages_level_is_wanted(tmp_path: Path) -> None:
    messages = [("app", ERROR), ("app", INFO), ("app", '{"msg":"says no level"}'), ("app", "no object")]
    journals = Reading(tmp_path, parse="json").of(*messages)["app"]
    assert journals.severities == bytes([9, 9, 9, 9])
    own = Reading(tmp_path, parse="json", level="message")
    batch = own.of(*messages)["app"]
    assert batch.severities == bytes([17, 9, 9, 9])
    assert list(batch.times_ns or ()) == [(1_000_000 + i) * 1000 for i in range(4)]
    assert own.meter.value(UNPARSED, ("journal", "json")) == 1


def test_a_message_of_several_lines_is_one_record_of_its_format(tmp_path: Path) -> None:
    reading = Reading(tmp_path, parse="logfmt", level="message")
    batch = reading.of(("app", f"{LOGFMT}\nmore of it"), ("app", "level=error msg=short"))["app"]
    assert batch.records() == [f"{LOGFMT}\nmore of it".encode(), b"level=error msg=short"]
    assert batch.severities == bytes([13, 17])


def test_traces_that_a_unit_prints_line_by_line_stay_the_entries_they_are(tmp_path: Path) -> None:
    lines = ["2026-11-20 10:00:00,000 ERROR no", "Traceback (most recent call last):", '  File "a.py", line 1, in b']
    batch = Reading(tmp_path, parse="python", level="message").of(*(("app", line) for line in lines))["app"]
    assert batch.records() == [line.encode() for line in lines]
    assert batch.severities is not None
    assert batch.severities[0] == 17


def test_an_expression_of_ones_own_names_the_fields_and_the_level(tmp_path: Path) -> None:
    reading = Reading(tmp_path, parse=Regex(regex=r"^\[(?P<level>\w+)\] (?P<message>.*)$"), level="message")
    batch = reading.of(("app", "[ERROR] no"), ("app", "something else"))["app"]
    assert batch.severities == bytes([17, 9])
    assert reading.meter.value(UNPARSED, ("journal", "regex")) == 1


def test_a_unit_that_seemed_to_be_of_no_format_is_looked_at_again(tmp_path: Path) -> None:
    reading = Reading(tmp_path, parse="auto")
    plain = [("app", f"starting part {number} of the thing.") for number in range(1000)]
    for _ in range(LOOKED_AT_AGAIN_AFTER // 1000 + 1):
        assert reading.of(*plain)["app"].format == ""
    assert reading.of(*[("app", INFO)] * 200)["app"].format == "json"


def test_a_fault_in_a_format_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LookupError("a fault")

    monkeypatch.setattr(type(format_of("json")), "columns", fail)
    batch = Reading(tmp_path, parse="json", level="message").of(("app", ERROR))["app"]
    assert (batch.records(), batch.severities) == ([ERROR.encode()], b"\x09")


def test_options_that_cannot_work_are_refused() -> None:
    assert [key for key, _ in JournalOptions(parse=Regex(regex="(")).faults()] == ["parse.regex"]
    assert [key for key, _ in JournalOptions(level="message").faults()] == ["level"]
    assert list(JournalOptions(parse="auto", level="message").faults()) == []
