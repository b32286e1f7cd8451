"""This file cuts a stream of bytes into syslog messages: RFC 6587, both ways of framing, told apart message by message.

    octet counting      83 <34>1 2003-10-11T22:14:15.003Z …     digits, a space, so many bytes    (3.4.1, RFC 5425 4.3)
    non-transparent     <34>Oct 11 22:14:15 host su: …⏎         up to a line feed, or a NUL       (3.4.2)

A message that begins with digits, a space and ``<`` is counted; any other ends at the next line feed or NUL, which is
what old senders and Python's SysLogHandler put behind each. A carriage return before the end is not a part of it, and
a message of no bytes is none. How the stream is split into reads changes nothing.

Lines that are nothing but lines pass as one block: no work is done for each of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDS: Final = b"\r\n\0"
MOST_LENGTHS: Final = 4096
_BEGIN: Final = ord("<")
SEPARATORS: Final = (b"\n", b"\x1e", b"\x1f", b"\0")

_COUNT: Final = re.compile(rb"([1-9][0-9]{0,6}) <")
"""A count of more digits is none: they are a part of a line."""
_COUNT_BEGUN: Final = re.compile(rb"[1-9][0-9]{0,6} ?\Z")
_COUNTED_NEXT: Final = re.compile(rb"\n(?=[1-9][0-9]{0,6} <)")
_COUNTED_NEXT_OR_NUL: Final = re.compile(rb"[\n\0](?=[1-9][0-9]{0,6} <)")


class Piece(Struct, frozen=True):
    """``count`` messages, each followed by ``separator``, which none of them holds.

    ``bodies``, where they are known, are the messages without the ``<`` that each begins with, the last with its line
    feed: what tells counted messages and lines apart splits a block at the same time.
    """

    block: bytes
    count: int
    separator: bytes = b"\n"
    bodies: list[bytes] | None = None

    def messages(self) -> list[bytes]:
        """The messages, in order."""
        return self.block.split(self.separator)[:-1]

    def divided(self, groups: Sequence[Sequence[int]]) -> list[Piece]:
        """The messages with these numbers, a piece for each group."""
        bodies = self.bodies
        messages: Sequence[bytes] = self.messages() if bodies is None else [*bodies[:-1], bodies[-1][:-1]]
        first, between, last = (b"", self.separator, self.separator) if bodies is None else (b"<", b"\n<", b"\n")
        return [
            Piece(b"%s%s%s" % (first, between.join([messages[i] for i in group]), last), len(group), self.separator)
            for group in groups
        ]


class Framed(Struct):
    """What came of some bytes: the messages in order; how many were too long, and the bytes cut off those; how many
    were not finished when the stream ended."""

    pieces: list[Piece]
    cut: int = 0
    cut_bytes: int = 0
    unfinished: int = 0


class _Ends:
    """Where runs of lines end in some bytes. Looks at all of them once, and then only ahead."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._last = -1
        self._next = _COUNTED_NEXT
        self.bodies: list[bytes] | None = None
        """What follows the < of every line, where every line has one: none is empty then, and none is counted."""

    def of_lines(self, at: int) -> int:
        """Behind the last whole line from ``at`` on before a counted message; ``at`` where there is no whole line."""
        if self._last < 0:
            self._look(at)
        if self._last <= at or self.bodies is not None:
            return max(self._last, at)
        found = self._next.search(self._data, at, self._last + 9)
        return self._last if found is None else found.end()

    def _look(self, at: int) -> None:
        data = self._data
        self._last = data.rfind(b"\n", at) + 1
        nul = data.rfind(b"\0", at) + 1
        if nul:
            self._next, self._last = _COUNTED_NEXT_OR_NUL, max(self._last, nul)
        elif data.startswith(b"<", at):
            bodies = data[at + 1 : self._last].split(b"\n<")
            if len(bodies) == data.count(b"\n", at, self._last):
                self.bodies = bodies


