"""This file writes batches as JSON lines (jsonlines.org): one object a record, UTF-8, each ended by a newline.

    {"time":"2023-11-14T22:13:20.123456789Z","source":"file.nginx","labels":{…},"line":"…",
     "read":"2023-11-14T22:13:21.000000001Z","severity":"info","metadata":{…}}
    {"time":"…","source":"process.errors","labels":{…},"series":"errors_total{code=\\"500\\"}","value":3.0}

``severity`` and ``metadata`` are there where a record has them, ``read`` where ``time`` is what the record itself says:
it is when the record was read. A value that JSON has no number for is the string
``NaN``, ``+Inf`` or ``-Inf``. Every newline inside a record is escaped, so that a line is always one whole record.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import floordiv, itemgetter, mod
from typing import TYPE_CHECKING, Final

import orjson

from agent.batch import Logs, Metrics
from agent.wire.records import pieces
from agent.wire.severity import level_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.batch import Batch, Labels

NANOSECONDS: Final = 1_000_000_000
START: Final = b'{"time":"'
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CACHED_SECONDS: Final = 4096


class _Seconds(dict[int, bytes]):
    """A time up to its fraction, by second since the epoch."""

    def __missing__(self, second: int) -> bytes:
        if len(self) >= _CACHED_SECONDS:
            self.clear()
        text = (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.")
        piece = self[second] = START + text.encode()
        return piece


_SECONDS: Final = _Seconds()
_fraction: Final = b"%09d".__mod__
_WITHOUT_START: Final = itemgetter(slice(len(START), None))


def encode(batch: Batch) -> Iterator[bytes]:
    """The lines of ``batch``, some hundreds of records at a time."""
    return _logs(batch) if isinstance(batch, Logs) else _metrics(batch)


def _logs(batch: Logs) -> Iterator[bytes]:
    between = _between(batch.source, batch.labels) + b'"line":'
    first = 0
    for lines in pieces(batch):
        last = first + len(lines)
        times = range(batch.first_time_ns + first, batch.first_time_ns + last)
        own = times if batch.times_ns is None else batch.times_ns[first:last]
        yield _joined(own, between, list(map(orjson.dumps, map(bytes.decode, lines))), _ends(batch, first, last))
        first = last


def _joined(times_ns: Sequence[int], between: bytes, values: Sequence[bytes], ends: Sequence[bytes]) -> bytes:
    out = [between] * (5 * len(values))
    out[0::5] = map(_SECONDS.__getitem__, map(floordiv, times_ns, repeat(NANOSECONDS)))
    out[1::5] = map(_fraction, map(mod, times_ns, repeat(NANOSECONDS)))
    out[3::5] = values
    out[4::5] = ends
    return b"".join(out)


def _between(source: str, labels: Labels) -> bytes:
    return b'Z","source":' + _text(source) + b',"labels":' + _object(labels) + b","


def _ends(batch: Logs, first: int, last: int) -> list[bytes]:
    """What follows the line of each of the records [first, last)."""
    if batch.severities is None:
        ends = [b"}\n"] * (last - first)
    else:
        by_severity = {number: _severity(number) + b"}\n" for number in set(batch.severities[first:last])}
        ends = list(map(by_severity.__getitem__, batch.severities[first:last]))
    for index, pairs in batch.metadata.items():
        if first <= index < last:
            ends[index - first] = ends[index - first][:-2] + b',"metadata":' + _object(pairs) + b"}\n"
    if batch.times_ns is None:
        return ends
    return list(map(bytes.__add__, _read(range(batch.first_time_ns + first, batch.first_time_ns + last)), ends))


def _read(times_ns: range) -> Iterator[bytes]:
    """When each record was read, for those that say a time of their own."""
    starts = map(_SECONDS.__getitem__, map(floordiv, times_ns, repeat(NANOSECONDS)))
    seconds = map(_WITHOUT_START, starts)
    return map(b',"read":"%s%09dZ"'.__mod__, zip(seconds, map(mod, times_ns, repeat(NANOSECONDS)), strict=True))


def _severity(number: int) -> bytes:
    level = level_of(number)
    return b',"severity":"' + level.encode() + b'"' if level else b""


def _metrics(batch: Metrics) -> Iterator[bytes]:
    count = batch.count
    between = _between(batch.source, batch.labels)
    values = [b'"series":' + _text(series.decode(errors="replace")) + b',"value":' for series in batch.series]
    ends = [_number(value) + b"}\n" for value in batch.values]
    yield _joined([batch.first_time_ns] * count, between, values, ends)


def _number(value: float) -> bytes:
    if math.isfinite(value):
        return orjson.dumps(value)
    return b'"NaN"' if math.isnan(value) else b'"+Inf"' if value > 0 else b'"-Inf"'


def _text(text: str) -> bytes:
    return orjson.dumps(text.encode(errors="surrogatepass").decode(errors="replace"))


def _object(pairs: Labels) -> bytes:
    return b"{" + b",".join(_text(name) + b":" + _text(value) for name, value in pairs) + b"}"
