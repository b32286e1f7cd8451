"""This file is a batch as the spool keeps it: described by itself, so that it can be salvaged without its row.

    ┌─────────┬────────────────┬────────────┬──────────────────┬───────────────────────────────┐
    │ version │ CRC-32 of what │ header len │ header           │ body: one LZ4 block of        │
    │ u8 = 1  │ follows it     │ u32 LE     │ MessagePack list │ records · times · severities, │
    │         │                │            │                  │ or entries as Loki takes them │
    └─────────┴────────────────┴────────────┴──────────────────┴───────────────────────────────┘

    body of logs       records, each with its separator · times i64 × count · severities u8 × count · metadata
    body of metrics    series, a line feed between them · values f64 × count · families, MessagePack

The LZ4 block starts with its uncompressed length (u32 LE), as LZ4's own tools write it. A header whose
``entry_bytes`` is not 0 says that the body is snappy elements of agent.wire.entries instead. The CRC is there because
SQLite does not checksum pages; it begins with the id of the row (i64 LE, 0 outside of the batch table), so that a
payload that damage has moved to another row does not pass for that row's.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from typing import TypeAlias

import cramjam
import msgspec

from agent.batch import Batch, Labels, Logs, Metrics, Origin, Signal
from agent.wire.entries import Entries, Sendable, in_lines
from agent.wire.entries import encode as entries_of

VERSION = 1
_PREFIX = struct.Struct("<BII")
_LENGTH = struct.Struct("<I")
_ROW_ID = struct.Struct("<q")
_CRC_END = 5


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What stands before the records. Fields are only ever added at the end."""

    signal: Signal
    route: int
    source: str
    labels: Labels
    count: int
    first_time_ns: int
    origin: tuple[str, int, int] | None = None
    separator: bytes = b"\n"
    block_bytes: int = 0
    has_times: bool = False
    has_severities: bool = False
    metadata: tuple[tuple[int, Labels], ...] = ()
    families: tuple[tuple[str, str, str], ...] = ()
    entry_bytes: int = 0
    families_bytes: int = 0
    format: str = ""
    has_beside: bool = False
    packed_severities: bytes = b""
    metadata_bytes: int = 0


Families: TypeAlias = tuple[tuple[str, str, str], ...]
Beside: TypeAlias = dict[int, Labels]

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Header)
_FAMILIES = msgspec.msgpack.Decoder(Families)
_METADATA = msgspec.msgpack.Decoder(Beside)


def to_keep(batch: Batch, as_entries: bool) -> Sendable:
    """The form in which a batch is kept: logs as entries where that is wanted."""
    return entries_of(batch) if as_entries and isinstance(batch, Logs) else batch


def encode(batch: Sendable, route: int, row_id: int = 0) -> bytes:
    """The payload of ``batch`` in row ``row_id``; ``route`` is the id of the lanes that want it."""
    if isinstance(batch, Entries):
        return _sealed(_entries_header(batch, route), batch.elements, row_id)
    header, body = _logs(batch, route) if isinstance(batch, Logs) else _metrics(batch, route)
    return _sealed(header, bytes(cramjam.lz4.compress_block(body)), row_id)


def _sealed(header: Header, compressed: bytes, row_id: int) -> bytes:
    packed = _ENCODER.encode(header)
    crc = zlib.crc32(compressed, zlib.crc32(packed, zlib.crc32(_LENGTH.pack(len(packed)), _begun(row_id))))
    return b"".join((_PREFIX.pack(VERSION, crc, len(packed)), packed, compressed))


def _begun(row_id: int) -> int:
    return zlib.crc32(_ROW_ID.pack(row_id))


def decode_header(payload: bytes, row_id: int = 0) -> Header:
    """The header alone. Raises ValueError where the bytes are not the whole payload of that row."""
    return _open(payload, row_id)[0]


def decode(payload: bytes, row_id: int = 0) -> Batch:
    """The batch, without positions (they were committed beside it). Raises ValueError on anything else."""
    return in_lines(decode_to_send(payload, row_id))


def decode_to_send(payload: bytes, row_id: int = 0) -> Sendable:
    """The batch in the form in which it is kept. Raises ValueError on anything else."""
    header, start = _open(payload, row_id)
    origin = None if header.origin is None else Origin(*header.origin)
    if header.entry_bytes:
        return _to_entries(header, payload[start:], origin)
    body = _unpacked(memoryview(payload)[start:])
    if header.signal == "logs":
        return _to_logs(header, body, origin)
    return _to_metrics(header, body, origin)