class Framer:
    """Cuts one stream. A message longer than ``most_bytes`` is cut there and its rest is passed over."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rest = b""
        self._skip = 0
        self._skipping_line = False
        self._lengths: dict[bytes, int] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of a message that has begun and not ended."""
        return len(self._rest)

    def feed(self, data: bytes) -> Framed:
        """The messages that ``data`` finishes."""
        data = self._rest + data if self._rest else data
        framed = Framed([])
        at, size, ends = 0, len(data), _Ends(data)
        while at < size:
            before = at
            if self._skip or self._skipping_line:
                at = self._passed_over(data, at, framed)
            elif _COUNT.match(data, at):
                at = self._counted(data, at, framed)
            elif not _COUNT_BEGUN.match(data, at):
                at = self._lines(data, at, ends, framed)
            if at == before:
                break
        self._rest = data[at:] if at else data
        return framed

    def give_up(self) -> Framed:
        """What is there of the message that has begun; the rest of it is passed over when it comes."""
        rest, self._rest = self._rest, b""
        counted = _COUNT.match(rest)
        framed = Framed([], cut=1)
        if counted is None:
            self._skipping_line = True
        else:
            self._skip = int(counted[1]) - (len(rest) - counted.end() + 1)
            rest = rest[counted.end() - 1 :]
        _add(framed, [rest])
        return framed

    def finish(self) -> Framed:
        """What is there of a last message, as it is: the stream has ended."""
        rest, self._rest = self._rest, b""
        self._skip, self._skipping_line = 0, False
        counted = _COUNT.match(rest)
        framed = Framed([])
        _add(framed, [rest if counted is None else rest[counted.end() - 1 :]])
        framed.unfinished = len(framed.pieces)
        return framed

    def _passed_over(self, data: bytes, at: int, framed: Framed) -> int:
        if self._skip:
            passed = min(self._skip, len(data) - at)
            self._skip -= passed
            framed.cut_bytes += passed
            return at + passed
        end = _end_of_line(data, at)
        self._skipping_line = end < 0
        framed.cut_bytes += (len(data) if end < 0 else end) - at
        return len(data) if end < 0 else end + 1

    def _counted(self, data: bytes, at: int, framed: Framed) -> int:
        """Takes one counted message after the other; returns where the first begins that is not whole."""
        messages: list[bytes] = []
        size, most, lengths, find = len(data), self._most, self._lengths, data.find
        while (space := find(b" ", at, at + 8)) > 0:
            length = lengths.get(data[at:space]) or self._length(data[at:space])
            start = space + 1
            end = start + length
            if end > size or length > most or not length or data[start] != _BEGIN:
                break
            messages.append(data[start:end])
            at = end
        else:
            length, start = 0, at
        if length > most and size - start >= most and data[start] == _BEGIN:
            messages.append(data[start : start + most])
            framed.cut += 1
            self._skip = length - most
            at = start + most
        if messages:
            _add(framed, messages)
        return at

    def _length(self, count: bytes) -> int:
        """What a count counts; 0 where it is none."""
        if not count.isdigit() or count.startswith(b"0"):
            return 0
        if len(self._lengths) >= MOST_LENGTHS:
            self._lengths.clear()
        length = self._lengths[count] = int(count)
        return length

    def _lines(self, data: bytes, at: int, ends: _Ends, framed: Framed) -> int:
        """Takes whole lines up to the next counted message; returns where the line begins that is not whole."""
        end = ends.of_lines(at)
        if end == at:
            if len(data) - at <= self._most:
                return at
            _add(framed, [data[at : at + self._most]])
            framed.cut += 1
            self._skipping_line = True
            return at + self._most
        block, bodies = data[at:end], ends.bodies
        if b"\0" in block:
            block = block.replace(b"\0", b"\n")
        if self._has_longer(block):
            block, bodies = self._shortened(block, framed), None
        if b"\r" in block:
            block, bodies = re.sub(rb"\r+\n", b"\n", block), None
        if ends.bodies is None and (block.startswith(b"\n") or b"\n\n" in block):
            block = re.sub(rb"\n{2,}", b"\n", block).lstrip(b"\n")
        if block:
            framed.pieces.append(Piece(block, len(bodies) if bodies else block.count(b"\n"), bodies=bodies))
        return end

    def _has_longer(self, block: bytes) -> bool:
        """Whether any line is too long: only a stretch of so many bytes without a line feed can hold one."""
        at, size = 0, len(block)
        while size - at > self._most:
            newline = block.rfind(b"\n", at, at + self._most + 1)
            if newline < 0:
                return True
            at = newline + 1
        return False

    def _shortened(self, block: bytes, framed: Framed) -> bytes:
        lines = block.split(b"\n")
        for i, line in enumerate(lines):
            if len(line) > self._most:
                framed.cut += 1
                framed.cut_bytes += len(line) - self._most
                lines[i] = line[: self._most]
        return b"\n".join(lines)


def in_one(pieces: list[Piece]) -> Piece:
    """The messages of all pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    if all(piece.separator == b"\n" for piece in pieces):
        block, count = b"".join([piece.block for piece in pieces]), sum(piece.count for piece in pieces)
        return Piece(block, count, bodies=_all_bodies(pieces))
    return piece_of([message for piece in pieces for message in piece.messages()])


def _all_bodies(pieces: list[Piece]) -> list[bytes] | None:
    together: list[bytes] = []
    for piece in pieces:
        if piece.bodies is None:
            return None
        together += piece.bodies
        together[-1] = together[-1][:-1]
    together[-1] += b"\n"
    return together


def piece_of(messages: list[bytes]) -> Piece:
    """The messages as they are, whatever they hold, ended by something that none of them holds."""
    block = b"\n".join(messages) + b"\n"
    if block.count(b"\n") == len(messages):
        return Piece(block, len(messages))
    separator = _separator_of(b"".join(messages), messages)
    return Piece(b"".join([message + separator for message in messages]), len(messages), separator)


def without_ends(messages: list[bytes]) -> list[bytes]:
    """The messages without the line feed, carriage return or NUL that senders put behind them; empty ones left out."""
    return [message for each in messages if (message := each.rstrip(ENDS))]


def _add(framed: Framed, messages: list[bytes]) -> None:
    block = b"\n".join(messages) + b"\n"
    if block.count(b"\n") == len(messages) and block.startswith(b"<") and not (b"\r" in block or b"\0" in block):
        framed.pieces.append(Piece(block, len(messages)))
    elif kept := without_ends(messages):
        framed.pieces.append(piece_of(kept))


def _separator_of(together: bytes, messages: list[bytes]) -> bytes:
    for separator in SEPARATORS:
        if separator not in together:
            return separator
    number = 0
    while True:  # nor may it come about where a message and its separator meet
        separator = b"\x1e%x\x1e" % number
        if b"".join([message + separator for message in messages]).split(separator)[:-1] == messages:
            return separator
        number += 1


def _end_of_line(data: bytes, at: int) -> int:
    """Where the line at ``at`` ends, -1 where it does not."""
    newline, nul = data.find(b"\n", at), data.find(b"\0", at)
    return max(newline, nul) if newline < 0 or nul < 0 else min(newline, nul)
