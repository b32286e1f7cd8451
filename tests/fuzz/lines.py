"""This file is what reads lines and records, each as a target: any bytes are read, or counted as not of the format."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

from agent.batch import Logs, Origin
from agent.clock import Time
from agent.collect.parse import Parser, Stream
from agent.collect.parse_options import Multiline, ParseOptions, Regex
from agent.wire.containerlines import Unwrapping, last_lines, open_from, outputs
from agent.wire.encoding import encoding_of
from agent.wire.format import Columns, Moment
from agent.wire.formats import FORMATS, format_of
from agent.wire.journaljson import Reader, bytes_of, keyword_of, place_of, severity_of, text_of, time_us_of_cursor
from agent.wire.severity import severities_of
from agent.wire.timestamps import epochs_of, layout_of, time_of, times_of
from tests.fakes import context

MOMENT = Moment(1_795_197_600 * 10**9, UTC)
NOW = Time(MOMENT.now_ns, 1000.0)
SEPARATORS = (b"\n", b"\x1e", b"\0", b"\x1e0\x1d")
MOST_FIELDS = 40
"""Of so many records of an input the fields are read."""


def logs_of(data: bytes, separator: bytes = b"\n") -> Logs:
    """Lines as a batch, whatever they hold."""
    records = [record.replace(separator[:1], b"") for record in data.split(b"\n")] if separator != b"\n" else []
    block = b"".join(record + separator for record in records) if records else data.rstrip(b"\n") + b"\n"
    return Logs("file", (), block, block.count(separator), separator)


def hold(columns: Columns, count: int) -> None:
    """What the columns of so many records have to be."""
    assert columns.times_ns is None or (isinstance(columns.times_ns, array) and len(columns.times_ns) == count)
    assert columns.severities is None or (len(columns.severities) == count and max(columns.severities, default=0) <= 24)
    assert 0 <= columns.unparsed <= count


def format_target(name: str) -> Callable[[bytes], None]:
    """Everything that a format can say of records."""
    of = format_of(name)

    def target(data: bytes) -> None:
        if not data:
            return
        logs = logs_of(data[1:], SEPARATORS[data[0] % len(SEPARATORS)])
        hold(of.columns(logs, MOMENT), logs.count)
        for record in logs.records()[:MOST_FIELDS]:
            fields = of.fields(record)
            assert fields is None or all(isinstance(key, str) for key in fields)
            assert of.matches(record) in (True, False)

    return target


REGEX = r"(?P<time>\S+) (?P<level>\w+) (?P<message>.*)"
PARSED: dict[str, Any] = {
    "auto": {"parse": "auto"},
    "start": {"multiline": Multiline(start=r"^\d")},
    "end": {"multiline": Multiline(end=r";$")},
    "both": {"parse": "json", "multiline": Multiline(start=r"^\{", end=r"\}$")},
    "regex": {"parse": Regex(regex=REGEX)},
    **{name: {"parse": name} for name in FORMATS},
}


def parsers() -> list[Parser]:
    """One for each way of parsing there is."""
    given = context(Path("/nonexistent"))
    return [Parser(ParseOptions(timezone="UTC", max_record_bytes=4096, **each), given) for each in PARSED.values()]


def parse_target() -> Callable[[bytes], None]:
    """Lines joined to records and read, block by block as a source does it: no byte goes, none comes."""
    made = parsers()

    def target(data: bytes) -> None:
        if len(data) < 2:
            return
        parser = made[data[0] % len(made)]
        stream, step = parser.stream(), max(1 + data[1] * 16, len(data) // 64)
        data = data[2:].rstrip(b"\n") + b"\n"
        at = end = 0
        taken = b""
        while at < len(data):
            end = data.find(b"\n", min(len(data) - 1, max(end, at) + step)) + 1
            cut = stream.cut(data, at, end)
            assert at <= cut <= end
            if cut == at and end < len(data):
                continue
            cut = end if cut == at else cut
            taken += read(stream, data, at, cut)
            at = cut
        assert taken == data

    return target


def read(stream: Stream, data: bytes, start: int, end: int) -> bytes:
    """The lines again of which the stream made records."""
    block = data[start:end]
    lines = Logs("file", (), block, block.count(b"\n"), origin=Origin("f", start, end))
    logs = stream.read(lines, NOW)
    records = logs.records()
    assert len(records) == logs.count
    hold(Columns(logs.times_ns, logs.severities, 0), logs.count)
    assert logs.times_ns is None or len(set(logs.times_ns)) == logs.count
    return b"".join(record + b"\n" for record in records)


def container_target(unwrapping: Unwrapping) -> Callable[[bytes], None]:
    """Lines of a container engine taken apart, and where they can be."""

    def target(data: bytes) -> None:
        block = data.rstrip(b"\n") + b"\n"
        cut = open_from(unwrapping, block, 0, len(block))
        assert 0 <= cut <= len(block)
        for last in last_lines(unwrapping, block, 0, len(block), 1000, 1000).values():
            assert 0 <= last.begin < last.end <= len(block)
        parts = unwrapping.parts(block)
        assert 0 <= parts.unparsed <= block.count(b"\n")
        for output in outputs(parts, 4096):
            assert output.block.endswith(b"\n")
            assert output.block.count(b"\n") == output.count == len(output.times_ns)

    return target


def journal_target() -> Callable[[bytes], None]:
    """What journalctl prints."""
    reader = Reader(("MESSAGE", "PRIORITY", "__CURSOR", "_SYSTEMD_UNIT"))

    def target(data: bytes) -> None:
        entries = reader.entries(data.rstrip(b"\n") + b"\n")
        assert all(len(column) == entries.count for column in entries.fields.values())
        for name, column in entries.fields.items():
            for value in column[:MOST_FIELDS]:
                text = text_of(value)
                assert isinstance(bytes_of(value), bytes)
                assert severity_of(value) <= 24
                if name == "__CURSOR":
                    place_of(text), time_us_of_cursor(text)
                keyword_of(text)

    return target


def times(data: bytes) -> None:
    """Times and levels of any spelling."""
    texts, seen = data.split(b"\n"), set[str]()
    for text in texts[:MOST_FIELDS]:
        layout = layout_of(text)
        if layout is not None and layout not in seen:
            seen.add(layout)
            assert isinstance(time_of(text, layout, MOMENT), int)
            assert len(times_of(texts, layout, MOMENT)) == len(texts)
    numbers = [int(text) for text in texts if text.isdigit() and len(text) < 30]
    assert len(epochs_of(numbers)) == len(numbers)
    assert len(severities_of(texts)) == len(texts)


ENCODINGS = ("utf-8", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252", "shift_jis", "gb18030", "utf-7")


def encodings(data: bytes) -> None:
    """Text in any encoding is UTF-8 afterwards."""
    if not data:
        return
    encoding = encoding_of(ENCODINGS[data[0] % len(ENCODINGS)]).of(data[1:5])
    end, _ = encoding.whole_lines(data[1:], 0, 100)
    assert 0 <= end <= len(data)
    encoding.last_lines(data[1:], 0, len(data) - 1, 2)
    text = encoding.text(encoding.whole_units(data[1:]), at_start=True)
    text.block.decode()
