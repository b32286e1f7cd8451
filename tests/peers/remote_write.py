"""This file is the receiving end of remote_write for tests, as strict as the published schema and specification.

    async with open_receiver(WriteJudge(), path=WRITE) as server:     # the receiver of tests.peers.loki
        server.script(answers(429, retry_after="3"))
        …
        assert server.judge.samples == {labels: [(milliseconds, bits), …]}

Source: prometheus/prometheus prompb/remote.proto and types.proto; prometheus/docs specs/prw/remote_write_spec.md. It is
written from those alone and shares nothing with what encodes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import cramjam

WRITE = "/api/v1/write"
Labels = tuple[tuple[str, str], ...]


class NotAsPublished(ValueError):
    """What came is not what the schema or the specification says."""


@dataclass
class WriteJudge:
    """Stores what it is sent like a Prometheus without a head of its own: per series only what is newer, or equal."""

    samples: dict[Labels, list[tuple[int, int]]] = field(default_factory=dict)
    metadata: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[tuple[int, int]] = field(default_factory=list)
    """Of each request: how many samples, how many families."""

    def push(self, body: bytes, content_type: str, encoding: str, tenant: str, wall_ns: int) -> tuple[int, str]:
        """Status and text for one request."""
        try:
            if (content_type, encoding) != ("application/x-protobuf", "snappy"):
                raise NotAsPublished(f"{content_type} in {encoding}")
            series, families = decoded(bytes(cramjam.snappy.decompress_raw(body)))
        except (ValueError, cramjam.DecompressionError) as error:
            return 400, f"not as published: {error}"
        self.requests.append((sum(len(samples) for _, samples in series), len(families)))
        for labels, samples in series:
            stored = self.samples.get(labels)
            if stored and any(each != stored[-1] and each[0] <= stored[-1][0] for each in samples):
                return 400, "out of order sample\n"
        for labels, samples in series:
            stored = self.samples.setdefault(labels, [])
            stored += [each for each in samples if not stored or each != stored[-1]]
        self.metadata |= families
        return 204, ""


def decoded(raw: bytes) -> tuple[list[tuple[Labels, list[tuple[int, int]]]], dict[str, tuple[int, str]]]:
    """A WriteRequest: its series with their samples (milliseconds and the bits of the value), and its families.

    Raises NotAsPublished, or ValueError.
    """
    series, families = [], {}
    for number, kind, value in _fields(raw):
        if (number, kind) == (1, 2):
            series.append(_series(value))
        elif (number, kind) == (3, 2):
            name, told = _family(value)
            families[name] = told
        else:
            raise NotAsPublished(f"WriteRequest has a field {number} of type {kind}")
    return series, families


def _series(raw: bytes) -> tuple[Labels, list[tuple[int, int]]]:
    labels, samples = [], []
    for number, kind, value in _fields(raw):
        if (number, kind) not in ((1, 2), (2, 2)):
            raise NotAsPublished(f"TimeSeries has a field {number} of type {kind}")
        if number == 1:
            labels.append(_label(value))
        else:
            samples.append(_sample(value))
    names = [name for name, _ in labels]
    if names != sorted(set(names)):
        raise NotAsPublished(f"labels {names} are not sorted, or one stands twice")
    if not samples or [at for at, _ in samples] != sorted({at for at, _ in samples}):
        raise NotAsPublished("a series has no samples, or not in the order of their times")
    if not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", dict(labels).get("__name__", "")):
        raise NotAsPublished(f"the metric's name is {dict(labels).get('__name__')!r}")
    return tuple(labels), samples


def _label(raw: bytes) -> tuple[str, str]:
    pair = {number: value.decode() for number, _, value in _fields(raw)}
    if set(pair) != {1, 2} or not pair[2] or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", pair[1]):
        raise NotAsPublished(f"label {pair}")
    return pair[1], pair[2]


def _sample(raw: bytes) -> tuple[int, int]:
    found = {(number, kind): value for number, kind, value in _fields(raw)}
    if set(found) != {(1, 1), (2, 0)}:
        raise NotAsPublished(f"Sample has fields {set(found)}")
    return _number(found[2, 0]), struct.unpack("<Q", found[1, 1])[0]


def _family(raw: bytes) -> tuple[str, tuple[int, str]]:
    found = {number: value for number, _, value in _fields(raw)}
    if not set(found) <= {1, 2, 4, 5} or 2 not in found:
        raise NotAsPublished(f"MetricMetadata has fields {set(found)}")
    return found[2].decode(), (_number(found.get(1, b"\0")), found.get(4, b"").decode())


def _fields(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire type and bytes of each field."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        number, kind = _number(key) >> 3, _number(key) & 7
        if kind == 0:
            value, at = _varint(raw, at)
        elif kind == 1:
            value, at = raw[at : at + 8], at + 8
        elif kind == 2:
            length, at = _varint(raw, at)
            end = at + _number(length)
            value, at = raw[at:end], end
        else:
            raise NotAsPublished(f"wire type {kind}")
        if at > len(raw):
            raise NotAsPublished("a field ends behind its message")
        yield number, kind, value


def _varint(raw: bytes, at: int) -> tuple[bytes, int]:
    start = at
    while at < len(raw) and raw[at] & 0x80:
        at += 1
    return raw[start : at + 1], at + 1


def _number(varint: bytes) -> int:
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(varint))
