"""This file finds where a block of a container's log may end so that no record of several lines is cut in two.

    1 stdout  Traceback …            a record of stdout that may go on begins at 3, one of stderr at 2;
    2 stderr  ERROR no               a block that ends before 2 would cut the one that began at 1,
    3 stdout    File "a.py", line 1  so this one ends before 1
    4 stderr    at b.c(D.java)

Only the last lines are taken apart, more of them where a record reaches further back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from agent.wire.containerlines import NEWLINE, STREAMS, Last, Unwrapping, open_from

if TYPE_CHECKING:
    from agent.collect.parse import Stream

TAIL_BYTES: Final = 16 << 10
_BEFORE: Final = b"-\n"
"""A line before the first one known, so that it can be told whether that one goes on a record."""


class _Lines:
    """What one stream wrote in the last lines of a block: its lines as one text, and where each begins in the log.

    Line ``i`` of the text lies in ``[ends[i], ends[i + 1])``.
    """

    def __init__(self, stream: Stream) -> None:
        self.begins: list[int] = []
        self.open = False
        self._texts: list[bytes] = []
        self._stream = stream

    def add(self, text: bytes, begin: int) -> None:
        if self.open:
            self._texts[-1] += text
        else:
            self._texts.append(text)
            self.begins.append(begin)
        self.open = not text.endswith(NEWLINE)

    def close(self) -> None:
        """No more lines."""
        self._ends = list(accumulate(map(len, self._texts), initial=len(_BEFORE)))
        self._text = b"".join((_BEFORE, *self._texts))

    def last_open(self) -> int | None:
        """The line at which the last record begins, -1 where that is before the first; None where it has ended."""
        return self._record(len(self.begins))

    def record_of(self, index: int) -> int:
        """The line at which the record begins that line ``index`` is of, -1 where that is before the first."""
        before = self._record(index)
        if before is None or self._record(index + 1) == index:
            return index
        return before

    def _record(self, count: int) -> int | None:
        at = self._stream.cut(self._text, 0, self._ends[count])
        if at == self._ends[count]:
            return None
        return bisect_left(self._ends, at) if at else -1


def whole_records(
    unwrapping: Unwrapping,
    stream_of: Callable[[str], Stream],
    data: bytes,
    start: int,
    end: int,
    lasts: Mapping[str, Last],
) -> int:
    """Up to where ``data[start:end]``, in which no line is cut, can be taken so that no record is: before the last one
    of each stream that may go on. ``lasts`` are the last lines there are, whether or not before ``end``."""
    reach = TAIL_BYTES
    while True:
        begin = start if end - reach <= start else data.find(NEWLINE, end - reach, end) + 1
        streams = _streams(unwrapping, stream_of, data, begin, end)
        at = _before_last(streams, lasts, end, all_known=begin == start)
        while at is not None:
            whole = _between(streams, at, all_known=begin == start)
            if whole is not None:
                whole = open_from(unwrapping, data, start, whole, lasts)
            if whole == at:
                return at
            at = whole if whole is None or whole >= begin else None
        reach *= 4


def _before_last(streams: Mapping[str, _Lines], lasts: Mapping[str, Last], end: int, *, all_known: bool) -> int | None:
    """Where the first of the last records begins that may go on; None where that is before the lines that are known."""
    at = end
    for stream, last in lasts.items():
        if last.over and end >= last.end:
            continue
        lines = streams.get(stream)
        record = -1 if lines is None else lines.last_open()
        if record == -1 and not all_known:
            return None
        if lines is not None and record is not None:
            at = min(at, lines.begins[max(0, record)])
    return at


def _between(streams: Mapping[str, _Lines], at: int, *, all_known: bool) -> int | None:
    """``at``, or where the record begins that would be cut there; None where that is before the known lines."""
    for lines in streams.values():
        index = bisect_left(lines.begins, at)
        record = lines.record_of(index) if index < len(lines.begins) else None
        if record == -1 and not all_known:
            return None
        if record is not None:
            at = min(at, lines.begins[max(0, record)])
    return at


def _streams(
    unwrapping: Unwrapping, stream_of: Callable[[str], Stream], data: bytes, begin: int, end: int
) -> dict[str, _Lines]:
    """The lines of each stream; none where they cannot be told from what was decoded."""
    block = data[begin:end]
    parts = unwrapping.parts(block)
    texts = parts.with_newlines()
    lengths = [len(line) + 1 for line in block.split(NEWLINE)]
    made = {stream: _Lines(stream_of(stream)) for stream in STREAMS if stream in parts.streams}
    if len(lengths) - 1 == len(texts):
        for text, stream, at in zip(texts, parts.streams, accumulate(lengths, initial=begin), strict=False):
            if stream in made:
                made[stream].add(text, at)
    for lines in made.values():
        lines.close()
    return {stream: lines for stream, lines in made.items() if lines.begins}
