"""What holds for every format, whatever the bytes: never an exception, a value for each record, plain fields."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.wire.format import Format, Moment
from agent.wire.formats import FORMATS, format_of
from tests.wire.formats import reference

MOMENT = Moment(1_795_197_600 * 10**9, UTC)
SEPARATORS = (b"\n", b"\x1e", b"\0", b"\x1e0\x1d")


def pieces_of_real_logs() -> list[bytes]:
    """Lines as programs write them, cut at their spaces: what parsers take for what it looks like."""
    lines: set[bytes] = set()
    for name in reference.READERS:
        lines.update((reference.LOGS / name).read_bytes().split(b"\n")[:12])
    return sorted({piece for line in lines for piece in (line, *line[:200].split(b" ")) if piece})


PIECES = pieces_of_real_logs()
RECORDS = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(PIECES),
    st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=8).map(b" ".join),
    st.lists(st.sampled_from(PIECES), max_size=4).map(b"\n".join),
)


def logs_of(records: list[bytes], separator: bytes) -> Logs:
    """A batch of records, of which none holds the separator."""
    records = [record.replace(separator, b"").replace(separator[:1], b"") for record in records]
    return Logs("file", (), b"".join(record + separator for record in records), len(records), separator)


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_plain(each) for name, each in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


each_format = pytest.mark.parametrize("found", [format_of(name) for name in FORMATS], ids=list(FORMATS))


def test_a_format_is_called_what_the_catalogue_calls_it() -> None:
    assert [format_of(name).name for name in FORMATS] == list(FORMATS)


@each_format
@settings(max_examples=60, deadline=None)
@given(records=st.lists(RECORDS, max_size=6), separator=st.sampled_from(SEPARATORS))
@example(records=[b"", b""], separator=b"\n")
@example(records=[b"Nov 20, 2026 4:59:20 PM shop.Jul pay", b"WARNING: no price"], separator=b"\n")
@example(records=[b"Exception in thread Thread-1:", b"Traceback (most recent call last):"], separator=b"\n")
@example(records=[b"/srv/app.js:12", b"boom()", b"^"], separator=b"\n")
def test_any_bytes_give_a_time_and_a_severity_for_each_record(
    found: Format, records: list[bytes], separator: bytes
) -> None:
    logs = logs_of(records, separator)
    columns = found.columns(logs, MOMENT)
    if columns.times_ns is not None:
        assert len(columns.times_ns) == logs.count
    if columns.severities is not None:
        assert len(columns.severities) == logs.count
        assert all(severity <= 24 for severity in columns.severities)
    assert 0 <= columns.unparsed <= logs.count


@each_format
@settings(max_examples=60, deadline=None)
@given(record=RECORDS)
def test_any_bytes_give_plain_fields_or_none(found: Format, record: bytes) -> None:
    fields = found.fields(record)
    assert fields is None or is_plain(dict(fields))
    assert found.matches(record) in (True, False)


@each_format
@settings(max_examples=40, deadline=None)
@given(records=st.lists(RECORDS, min_size=1, max_size=6), separator=st.sampled_from(SEPARATORS[:3]))
def test_what_is_read_of_a_record_does_not_depend_on_its_neighbours(
    found: Format, records: list[bytes], separator: bytes
) -> None:
    logs = logs_of(records, separator)
    together = found.columns(logs, MOMENT)
    alone = [found.columns(logs_of([record], separator), MOMENT) for record in logs.records()]
    if together.times_ns is not None:
        assert list(together.times_ns) == [each.times_ns[0] if each.times_ns else 0 for each in alone]
    if together.severities is not None:
        assert list(together.severities) == [each.severities[0] if each.severities else 0 for each in alone]
    assert together.unparsed == sum(each.unparsed for each in alone)


@each_format
@settings(max_examples=40, deadline=None)
@given(block=st.lists(st.sampled_from(PIECES), max_size=12).map(b"\n".join))
def test_records_begin_at_newlines_and_nowhere_else(found: Format, block: bytes) -> None:
    if found.joining is None:
        return
    for each in found.joining.starts.finditer(block):
        assert each[0] == b"\n"
