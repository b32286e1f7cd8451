"""This file is log records in the form in which Loki takes them, compressed once and never touched again.

A request is snappy over protobuf. Both may be put together from parts: repeated fields of a message may be
concatenated, and so may the elements of snappy blocks, whose copies only ever look back within their own part
(google/snappy format_description.txt). So a batch that only Loki will get is encoded when it is stored, and a
request is such parts behind a few bytes that name the stream:

    request   varint: bytes of all below, uncompressed
              literal "0a <length of stream> 0a <length> {labels}" · elements of one batch · elements of the next …
    elements  snappy of entries, as agent.wire.loki draws them, without the length that a whole snappy block begins with
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, overload

import cramjam
from msgspec import Struct

from agent.batch import Batch, Labels, Logs, Origin
from agent.wire import loki
from agent.wire.lokitimes import NANOSECONDS
from agent.wire.protobuf import field, varint

if TYPE_CHECKING:
    from collections.abc import Iterator


MOST_SHIFT = 63


class Entries(Struct, frozen=True):
    """A batch of logs as entries, ``entry_bytes`` before compression; its lines had ``size_bytes``.

    ``own_times`` says that the entries' times are the records' own, and ``beside`` that there is metadata in them: the
    records' own, and the level of each of the ``severities``, which are kept because a level is four of them.
    """

    source: str
    labels: Labels
    count: int
    size_bytes: int
    entry_bytes: int
    first_time_ns: int
    elements: bytes
    origin: Origin | None = None
    format: str = ""
    own_times: bool = False
    beside: bool = False
    severities: bytes | None = None

    signal: Literal["logs"] = "logs"

    def select(self, keep: Sequence[int]) -> Logs:
        """The records at ``keep`` (ascending), no longer as entries."""
        return opened(self).select(keep)


def encode(batch: Logs) -> Entries:
    """The batch as entries."""
    beside = bool(batch.severities is not None or batch.metadata)
    plain = batch.times_ns is None and not beside
    entry_bytes, elements = compressed(loki.plain_entries(batch) if plain else loki.own_entries(batch))
    return Entries(
        batch.source,
        batch.labels,
        batch.count,
        len(batch.block),
        entry_bytes,
        batch.first_time_ns,
        elements,
        batch.origin,
        batch.format,
        own_times=batch.times_ns is not None,
        beside=beside,
        severities=batch.severities,
    )


def opened(entries: Entries) -> Logs:
    """The batch as it was; bytes that were not UTF-8 stay replaced, and metadata as Loki takes it.

    Raises ValueError for anything else.
    """
    try:
        raw = bytes(cramjam.snappy.decompress_raw(varint(entries.entry_bytes) + entries.elements))
    except cramjam.DecompressionError as error:
        raise ValueError(f"entries do not decompress: {error}") from error
    found = list(_entries(raw))
    if len(found) != entries.count:
        raise ValueError(f"{len(found)} entries, expected {entries.count}")
    lines = [entry.line for entry in found]
    separator = b"\n" if not any(b"\n" in line for line in lines) else _separator(raw)
    return Logs(
        source=entries.source,
        labels=entries.labels,
        block=b"".join(line + separator for line in lines),
        count=entries.count,
        separator=separator,
        first_time_ns=entries.first_time_ns,
        times_ns=_times(found) if entries.own_times else None,
        severities=entries.severities,
        metadata=dict(_own_metadata(found, entries.severities or bytes(entries.count))) if entries.beside else {},
        origin=entries.origin,
        format=entries.format,
    )


def _times(found: Sequence[_Entry]) -> array[int]:
    try:
        return array("q", (entry.time_ns for entry in found))
    except OverflowError:
        raise ValueError("an entry has a time that is none") from None


def _own_metadata(found: Sequence[_Entry], severities: bytes) -> Iterator[tuple[int, Labels]]:
    for index, (entry, severity) in enumerate(zip(found, severities, strict=True)):
        own = entry.metadata[len(loki.level_pair(severity)) :]
        if own:
            yield index, own


Sendable = Batch | Entries
"""What a lane finds in the spool."""


@overload
def in_lines(batch: Logs | Entries) -> Logs: ...


@overload
def in_lines(batch: Sendable) -> Batch: ...


def in_lines(batch: Sendable) -> Batch:
    """The batch as any destination knows it; what is kept as entries becomes lines again."""
    return opened(batch) if isinstance(batch, Entries) else batch


def compressed(pieces: Iterable[bytes]) -> tuple[int, bytes]:
    """The bytes of the pieces together, and their elements: snappy without the length that a block begins with.

    A piece is compressed while it is still in the processor's cache, which costs a fifth less than all of them at once.
    """
    size = 0
    elements = []
    for piece in pieces:
        size += len(piece)
        elements.append(memoryview(cramjam.snappy.compress_raw(piece))[len(varint(len(piece))) :])
    return size, b"".join(elements)


def push_request(batches: Iterable[Logs | Entries], structured_metadata: bool = True) -> list[bytes]:
    """A compressed ``PushRequest`` as its parts, in order."""
    parts: list[bytes] = []
    whole = 0
    for stream, members in loki.by_stream(batches, structured_metadata).items():
        selector = field(1, stream.selector)
        bodies: list[bytes] = []
        size = len(selector)
        for batch in members:
            entry_bytes, elements = _elements(batch, stream.beside != (), structured_metadata)
            size += entry_bytes
            bodies.append(elements)
        head = b"\x0a" + varint(size) + selector
        whole += len(head) - len(selector) + size
        parts += (_literal(head), *bodies)
    return [varint(whole), *parts]


def _elements(batch: Logs | Entries, has_beside: bool, structured_metadata: bool) -> tuple[int, bytes]:
    if isinstance(batch, Entries):
        if not has_beside and (structured_metadata or not batch.beside):
            return batch.entry_bytes, batch.elements
        batch = opened(batch)
    return compressed(loki.entries(batch, structured_metadata))


def _literal(data: bytes) -> bytes:
    """One snappy literal element of less than 64 KiB."""
    length = len(data) - 1
    if length < 60:
        return bytes((length << 2,)) + data
    return bytes((61 << 2, length & 0xFF, length >> 8)) + data


class _Entry(Struct, frozen=True):
    line: bytes
    time_ns: int
    metadata: Labels


def _entries(raw: bytes) -> Iterator[_Entry]:
    at = 0
    try:
        while at < len(raw):
            start, at = _field(raw, at, 0x12)
            yield _entry(raw, start, at)
    except (IndexError, UnicodeDecodeError):
        raise ValueError("entries end in the middle of one") from None


def _entry(raw: bytes, at: int, end: int) -> _Entry:
    """One entry: its line, its time, and the pairs of its metadata."""
    line, after_line = _field(raw, at, 0x12)
    time, at = _field(raw, after_line, 0x0A)
    nanos, seconds = time + 1, time + 7
    pairs = []
    while at < end:
        pair, at = _field(raw, at, 0x1A)
        name, after_name = _field(raw, pair, 0x0A)
        value, _ = _field(raw, after_name, 0x12)
        pairs.append((raw[name:after_name].decode(), raw[value:at].decode()))
    time_ns = _varint(raw, seconds)[0] * NANOSECONDS + _varint(raw, nanos)[0]
    return _Entry(raw[line:after_line], time_ns, tuple(pairs))


def _field(raw: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the value of the field at ``at`` begins and ends."""
    if raw[at] != tag:
        raise ValueError(f"field {raw[at]:#x} is not an entry's")
    length, start = _varint(raw, at + 1)
    return start, start + length


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where its bytes end."""
    shift = value = 0
    while True:
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return value, at
        shift += 7
        if shift > MOST_SHIFT:
            raise ValueError("a number of more than 64 bits")


def _separator(raw: bytes) -> bytes:
    for candidate in (b"\x1e", b"\x1f", b"\0"):
        if candidate not in raw:
            return candidate
    number = 0
    while (candidate := b"\x1e%x\x1e" % number) in raw:
        number += 1
    return candidate
