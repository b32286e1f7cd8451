"""This file joins lines to records, a block at a time: it turns the newlines between records into another byte.

    2026-11-20 … ERROR no\n\tat a.b(C)\n\tat d\n2026-11-20 … INFO yes\n      lines
    2026-11-20 … ERROR no\n\tat a.b(C)\n\tat d\x1e2026-11-20 … INFO yes\x1e  records

Nothing is added and nothing taken away. The expressions that stand here and in the formats look at the beginning of a
line only, so that the work is linear in the block. ``re`` holds the interpreter lock, so a block is taken in slices.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from operator import is_not, itemgetter, or_
from typing import Final

from msgspec import Struct

from agent.wire.format import Joining

SEARCHED_BYTES: Final = 4096
SLICE_BYTES: Final = 32 << 10
LOOK_AHEAD_BYTES: Final = 32 << 10
LOOK_BACK_BYTES: Final = 4 << 10
_REPLACED, _TIMES = itemgetter(0), itemgetter(1)

GOES_ON: Final = (
    rb"[\s})\]]"
    rb"|Caused by: |Suppressed: |Traceback \(most recent call last\)|During handling of the above exception"
    rb"|The above exception was the direct cause"
    rb"|(?:[A-Za-z_][\w$]*\.)*[A-Za-z_]\w*(?:Error|Exception|Warning|Interrupt|Exit|Failure|Throwable)(?:[:\s]|$)"
    rb"|\.\.\. \d+ (?:more|common frames omitted)|--- End of "
    rb"|goroutine \d+ \[|created by |\[signal |exit status \d"
    rb"|[\w/$-]++\.[^\s(]*+(?:\(\*[^\s)]*+\)[^\s(]*+)?\([^\n]*+\n\t"
)
"""How lines begin that go on the record before: frames and causes of Python, Java, Go, Node, Ruby and .NET."""


def beginning_with(pattern: bytes) -> Joining:
    """Records begin where a line begins with ``pattern``, an expression that looks at one line and no indented one."""
    return Joining(re.compile(rb"\n(?![\t ])(?=%s)" % pattern), by_beginning=True)


def unless_going_on() -> Joining:
    """Records begin at every line that does not look as if it went on the one before."""
    return Joining(re.compile(rb"\n(?=[^\t\r\n ])(?!%s)" % GOES_ON))


class LinePatterns(Struct, frozen=True):
    """What the operator says of lines: one in which ``begins`` is found begins a record, one with ``ends`` ends it.

    Each is searched in the first ``SEARCHED_BYTES`` of a line and never across lines, so that a slow expression is
    slow by the line and not by the block.
    """

    begins: re.Pattern[bytes] | None
    ends: re.Pattern[bytes] | None

    @classmethod
    def of(cls, start: str | None, end: str | None) -> LinePatterns:
        """Raises re.error for what is no expression."""
        return cls(re.compile(start.encode()) if start else None, re.compile(end.encode()) if end else None)

    def last_start(self, data: bytes, start: int, end: int) -> int:
        """As the function of that name; ``end`` where the last line ends its record."""
        after = end
        while after > start:
            at = max(start, data.rfind(b"\n", start, after - 1) + 1)
            if self._found(self.ends, data, at, after):
                return after
            if self._found(self.begins, data, at, after):
                return at
            after = at
        return start

    def joined(self, block: bytes, separator: bytes) -> tuple[bytes, int]:
        """The block with ``separator`` where a record ends, and how many there are."""
        parts: list[bytes] = []
        count, ended = 0, False
        for lines in _lines(block):
            ends = self._flags(self.ends, lines)
            begins = self._flags(self.begins, lines)
            marks = [ended or begins[0], *map(or_, ends, islice(begins, 1, None))]
            out = [b""] * (2 * len(lines))
            out[0::2] = map((b"\n", separator).__getitem__, marks)
            out[1::2] = lines
            parts += (out[0] if parts else b"", b"".join(out[1:]))
            count += sum(marks[1:] if len(parts) == 2 else marks)
            ended = ends[-1]
        return b"".join((*parts, separator)) if parts else b"", count + bool(parts)

    @staticmethod
    def _found(pattern: re.Pattern[bytes] | None, data: bytes, start: int, after: int) -> bool:
        line = data[start : min(after - 1, start + SEARCHED_BYTES)]
        return pattern is not None and pattern.search(line) is not None

    @staticmethod
    def _flags(pattern: re.Pattern[bytes] | None, lines: Sequence[bytes]) -> list[bool]:
        if pattern is None:
            return [False] * len(lines)
        found = map(pattern.search, lines, repeat(0), repeat(SEARCHED_BYTES))
        return list(map(is_not, found, repeat(None)))


def last_start(joining: Joining | LinePatterns, data: bytes, start: int, end: int) -> int:
    """Where the last record of the whole lines ``data[start:end]`` begins; ``start`` where that is the first."""
    if isinstance(joining, LinePatterns):
        return joining.last_start(data, start, end)
    upto, reach = end, LOOK_BACK_BYTES
    while upto > start:
        at = max(start, upto - reach)
        last = deque(joining.starts.finditer(data, at, min(end, upto + LOOK_BACK_BYTES)), 1)
        if last:
            return last[0].end()
        upto, reach = at, LOOK_AHEAD_BYTES
    return start


def joined(joining: Joining | LinePatterns, block: bytes, max_record_bytes: int) -> tuple[bytes, bytes, int]:
    """The block with its lines joined to records, what stands behind each record now, and how many there are.

    No record of several lines has more than ``max_record_bytes``; a longer one is divided between two lines. A block
    in which every line is a record is returned as it is.
    """
    separator = absent_from(block)
    if isinstance(joining, LinePatterns):
        whole, count = joining.joined(block, separator)
    else:
        pieces = [joining.starts.subn(separator, piece) for piece in slices(joining, block)]
        whole = b"".join((*map(_REPLACED, pieces), separator if block else b""))
        count = sum(map(_TIMES, pieces)) + bool(block)
    whole, more = divided(whole, separator, max_record_bytes)
    if b"\n" not in whole:
        return block, b"\n", count + more
    return whole, separator, count + more


def absent_from(block: bytes) -> bytes:
    """Bytes that ``block`` does not hold, to stand between its records."""
    for candidate in (b"\x1e", b"\x1f", b"\0"):
        if candidate not in block:
            return candidate
    number = 0
    while (candidate := b"\x1e%x\x1d" % number) in block:
        number += 1
    return candidate


def _lines(block: bytes) -> Iterator[list[bytes]]:
    """The lines of the block, some at a time."""
    start = 0
    while start < len(block):
        cut = block.find(b"\n", start + LOOK_AHEAD_BYTES)
        end = len(block) if cut < 0 else cut + 1
        yield block[start : end - 1].split(b"\n")
        start = end


def slices(joining: Joining, block: bytes) -> Iterator[bytes]:
    """The block without its last newline, in parts that begin with one, but for the first.

    A part ends where the next record begins. In one that is longer than two parts it ends at any newline: should an
    expression want to see what comes after, such a record is divided there.
    """
    start, last = 0, len(block) - 1
    while start < last:
        end = last
        if last - start > SLICE_BYTES:
            at = start + SLICE_BYTES
            found = joining.starts.search(block, at, at + LOOK_AHEAD_BYTES)
            end = found.start() if found else block.find(b"\n", at, last)
        end = last if end < 0 else end
        yield block[start:end]
        start = end


def divided(whole: bytes, separator: bytes, max_record_bytes: int) -> tuple[bytes, int]:
    """The same with records that are too long divided, and how often; a step for each ``max_record_bytes``."""
    parts: list[bytes] = []
    at, size = 0, len(whole)
    start = 0
    while size - at > max_record_bytes:
        ended = whole.rfind(separator, at, at + max_record_bytes + len(separator))
        if ended >= 0:
            at = ended + len(separator)
            continue
        newline = whole.rfind(b"\n", at, at + max_record_bytes)
        if newline < 0:  # a single line of that length
            newline = min((n for n in (whole.find(b"\n", at), whole.find(separator, at)) if n >= 0), default=size - 1)
        if whole.startswith(separator, newline):
            at = newline + len(separator)
            continue
        parts += (whole[start:newline], separator)
        start = at = newline + 1
    return (b"".join((*parts, whole[start:])), len(parts) // 2) if parts else (whole, 0)
