"""This file encodes log batches as the entries of Loki's push request, or as a request in JSON.

Source: grafana/loki pkg/push/push.proto and docs/sources/reference/loki-http-api.md. What one entry looks like here:

    12 <entry length> 12 <line length>  LINE  0a 0c 10 n0 n1  n2 n3 n4 08 s0 s1 s2 s3 s4 [1a <length> METADATA]…
    └─ head: by the line's length ───┘        └─ low ──────┘  └─ tail ────────────────────────────────────────┘

Fields of a protobuf message may come in any order and varints may be padded. So the line stands before its time, and
the nanoseconds (five bytes) before the seconds (five bytes): the low piece (14 bits of the nanoseconds) comes from a
table, and the tail is the same for all records of one window, the up to 16,384 nanoseconds that share their high bits
and their second. Records are a nanosecond apart, so a whole window costs a few slice assignments done by C, and a
record costs no Python of its own. Records that bring their own times, severities or metadata are put together column
by column (agent/wire/lokitimes.py has the times).
"""

from __future__ import annotations

import functools
import re
from itertools import repeat
from operator import add, getitem
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from agent.wire.lokilabels import Stream, cut, label_name, stream_of
from agent.wire.lokitimes import NANOSECONDS, TIMESTAMP, TIMESTAMP_BYTES, timestamps
from agent.wire.protobuf import field, padded_varint, varint
from agent.wire.records import pieces
from agent.wire.severity import level_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.batch import Labels, Logs

WINDOW_NS: Final = 1 << 14
CACHED_HEADS: Final = 4096
BULK_RECORDS: Final = 1024
FEW_SUFFIX_SIZES: Final = 4
METADATA_VALUE_BYTES: Final = 16384
"""A metadata value is cut here; Loki takes 64 KiB of metadata an entry."""


class _Labelled(Protocol):
    @property
    def labels(self) -> Labels: ...

    @property
    def source(self) -> str: ...

    @property
    def count(self) -> int: ...


L = TypeVar("L", bound=_Labelled)

_low_pieces_of: Final = re.compile(b"(?s).{5}").findall


class _Heads(dict[tuple[int, int], bytes]):
    """Tags and lengths in front of a line, by the bytes of the line and of what follows its time.

    Remembered for the lengths lines usually have: a table of every length would cost more than it saves.
    """

    def __missing__(self, sizes: tuple[int, int]) -> bytes:
        line_bytes, suffix_bytes = sizes
        inner = b"\x12" + varint(line_bytes)
        head = b"\x12" + varint(len(inner) + line_bytes + TIMESTAMP_BYTES + suffix_bytes) + inner
        if len(self) >= CACHED_HEADS:
            self.clear()
        self[sizes] = head
        return head


class _LineHeads(dict[int, bytes]):
    """The heads of one suffix, by the bytes of the line alone."""

    def __init__(self, suffix_bytes: int) -> None:
        self.suffix_bytes = suffix_bytes

    def __missing__(self, line_bytes: int) -> bytes:
        head = _HEADS[line_bytes, self.suffix_bytes]
        if line_bytes < CACHED_HEADS:
            self[line_bytes] = head
        return head


class _Seconds(dict[int, bytes]):
    """``seconds`` of a time, its tag included; what lies before 1970 becomes 1970, which Loki refuses as too old."""

    def __missing__(self, second: int) -> bytes:
        if len(self) >= CACHED_HEADS:
            self.clear()
        piece = self[second] = b"\x08" + padded_varint(max(second, 0), 5)
        return piece


_HEADS: Final = _Heads()
_SECONDS: Final = _Seconds()
_line_heads: Final = functools.lru_cache(16)(_LineHeads)


@functools.cache
def _low_table() -> bytes:
    return b"".join(TIMESTAMP + bytes((0x80 | i & 0x7F, 0x80 | i >> 7)) for i in range(WINDOW_NS))


@functools.cache
def _every_low_piece() -> list[bytes]:
    return _low_pieces_of(_low_table())


def _low_pieces(first: int, last: int, bulk: bool) -> list[bytes]:
    """The low pieces of [first, last): made as needed for a few records; the list of all (0.9 MB) serves bulk."""
    return _every_low_piece()[first:last] if bulk else _low_pieces_of(_low_table(), 5 * first, 5 * last)


