"""This file is what ``spool export`` writes and ``spool replay`` reads: one JSON object a record, nothing of it lost.

    {"signal":"logs","source":"file.nginx","time_ns":"1700000000000000001","labels":{…},"line":"…",
     "severity":9,"metadata":{…},"batch":17,"lanes":["loki/logs"]}
    {"signal":"metrics","source":"process.errors","time_ns":"1700000000000000001","labels":{…},
     "series":"errors_total{code=\\"500\\"}","value":3.0,"families":[["errors_total","counter","Errors."]],…}

    read_ns                       beside time_ns where that is what the record itself says: when it was read
    line_base64, series_base64    instead of line, series where these are not UTF-8
    value_bits                    instead of value where JSON has no number for it: the 64 bits in hexadecimal
    families                      with the first record of a batch only
    batch, lanes                  where it was in the spool and who still waited for it
    reason, detail                why it was refused, where it comes out of quarantine

Times are strings because many JSON tools round a number of that size. What may be left out is, and a key that is not
known is let pass, so that other programs may add their own.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from array import array
from itertools import chain, count
from sys import byteorder
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from agent.batch import Batch, Logs, Metrics, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

BATCH_BYTES: Final = 256 << 10
BATCH_RECORDS: Final = 8192
SEPARATORS: Final = (b"\n", b"\0", b"\x1e")


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One exported record."""

    signal: Literal["logs", "metrics"]
    source: str
    time_ns: str | int
    read_ns: str = ""
    labels: dict[str, str] = {}
    line: str | None = None
    line_base64: str | None = None
    severity: int = 0
    metadata: dict[str, str] = {}
    series: str | None = None
    series_base64: str | None = None
    value: float | None = None
    value_bits: str | None = None
    families: tuple[tuple[str, str, str], ...] = ()
    batch: int = 0
    lanes: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""


