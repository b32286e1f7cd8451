"""Logs that real programs wrote: every record of every sample is read as it was reviewed."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.batch import Logs
from agent.wire.format import Columns, Moment
from agent.wire.formats import format_of
from agent.wire.joining import joined
from tests.wire.formats import reference

MOST_BYTES = 1 << 20


def moment(name: str) -> Moment:
    return Moment(int(reference.NOW.timestamp()) * 10**9, ZoneInfo(reference.ZONES.get(name, "UTC")))


def read(name: str, block: bytes) -> tuple[Logs, Columns]:
    """A block of a sample as records, and what its format says of them."""
    found = format_of(name.partition("/")[0])
    separator, count = b"\n", block.count(b"\n")
    if found.joining is not None:
        block, separator, count = joined(found.joining, block, MOST_BYTES)
    logs = Logs("file", (), block, count, separator)
    return logs, found.columns(logs, moment(name))


@pytest.mark.parametrize("name", reference.READERS)
def test_a_real_log_is_read_as_it_was_reviewed(name: str) -> None:
    expected = json.loads(reference.expected(name).read_text())
    logs, columns = read(name, (reference.LOGS / name).read_bytes())
    fields_of = format_of(name.partition("/")[0]).fields

    records = logs.records()
    assert [each.decode("utf-8", "replace") for each in records] == [each["text"] for each in expected]
    nothing = [0] * len(records)
    assert list(columns.times_ns or nothing) == [each["time_ns"] for each in expected]
    assert list(columns.severities or nothing) == [each["severity"] for each in expected]
    assert [fields_of(each) for each in records] == [each["fields"] for each in expected]
    assert columns.unparsed == [each["fields"] for each in expected].count(None)


@pytest.mark.parametrize("name", reference.READERS)
def test_what_is_expected_of_a_real_log_is_what_a_slow_reader_finds(name: str) -> None:
    expected: list[dict[str, Any]] = json.loads(reference.expected(name).read_text())
    assert reference.read(name) == expected
