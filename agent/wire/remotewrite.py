"""This file writes samples as Prometheus remote_write takes them: snappy over protobuf, in one pass of C.

Source: prometheus/docs docs/specs/prw/remote_write_spec.md (1.0) and prometheus/prometheus prompb/{remote,types}.proto.

    WriteRequest  = timeseries 1 … · metadata 3 …
    TimeSeries    = labels 1 {name 1 · value 2} … · samples 2 {value 1: double · timestamp 2: varint}
    one series    ┌─────────────────────────────────────────────┬─────────┬─────────────────┐
                  │ 0a length · labels, sorted by name · 12 10 09 │ 8 bytes │ 10 · 6 bytes    │
                  └─────────────────────────────────────────────┴─────────┴─────────────────┘
                    the same in every request: remembered          value     the batch's time

The time in milliseconds takes six bytes as a varint from 1971 to 2109, so a series always has the same length and
everything before its value is remembered by its bytes. A value never becomes a number here: the marker of a series
that has ended is a NaN told from others by its bits.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.wire.entries import compressed
from agent.wire.protobuf import field, padded_varint, varint

if TYPE_CHECKING:
    from agent.batch import Labels, Metrics

MOST_SERIES: Final = 200_000
"""Series whose labels are remembered; what was used longest ago goes first."""

MOST_LABEL_SETS: Final = 1024
SPARE_SERIES: Final = 1024
"""How many more than twice those of its last batch are remembered of one source."""

SLICE_SERIES: Final = 2048
"""Series handled in one call: what keeps the interpreter's lock stays below 2 ms, and in the processor's cache."""

_TIME_BYTES: Final = 6
_SAMPLE: Final = b"\x12\x10\x09"
_SAMPLE_BYTES: Final = 2 + 16
_VALUES: Final = struct.Struct("8s").iter_unpack
_MILLISECOND: Final = 1_000_000

_NAME: Final = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL: Final = rb"[a-zA-Z_][a-zA-Z0-9_]*"
_VALUE: Final = rb'[^"\\\n]*(?:\\[\\"n][^"\\\n]*)*'
_PAIR: Final = b'%b="%b"' % (_LABEL, _VALUE)
_series: Final = re.compile(b"(%b)(?:{((?:%b(?:,%b)*,?)?)})?" % (_NAME, _PAIR, _PAIR)).fullmatch
_pairs: Final = re.compile(b'(%b)="(%b)"' % (_LABEL, _VALUE)).findall
_escaped: Final = re.compile(rb"\\(.)").sub
_not_in_names: Final = re.compile(r"[^a-zA-Z0-9_]").sub

KINDS: Final[Mapping[str, int]] = {
    "counter": 1,
    "gauge": 2,
    "histogram": 3,
    "gaugehistogram": 4,
    "summary": 5,
    "info": 6,
    "stateset": 7,
}
"""MetricMetadata.MetricType by the names of the text formats; every other is 0, unknown."""


class Encoded(Struct, frozen=True):
    """A request as its parts, in order, and how many samples are in it.

    ``refused`` samples were left out: remote_write has no form for them. ``why`` says it of the first.
    """

    body: Sequence[bytes]
    samples: int
    refused: int = 0
    why: str = ""


class RemoteWrite1:
    """Requests of version 1.0. It remembers labels, and is used by one thread at a time."""

    headers: Final = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }

    def __init__(self, most_series: int = MOST_SERIES) -> None:
        self._most_series = most_series
        self._known: dict[tuple[str, Labels], _Known] = {}

    def encode(self, batches: Sequence[Metrics]) -> Encoded:
        """One request with the samples of ``batches``, in their order."""
        faults: list[str] = []
        size, elements = compressed(self._slices(batches, faults))
        self._forget()
        samples = sum(batch.count for batch in batches) - len(faults)
        return Encoded((varint(size), elements), samples, len(faults), faults[0] if faults else "")

    def encode_metadata(self, families: Mapping[str, tuple[str, str]]) -> Sequence[bytes]:
        """One request that says type and help of each family by its name."""
        size, elements = compressed([b"".join(field(3, _metadata(name, *told)) for name, told in families.items())])
        return varint(size), elements

    @property
    def remembered(self) -> int:
        """Series whose labels are remembered."""
        return sum(map(len, self._known.values()))

    def _slices(self, batches: Sequence[Metrics], faults: list[str]) -> Iterator[bytes]:
        for batch in batches:
            known = self._of(batch)
            for start in range(0, batch.count, SLICE_SERIES):
                yield _encoded(known, batch, start, faults)
            known.forget(batch.series)

    def _of(self, batch: Metrics) -> _Known:
        """What is remembered for the batch's source and labels, now the last that was used."""
        key = batch.source, batch.labels
        known = self._known.pop(key, None)
        if known is None:
            known = _Known(batch.labels)
        self._known[key] = known
        return known

    def _forget(self) -> None:
        remembered = self.remembered
        while self._known and (remembered > self._most_series or len(self._known) > MOST_LABEL_SETS):
            remembered -= len(self._known.pop(next(iter(self._known))))