def by_stream(batches: Iterable[L], structured_metadata: bool = True) -> dict[Stream, list[L]]:
    """The batches by the stream they go to, streams in order of their first batch, empty batches left out."""
    streams: dict[Stream, list[L]] = {}
    for batch in batches:
        if batch.count:
            streams.setdefault(stream_of(batch.labels, batch.source, structured_metadata), []).append(batch)
    return streams


def entries(batch: Logs, structured_metadata: bool = True) -> Iterator[bytes]:
    """The entries of a batch in pieces, in order, each as field 2 of a stream."""
    suffix = _metadata(stream_of(batch.labels, batch.source, structured_metadata).beside)
    plain = batch.times_ns is None and not (structured_metadata and (batch.severities or batch.metadata))
    if plain:
        yield from plain_entries(batch, suffix)
        return
    yield from own_entries(batch, suffix, structured_metadata)


def plain_entries(batch: Logs, suffix: bytes = b"") -> Iterator[bytes]:
    """Entries of nothing but lines, a nanosecond apart; ``suffix`` is the metadata of each."""
    first = 0
    for lines in pieces(batch):
        yield from _at_rising_times(lines, batch.first_time_ns + first, suffix, batch.count >= BULK_RECORDS)
        first += len(lines)


def own_entries(batch: Logs, suffix: bytes = b"", structured_metadata: bool = True) -> Iterator[bytes]:
    """Entries with times and metadata of their own; ``suffix`` is the metadata that all of them have as well."""
    first = 0
    for lines in pieces(batch):
        last = first + len(lines)
        times = _times(batch, first, last)
        if structured_metadata and batch.severities is not None and not batch.metadata:
            yield _at_own_times(lines, times, *_levelled(lines, batch.severities[first:last], suffix))
        else:
            suffixes = _suffixes(batch, first, last, suffix) if structured_metadata else [b""] * len(lines)
            yield _at_own_times(lines, times, _heads_of(lines, suffixes), suffixes)
        first = last


def _at_rising_times(lines: Sequence[bytes], time_ns: int, suffix: bytes, bulk: bool) -> Iterator[bytes]:
    """Entries a nanosecond apart, one piece of bytes for each window."""
    head_of = _line_heads(len(suffix)).__getitem__
    first, end = 0, len(lines)
    while first < end:
        second, nanos = divmod(time_ns + first, NANOSECONDS)
        low = nanos & WINDOW_NS - 1
        count = min(end - first, WINDOW_NS - low, NANOSECONDS - nanos)
        out = [padded_varint(nanos >> 14, 3) + _SECONDS[second] + suffix] * (4 * count)
        window = lines[first : first + count]
        out[0::4] = map(head_of, map(len, window))
        out[1::4] = window
        out[2::4] = _low_pieces(low, low + count, bulk)
        yield b"".join(out)
        first += count


def _at_own_times(
    lines: Sequence[bytes], times_ns: Sequence[int], heads: Iterable[bytes], suffixes: Iterable[bytes]
) -> bytes:
    """Entries each with its time and its metadata, the columns made one after the other."""
    out = [b""] * (4 * len(lines))
    out[0::4] = heads
    out[1::4] = lines
    out[2::4] = timestamps(times_ns)
    out[3::4] = suffixes
    return b"".join(out)


def _levelled(lines: Sequence[bytes], severities: bytes, suffix: bytes) -> tuple[Iterable[bytes], Iterable[bytes]]:
    """Heads and metadata of entries that have a level and no metadata of their own."""
    levels = {number: suffix + _level_metadata(number) for number in set(severities)}
    tables = {number: _line_heads(len(level)) for number, level in levels.items()}
    heads = map(getitem, map(tables.__getitem__, severities), map(len, lines))
    return heads, map(levels.__getitem__, severities)


def _heads_of(lines: Sequence[bytes], suffixes: Sequence[bytes]) -> Iterable[bytes]:
    """The heads of entries with suffixes of any lengths; there are few lengths where they tell levels alone."""
    sizes = set(map(len, suffixes))
    if len(sizes) > FEW_SUFFIX_SIZES:
        return map(_HEADS.__getitem__, zip(map(len, lines), map(len, suffixes), strict=True))
    tables = {size: _line_heads(size) for size in sizes}
    return map(getitem, map(tables.__getitem__, map(len, suffixes)), map(len, lines))