def _unpacked(packed: bytes | memoryview) -> bytes:
    try:
        return bytes(cramjam.lz4.decompress_block(packed))
    except (cramjam.DecompressionError, MemoryError, OverflowError) as error:
        raise ValueError(f"body does not decompress: {error}") from error


def _open(payload: bytes, row_id: int) -> tuple[Header, int]:
    if len(payload) < _PREFIX.size:
        raise ValueError(f"payload of {len(payload)} bytes is shorter than its prefix")
    version, crc, length = _PREFIX.unpack_from(payload)
    if version != VERSION:
        raise ValueError(f"payload version {version}, expected {VERSION}")
    if zlib.crc32(memoryview(payload)[_CRC_END:], _begun(row_id)) != crc:
        raise ValueError("payload does not match its checksum")
    start = _PREFIX.size + length
    try:
        return _DECODER.decode(payload[_PREFIX.size : start]), start
    except RecursionError as error:
        raise ValueError(f"header: {error}") from error


def _logs(batch: Logs, route: int) -> tuple[Header, bytes]:
    times = b"" if batch.times_ns is None else batch.times_ns.tobytes()
    metadata = _ENCODER.encode(batch.metadata) if batch.metadata else b""
    columns = times, batch.severities or b"", metadata
    body = b"".join((batch.block, *columns)) if any(columns) else batch.block
    return Header(
        "logs",
        route,
        batch.source,
        batch.labels,
        batch.count,
        batch.first_time_ns,
        _placed(batch.origin),
        batch.separator,
        len(batch.block),
        batch.times_ns is not None,
        batch.severities is not None,
        format=batch.format,
        metadata_bytes=len(metadata),
    ), body


def _entries_header(entries: Entries, route: int) -> Header:
    return Header(
        "logs",
        route,
        entries.source,
        entries.labels,
        entries.count,
        entries.first_time_ns,
        _placed(entries.origin),
        block_bytes=entries.size_bytes,
        has_times=entries.own_times,
        has_severities=entries.severities is not None,
        entry_bytes=entries.entry_bytes,
        format=entries.format,
        has_beside=entries.beside,
        packed_severities=bytes(cramjam.lz4.compress_block(entries.severities)) if entries.severities else b"",
    )


def _metrics(batch: Metrics, route: int) -> tuple[Header, bytes]:
    series = b"\n".join(batch.series)
    families = _ENCODER.encode(batch.families) if batch.families else b""
    return Header(
        "metrics",
        route,
        batch.source,
        batch.labels,
        batch.count,
        batch.first_time_ns,
        _placed(batch.origin),
        block_bytes=len(series),
        families_bytes=len(families),
    ), b"".join((series, batch.values.tobytes(), families))


def _placed(origin: Origin | None) -> tuple[str, int, int] | None:
    return None if origin is None else (origin.key, origin.start, origin.end)


def _to_entries(header: Header, elements: bytes, origin: Origin | None) -> Entries:
    return Entries(
        header.source,
        header.labels,
        header.count,
        header.block_bytes,
        header.entry_bytes,
        header.first_time_ns,
        elements,
        origin,
        header.format,
        own_times=header.has_times,
        beside=header.has_beside,
        severities=_unpacked(header.packed_severities) if header.has_severities else None,
    )


def _to_logs(header: Header, body: bytes, origin: Origin | None) -> Logs:
    at = header.block_bytes
    times: array[int] | None = None
    if header.has_times:
        times = array("q", body[at : at + 8 * header.count])
        at += 8 * header.count
    end = len(body) - header.metadata_bytes
    return Logs(
        source=header.source,
        labels=header.labels,
        block=body if len(body) == header.block_bytes else body[: header.block_bytes],
        count=header.count,
        separator=header.separator,
        first_time_ns=header.first_time_ns,
        times_ns=times,
        severities=body[at:end] if header.has_severities else None,
        metadata=_METADATA.decode(body[end:]) if header.metadata_bytes else dict(header.metadata),
        origin=origin,
        format=header.format,
    )


def _to_metrics(header: Header, body: bytes, origin: Origin | None) -> Metrics:
    at = header.block_bytes
    end = at + 8 * header.count
    return Metrics(
        source=header.source,
        labels=header.labels,
        series=tuple(body[:at].split(b"\n")) if header.count else (),
        values=array("d", body[at:end]),
        families=_FAMILIES.decode(body[end:]) if header.families_bytes else header.families,
        first_time_ns=header.first_time_ns,
        origin=origin,
    )
