"""This file reads what Docker's json-file log driver writes: one object a line, what was printed in ``log``.

    {"log":"first line\\n","stream":"stdout","attrs":{"team":"blue"},"time":"2026-11-20T16:54:32.925692196Z"}
    {"log":"16384 bytes …","stream":"stdout","time":"…"}          no newline: the next of that stream goes on

Source: moby daemon/logger/jsonfilelog/jsonlog/jsonlog.go; seen with 20.10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import Struct

from agent.wire.containerlines import Part, Parts, nanoseconds, slices
from agent.wire.format import Columns, Joining, Moment

if TYPE_CHECKING:
    from agent.batch import Logs


class _Line(Struct, gc=False, frozen=True):
    log: str
    stream: Literal["stdout", "stderr"]
    time: str


class _Whole(Struct, gc=False, frozen=True):
    log: str
    stream: str
    time: str
    attrs: dict[str, str] | None = None


_LINE = msgspec.json.Decoder(_Line)
_WHOLE = msgspec.json.Decoder(_Whole)
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Docker:
    """Unwrapping of json-file lines, and the format of one whole line."""

    name: Final = "docker"
    joining: Joining | None = None

    def parts(self, block: bytes) -> Parts:
        """The lines as columns."""
        decoded: list[_Line] = []
        unparsed = 0
        for piece in slices(block):
            try:
                decoded += _LINE.decode_lines(piece)
            except _FAULTS:
                lines = piece.split(b"\n")
                found = list(_one_by_one(lines[:-1] if not lines[-1] else lines))
                unparsed += sum(not line.time for line in found)
                decoded += found
        texts = [line.log for line in decoded]
        return Parts(texts, [line.stream for line in decoded], [line.time for line in decoded], unparsed)

    def part(self, line: bytes) -> Part | None:
        """What one line says."""
        try:
            decoded = _LINE.decode(line)
        except _FAULTS:
            return None
        return Part(decoded.stream, decoded.log.endswith("\n"), decoded.time)

    def mark(self, stream: str) -> bytes:
        """What stands in a line of that stream: quotation marks inside of ``log`` are escaped."""
        return b'"stream":"%s"' % stream.encode()

    def columns(self, batch: Logs, moment: Moment) -> Columns:
        """The time of each line."""
        lines = list(_one_by_one(batch.records()))
        return Columns(nanoseconds([line.time for line in lines]), None, sum(not line.time for line in lines))

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        """``message``, ``stream``, ``time``, and what the log driver was told to add."""
        try:
            line = _WHOLE.decode(record)
        except _FAULTS:
            return None
        return {**(line.attrs or {}), "message": line.log.rstrip("\r\n"), "stream": line.stream, "time": line.time}

    def matches(self, record: bytes) -> bool:
        """Whether it is an object with exactly what Docker writes first, and its time."""
        return record.startswith(b'{"log":"') and self.part(record) is not None


def _one_by_one(lines: list[bytes]) -> Iterator[_Line]:
    """Each line; one that is none stands there whole, without a time."""
    for line in lines:
        try:
            yield _LINE.decode(line)
        except _FAULTS:
            yield _Line(line.decode(errors="replace") + "\n", "stdout", "")


FORMAT: Final = Docker()
