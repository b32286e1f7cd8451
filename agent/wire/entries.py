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

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, overload

import cramjam
from msgspec import Struct

from agent.batch import Batch, Labels, Logs, Origin
from agent.wire import loki
from agent.wire.protobuf import field, varint

if TYPE_CHECKING:
    from collections.abc import Iterator


class Entries(Struct, frozen=True):
    """A batch of logs as entries, ``entry_bytes`` before compression; its lines had ``size_bytes``."""

    source: str
    labels: Labels
    count: int
    size_bytes: int
    entry_bytes: int
    first_time_ns: int
    elements: bytes
    origin: Origin | None = None

    signal: Literal["logs"] = "logs"

    def select(self, keep: Sequence[int]) -> Logs:
        """The records at ``keep`` (ascending), no longer as entries."""
        return opened(self).select(keep)


def encode(batch: Logs) -> Entries | None:
    """The batch as entries, or None where its records have more to them than their lines."""
    if batch.times_ns is not None or batch.severities is not None or batch.metadata:
        return None
    entry_bytes, elements = compressed(loki.plain_entries(batch))
    return Entries(
        batch.source,
        batch.labels,
        batch.count,
        len(batch.block),
        entry_bytes,
        batch.first_time_ns,
        elements,
        batch.origin,
    )


def opened(entries: Entries) -> Logs:
    """The batch as it was; bytes that were not UTF-8 stay replaced. Raises ValueError for anything else."""
    try:
        raw = bytes(cramjam.snappy.decompress_raw(varint(entries.entry_bytes) + entries.elements))
    except cramjam.DecompressionError as error:
        raise ValueError(f"entries do not decompress: {error}") from error
    lines = list(_lines(raw))
    if len(lines) != entries.count:
        raise ValueError(f"{len(lines)} entries, expected {entries.count}")
    separator = b"\n" if not any(b"\n" in line for line in lines) else _separator(raw)
    return Logs(
        source=entries.source,
        labels=entries.labels,
        block=b"".join(line + separator for line in lines),
        count=entries.count,
        separator=separator,
        first_time_ns=entries.first_time_ns,
        origin=entries.origin,
    )


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
        if not has_beside:
            return batch.entry_bytes, batch.elements
        batch = opened(batch)
    return compressed(loki.entries(batch, structured_metadata))


def _literal(data: bytes) -> bytes:
    """One snappy literal element of less than 64 KiB."""
    length = len(data) - 1
    if length < 60:
        return bytes((length << 2,)) + data
    return bytes((61 << 2, length & 0xFF, length >> 8)) + data


def _lines(raw: bytes) -> Iterator[bytes]:
    at = 0
    try:
        while at < len(raw):
            length, at = _length(raw, at)
            end = at + length
            length, start = _length(raw, at)
            yield raw[start : start + length]
            at = end
    except IndexError:
        raise ValueError("entries end in the middle of one") from None


def _length(raw: bytes, at: int) -> tuple[int, int]:
    """The length in the field at ``at``, and where its bytes begin."""
    if raw[at] != 0x12:
        raise ValueError(f"field {raw[at]:#x} is not an entry's")
    shift = value = 0
    while True:
        at += 1
        value |= (raw[at] & 0x7F) << shift
        if raw[at] < 0x80:
            return value, at + 1
        shift += 7


def _separator(raw: bytes) -> bytes:
    for candidate in (b"\x1e", b"\x1f", b"\0"):
        if candidate not in raw:
            return candidate
    number = 0
    while (candidate := b"\x1e%x\x1e" % number) in raw:
        number += 1
    return candidate
