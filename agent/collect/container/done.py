"""This file keeps what was handed on of a block that became two batches, when only the first of them was committed.

    fd00:2a1f:18c3/stdout      [4096, 310, "9f86d081884c7d65"]

The position of a file moves with the last batch of a block. An agent that is killed between the two reads the block
again; it then leaves out what stdout wrote among the first 310 lines from byte 4096 on, if the first of them begins
as it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Origin, Position
from agent.collect.file.identity import Fingerprint
from agent.wire.containerlines import NEWLINE, STREAMS, Parts

HEAD_BYTES: Final = 256
MOST: Final = 1000
MARK: Final = "/"
"""What stands between the key of a file and the name of a stream."""


class _Mark(Struct, frozen=True, array_like=True):
    start: int
    lines: int
    head: str

    @classmethod
    def of(cls, start: int, lines: int, block: bytes) -> _Mark:
        return cls(start, lines, Fingerprint.of(block[: min(HEAD_BYTES, block.index(NEWLINE))]).digest)

    def goes_on_at(self, start: int, block: bytes) -> bool:
        """Whether ``block``, which begins at ``start``, is what it was taken of, or goes on right behind that."""
        return self.start == start and self.head in ("", _Mark.of(start, 0, block).head)


class Done:
    """What was handed on, by the key of a file and the name of a stream."""

    def __init__(self, positions: Mapping[str, str]) -> None:
        self._marks: dict[str, _Mark] = {}
        self._moved: dict[str, str | None] = {}
        for key, value in positions.items():
            try:
                if MARK in key:
                    self._marks[key] = msgspec.json.decode(value, type=_Mark)
            except msgspec.DecodeError:
                self._moved[key] = None
        for key in list(self._marks)[:-MOST]:  # of files that were gone when the agent was there again
            del self._marks[key]
            self._moved[key] = None

    def without(self, parts: Parts, origin: Origin, block: bytes) -> Parts:
        """The lines of a block without those that were handed on before."""
        before: dict[str, int] = {}
        for stream in STREAMS if self._marks else ():
            key = origin.stream + MARK + stream
            mark = self._marks.pop(key, None)
            if mark is None:
                continue
            self._moved[key] = None
            if mark.goes_on_at(origin.start, block):
                before[stream] = mark.lines
            if stream in before and mark.lines > len(parts.texts):
                rest = self._marks[key] = _Mark(origin.end, mark.lines - len(parts.texts), "")
                self._moved[key] = msgspec.json.encode(rest).decode()
        return _left(parts, before) if before else parts

    def first(self, stream: str, origin: Origin, lines: int, block: bytes) -> Position:
        """The position of a batch that another one of its block follows."""
        key = origin.stream + MARK + stream
        self._moved[key] = None
        return Position(key, msgspec.json.encode(_Mark.of(origin.start, lines, block)).decode())

    def settled(self) -> tuple[Position, ...]:
        """What the last batch of a block says of all this."""
        positions = tuple(Position(key, value) for key, value in self._moved.items())
        self._moved.clear()
        return positions


def _left(parts: Parts, before: Mapping[str, int]) -> Parts:
    """The lines but for those of each stream among so many first ones."""
    keep = [i for i, stream in enumerate(parts.streams) if i >= before.get(stream, 0)]
    texts: Any = [parts.texts[i] for i in keep]
    return replace(parts, texts=texts, streams=[parts.streams[i] for i in keep], times=[parts.times[i] for i in keep])