def times_of(batch: Logs) -> Sequence[int]:
    """The times of all records of ``batch`` as they are sent, in nanoseconds."""
    return _times(batch, 0, batch.count)


def metadata_of(batch: Logs) -> dict[int, Labels]:
    """What is sent beside each record that has metadata of its own, by its index: of the stream, level, and its own."""
    beside = stream_of(batch.labels, batch.source).beside
    levels = batch.severities or bytes(batch.count)
    return {
        index: (*beside, *level_pair(levels[index]), *((label_name(n), cut(v, METADATA_VALUE_BYTES)) for n, v in own))
        for index, own in batch.metadata.items()
    }


def _times(batch: Logs, first: int, last: int) -> Sequence[int]:
    if batch.times_ns is None:
        return range(batch.first_time_ns + first, batch.first_time_ns + last)
    return batch.times_ns[first:last]


def _suffixes(batch: Logs, first: int, last: int, suffix: bytes) -> list[bytes]:
    """The metadata of each of the records [first, last), encoded: the stream's, the level, and the record's own."""
    if batch.severities is None:
        suffixes = [suffix] * (last - first)
    else:
        numbers = batch.severities[first:last]
        levels = {number: suffix + _level_metadata(number) for number in set(numbers)}
        suffixes = list(map(levels.__getitem__, numbers))
    if batch.metadata:
        own = list(map(batch.metadata.get, range(first, last), repeat(())))
        encoded = {pairs: _metadata(pairs) for pairs in set(own)}
        suffixes = list(map(add, suffixes, map(encoded.__getitem__, own)))
    return suffixes


@functools.cache
def _level_metadata(severity: int) -> bytes:
    return _metadata(level_pair(severity))


@functools.cache
def level_pair(severity: int) -> Labels:
    """What is sent beside a record of that severity."""
    name = level_of(severity)
    return (("level", name),) if name else ()


def _metadata(pairs: Labels) -> bytes:
    return b"".join(
        field(3, field(1, label_name(name).encode()) + field(2, cut(value, METADATA_VALUE_BYTES).encode()))
        for name, value in pairs
    )


def encode_json(batches: Iterable[Logs], structured_metadata: bool = True) -> bytes:
    """The same request as JSON: ``{"streams": [{"stream": {…}, "values": [["<ns>", "line", {…}], …]}]}``."""
    import orjson  # protobuf, which is the rule, does without it

    streams = (
        b'{"stream":'
        + orjson.dumps(dict(stream.labels))
        + b',"values":['
        + b",".join(part for batch in members for part in _values(batch, stream, structured_metadata))
        + b"]}"
        for stream, members in by_stream(batches, structured_metadata).items()
    )
    return b'{"streams":[' + b",".join(streams) + b"]}"


def _values(batch: Logs, stream: Stream, structured_metadata: bool) -> Iterator[bytes]:
    import orjson

    first = 0
    for lines in pieces(batch):
        last = first + len(lines)
        times = map(str, map(max, _times(batch, first, last), repeat(0)))
        texts = map(bytes.decode, lines)
        if structured_metadata and (stream.beside or batch.severities or batch.metadata):
            rows = list(zip(times, texts, _objects(batch, first, last, stream), strict=True))
            yield orjson.dumps(rows)[1:-1]
        else:
            yield orjson.dumps(list(zip(times, texts, strict=True)))[1:-1]
        first = last


def _objects(batch: Logs, first: int, last: int, stream: Stream) -> list[dict[str, str]]:
    """The metadata of each of the records [first, last), as objects; those alike share one."""
    beside = dict(stream.beside)
    numbers = batch.severities[first:last] if batch.severities else bytes(last - first)
    levels = {number: beside | dict(level_pair(number)) for number in set(numbers)}
    objects = list(map(levels.__getitem__, numbers))
    for place, index in enumerate(range(first, last) if batch.metadata else ()):
        own = {label_name(name): cut(value, METADATA_VALUE_BYTES) for name, value in batch.metadata.get(index, ())}
        objects[place] = objects[place] | own
    return objects