class ExportedError(ValueError):
    """A line that is no exported record; ``line`` is its number, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Record)


def encode(
    batch: Batch, number: int = 0, lanes: Sequence[str] = (), *, reason: str = "", detail: str = ""
) -> Iterator[bytes]:
    """The lines of ``batch``, each ended by a newline. Raises ValueError where it does not hold what it says."""
    where = {"batch": number, "lanes": tuple(lanes), "reason": reason, "detail": detail}
    records = _of_logs(batch) if isinstance(batch, Logs) else _of_metrics(batch)
    for fields in records:
        yield _ENCODER.encode(Record(**fields, **where)) + b"\n"  # type: ignore[arg-type]  # one dict of two halves


def _of_logs(batch: Logs) -> Iterator[dict[str, object]]:
    records = batch.records()
    if len(records) != batch.count:
        raise ValueError(f"a batch of {batch.source} says it holds {batch.count} records and holds {len(records)}")
    labels, times, severities = dict(batch.labels), batch.times_ns, batch.severities
    for index, record in enumerate(records):
        time_ns = batch.first_time_ns + index if times is None else times[index]
        yield {
            "signal": "logs",
            "source": batch.source,
            "time_ns": str(time_ns),
            "read_ns": "" if times is None else str(batch.first_time_ns + index),
            "labels": labels,
            **_text("line", record),
            "severity": 0 if severities is None else severities[index],
            "metadata": dict(batch.metadata.get(index, ())),
        }


def _of_metrics(batch: Metrics) -> Iterator[dict[str, object]]:
    labels, families = dict(batch.labels), batch.families
    bits = batch.values.tobytes()  # a signalling NaN does not survive arithmetic, so its bytes are copied
    for index, (series, value) in enumerate(zip(batch.series, batch.values, strict=True)):
        number = int.from_bytes(bits[8 * index : 8 * index + 8], byteorder)
        yield {
            "signal": "metrics",
            "source": batch.source,
            "time_ns": str(batch.first_time_ns),
            "labels": labels,
            **_text("series", series),
            **({"value": value} if math.isfinite(value) else {"value_bits": f"{number:016x}"}),
            "families": () if index else families,
        }


def _text(key: str, data: bytes) -> dict[str, str]:
    try:
        return {key: data.decode()}
    except UnicodeDecodeError:
        return {f"{key}_base64": base64.b64encode(data).decode()}


# Reading


def decode(lines: Iterable[bytes]) -> Iterator[tuple[Batch, int]]:
    """Batches of neighbouring records that belong together, each with the number of its last line.

    Logs get their times as a column and no ``first_time_ns``: they are read anew, and happened when they did.
    Raises ExportedError at the first line that is no record, after the batches before it.
    """
    together: list[_Parsed] = []
    size = 0
    last = 0
    for number, line in enumerate(lines, 1):
        try:
            parsed = _parsed(line, number) if line.strip() else None
        except ExportedError:
            if together:
                yield _batch(together), last
            raise
        if parsed is None:
            continue
        full = size + len(parsed.data) > BATCH_BYTES or len(together) >= BATCH_RECORDS
        if together and (full or parsed.kind != together[0].kind):
            yield _batch(together), last
            together, size = [], 0
        together.append(parsed)
        size, last = size + len(parsed.data), number
    if together:
        yield _batch(together), last


class _Parsed(msgspec.Struct, frozen=True):
    """One record with its time as a number and its text as bytes; records of one ``kind`` make a batch."""

    kind: tuple[object, ...]
    record: Record
    time_ns: int
    data: bytes


def _parsed(line: bytes, number: int) -> _Parsed:
    try:
        record = _DECODER.decode(line)
        time_ns = int(record.time_ns)
        if not -(1 << 63) * (record.signal == "logs") <= time_ns < 1 << 63:  # a log may tell of any year
            raise ValueError(f"time_ns {time_ns} is no time")
        if not 0 <= record.severity < 256:
            raise ValueError(f"severity {record.severity} is not between 0 and 24")
        kind: tuple[object, ...] = (record.signal, record.source, tuple(sorted(record.labels.items())))
        if record.signal == "logs":
            return _Parsed(kind, record, time_ns, _data(record.line, record.line_base64, "line"))
        _value(record)
        return _Parsed((*kind, time_ns), record, time_ns, _data(record.series, record.series_base64, "series"))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ExportedError(number, str(error)) from None


def _data(text: str | None, encoded: str | None, key: str) -> bytes:
    if text is not None:
        return text.encode()
    if encoded is None:
        raise ValueError(f"neither {key} nor {key}_base64 is there")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{key}_base64: {error}") from None


def _value(record: Record) -> bytes:
    """The eight bytes of the value, as this machine has them."""
    if record.value is not None:
        return array("d", [record.value]).tobytes()
    if record.value_bits is None:
        raise ValueError("neither value nor value_bits is there")
    if not re.fullmatch("[0-9a-fA-F]{16}", record.value_bits):
        raise ValueError(f"value_bits {record.value_bits!r:.40} is not 16 hexadecimal digits")
    return int(record.value_bits, 16).to_bytes(8, byteorder)


def _batch(together: Sequence[_Parsed]) -> Batch:
    first = together[0].record
    return (_to_logs if first.signal == "logs" else _to_metrics)(together, first)


def _to_logs(together: Sequence[_Parsed], first: Record) -> Logs:
    records = [each.data for each in together]
    separator = _separator(records)
    severities = bytes(each.record.severity for each in together)
    return Logs(
        source=first.source,
        labels=labels_of(first.labels),
        block=b"".join(record + separator for record in records),
        count=len(records),
        separator=separator,
        times_ns=array("q", (each.time_ns for each in together)),
        severities=severities if any(severities) else None,
        metadata={i: labels_of(each.record.metadata) for i, each in enumerate(together) if each.record.metadata},
    )


def _to_metrics(together: Sequence[_Parsed], first: Record) -> Metrics:
    return Metrics(
        source=first.source,
        labels=labels_of(first.labels),
        series=tuple(each.data for each in together),
        values=array("d", b"".join(_value(each.record) for each in together)),
        families=tuple(dict.fromkeys(family for each in together for family in each.record.families)),
        first_time_ns=together[0].time_ns,
    )


def _separator(records: Sequence[bytes]) -> bytes:
    """A separator that none of the records holds, alone or together with its neighbour."""
    wanted = list(records)
    for separator in chain(SEPARATORS, map(b"\0%d\0".__mod__, count(1))):
        block = b"".join(record + separator for record in records)
        if block.split(separator)[:-1] == wanted:
            return separator
    raise AssertionError("there are more separators than bytes in any batch")