class _Known(dict[bytes, bytes]):
    """What stands before the value of each series of one source, by the series' bytes; empty for one that cannot be
    sent, which ``refused`` says why."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.refused: dict[bytes, str] = {}
        self._labels = {
            label_name(name): value.encode(errors="surrogatepass").decode(errors="replace").encode()
            for name, value in reversed(labels)
            if value
        }

    def __missing__(self, series: bytes) -> bytes:
        try:
            made = _prefix(series, self._labels)
        except ValueError as error:
            made, self.refused[series] = b"", str(error)
        self[series] = made
        return made

    def forget(self, living: Iterable[bytes]) -> None:
        """Forgets what is not among ``living`` once that is the greater part."""
        kept = list(living)
        if len(self) > 2 * len(kept) + SPARE_SERIES:
            still = {series: self[series] for series in kept}
            self.clear()
            self.update(still)
            self.refused = {series: why for series, why in self.refused.items() if series in still}


def label_name(name: str) -> bytes:
    """``name`` with every character that a label name may not have turned into an underscore."""
    clean = _not_in_names("_", name)
    return (f"_{clean}" if not clean or clean[0].isdigit() else clean).encode()


def _encoded(known: _Known, batch: Metrics, start: int, faults: list[str]) -> bytes:
    """The series from ``start`` on, as many as are handled at once; what is wrong with those left out of it is added
    to ``faults``."""
    end = min(start + SLICE_SERIES, batch.count)
    milliseconds = batch.first_time_ns // _MILLISECOND
    if not 0 <= milliseconds < 1 << 7 * _TIME_BYTES:
        faults += ["its time is before 1970 or after 2109"] * (end - start)
        return b""
    values = batch.values[start:end]
    if sys.byteorder == "big":
        values.byteswap()
    pieces = [b"\x10" + padded_varint(milliseconds, _TIME_BYTES)] * (3 * (end - start))
    pieces[0::3] = map(known.__getitem__, batch.series[start:end])
    pieces[1::3] = chain.from_iterable(_VALUES(values.tobytes()))
    if known.refused:
        for place, series in enumerate(batch.series[start:end]):
            if series in known.refused:
                pieces[3 * place : 3 * place + 3] = b"", b"", b""
                faults.append(known.refused[series])
    return b"".join(pieces)


def _prefix(series: bytes, labels: Mapping[bytes, bytes]) -> bytes:
    """All of a TimeSeries before the value of its one sample. Raises ValueError for a series that has no such form."""
    pairs = parsed(series)
    merged = sorted({**labels, **{name: value for name, value in pairs.items() if value}}.items())
    body = b"".join(field(1, field(1, name) + field(2, value)) for name, value in merged)
    return b"\x0a" + varint(len(body) + _SAMPLE_BYTES) + body + _SAMPLE


def parsed(series: bytes) -> dict[bytes, bytes]:
    """The labels of ``name{label="value",…}``, its name as ``__name__``. Raises ValueError where remote_write has no
    such series: another alphabet, a label twice, no UTF-8."""
    match = _series(series)
    if match is None:
        raise ValueError(f"not a series: {series[:200]!r}")
    found = [(b"__name__", match[1]), *_pairs(match[2] or b"")]
    pairs = {name: _escaped(_meant, value) if b"\\" in value else value for name, value in found}
    if len(pairs) != len(found):
        raise ValueError(f"a label stands twice in {series[:200]!r}")
    try:
        series.decode()
    except UnicodeDecodeError:
        raise ValueError(f"not UTF-8: {series[:200]!r}") from None
    return pairs


def _meant(escaped: re.Match[bytes]) -> bytes:
    return b"\n" if escaped[1] == b"n" else escaped[1]


def _metadata(name: str, kind: str, text: str) -> bytes:
    known = KINDS.get(kind, 0)
    told = b"\x08" + varint(known) if known else b""
    return told + field(2, name.encode(errors="replace")) + (field(4, text.encode(errors="replace")) if text else b"")
