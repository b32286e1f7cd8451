"""This file reads one file: from its offset, in whole lines, and only while it is still the file it was.

Nothing unfinished is kept in memory. While a line grows, the offset stays at its start and only the bytes that were
not yet looked at are read; the line is read once more when its end is there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.collect.file.cursor import Cursor
from agent.collect.file.hole import ends_in_hole, is_hole, past_hole
from agent.collect.file.identity import BEFORE_BYTES, NOTHING, PREFIX_BYTES, Fingerprint, Inode
from agent.wire.encoding import HOLE_BYTES, UTF8, Encoding, Text
from agent.wire.lines import NEWLINE, UNCOUNTED

if TYPE_CHECKING:
    from agent.collect.parse import Stream

SKIP_BYTES = 16 << 20
"""Most bytes of one over-long line passed over in one go."""
_SKIP_CHUNK_BYTES = 256 << 10
_GROWN_BYTES = 4096
LAST_LINE_BYTES = 64 << 10
"""Where reading begins at the end, an unfinished line up to this long is read whole."""


class Rewritten(Exception):
    """What was read is no longer in the file: it was cut short, or other bytes were written in its place."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``count`` lines that were read: ``block`` is [start, end) of the file as UTF-8, each line with its newline. Those
    that a stream reads it also counts.

    ``lines_cut`` is 1 where the only line of the piece was too long, ``cut_bytes`` what was passed over so far.
    ``replaced`` characters were not of the file's encoding, ``nul_bytes`` were left out.
    """

    block: bytes
    count: int
    start: int
    end: int
    lines_cut: int = 0
    cut_bytes: int = 0
    replaced: int = 0
    nul_bytes: int = 0


@dataclass(slots=True, eq=False)
class Tail:
    """One followed file.

    ``path`` is the name it was found under, ``where`` the name it has now, None when it has none that we know of.
    ``scanned`` bytes after the offset are known to hold no line end. ``still_since`` is when, on the monotonic
    clock, it last grew or was renamed. ``peak`` is the most it was seen to hold since its offset began to count, and
    ``names`` are all that events may call it. ``fresh``: it appeared while the agent ran and may prove to be a copy.
    ``after`` are files that had this one's name before and are read first. ``error`` is why it cannot be read.
    ``hollow``: what was scanned ends in NUL bytes, which somebody may yet write something in place of. ``stream``
    joins its lines to records, where somebody asked for that; ``held``: whole lines were left unread because the
    record they belong to may go on.
    """

    inode: Inode
    key: str
    path: str
    where: str | None
    offset: int = 0
    size: int = 0
    mtime_ns: int = -1
    prefix: Fingerprint = NOTHING
    before: Fingerprint = NOTHING
    skipping: bool = False
    scanned: int = 0
    fd: int = -1
    peak: int = 0
    names: tuple[str, ...] = ()
    still_since: float = 0.0
    fresh: bool = False
    after: tuple[Tail, ...] = field(default=(), repr=False)
    error: str = ""
    encoding: Encoding = UTF8
    hollow: bool = False
    stream: Stream | None = None
    held: bool = False

    @classmethod
    def resumed(cls, inode: Inode, key: str, where: str | None, cursor: Cursor) -> Tail:
        """The file of ``cursor`` where it was left."""
        tail = cls(inode, key, cursor.path, where, cursor.offset, cursor.size, cursor.mtime_ns)
        tail.prefix, tail.before, tail.skipping, tail.peak = cursor.prefix, cursor.before, cursor.skipping, cursor.size
        return tail

    def take_over(self, other: Tail) -> None:
        """Goes on where ``other`` was: this file is a copy of it."""
        self.path, self.offset, self.skipping = other.path, other.offset, other.skipping
        self.prefix, self.before = other.prefix, other.before
        self.scanned, self.fresh, self.stream = 0, False, other.stream

    def cursor(self, gone: int = 0) -> Cursor:
        return Cursor(self.path, self.offset, self.size, self.mtime_ns, self.prefix, self.before, self.skipping, gone)

    @property
    def rotated(self) -> bool:
        """Whether it has lost the name it was found under, so that nobody is expected to finish its last line."""
        return self.where != self.path

    @property
    def shown(self) -> str:
        """The name to call it by when talking to people."""
        return self.where or self.path

    @property
    def lost_bytes(self) -> int:
        """Bytes behind the offset that were seen once, whatever became of the file."""
        return max(0, self.peak - self.offset)

    @property
    def unread_bytes(self) -> int:
        """Bytes behind the offset, as of the last look."""
        return max(0, self.size - self.offset)

    @property
    def behind(self) -> bool:
        """Whether there are bytes nobody has looked at."""
        return self.size > self.offset + self.scanned

    def look(self, status: os.stat_result, now_seconds: float) -> bool:
        """Takes note of size and time; True when they changed."""
        changed = (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns)
        if status.st_size < self.size:
            self.peak = max(self.peak, self.size)
        if changed:
            self.still_since = now_seconds
            if self.hollow:
                self.scanned, self.hollow = 0, False
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns
        return changed

    def verify(self, encoding: Encoding = UTF8) -> None:
        """Raises Rewritten unless the file still begins as it did; then learns more of its beginning, also whether it
        is in another Unicode than ``encoding``."""
        if self.size < self.offset:
            raise Rewritten
        head = self.bytes_at(PREFIX_BYTES, 0)
        if not self.prefix.holds(head):
            raise Rewritten
        written = head.rstrip(b"\0")  # what was made room for is written yet
        if len(written) > self.prefix.length:
            self.prefix = Fingerprint.of(written)
        self.encoding = encoding.of(head)
        self.peak = max(self.peak, self.size)

    def read(self, block_bytes: int, max_line_bytes: int, *, patient: bool = True) -> Piece | None:
        """The next whole lines, about ``block_bytes`` of them, or None. Raises Rewritten, OSError.

        While ``patient``, the last record stays unread where it may go on.
        """
        if self.held and not patient and not self.behind:
            self.scanned = 0
        if self.skipping:
            start = self.offset
            cut_bytes = self._skip()
            return Piece(b"", 0, start, self.offset, cut_bytes=cut_bytes) if self.offset > start else None
        length = self._reach(block_bytes, max_line_bytes)
        if not length:
            return None
        back = self.before.length
        data = self.bytes_at(back + length, self.offset - back)
        if not self.before.holds(data):
            raise Rewritten
        self.held = False
        if is_hole(data, back):
            return self._pass_hole()
        end, too_long = self.encoding.whole_lines(data, back, max_line_bytes)
        if end > back:
            return self._take(data, back, end) if self.stream is None else self._records(data, back, end, patient)
        if too_long:
            return self._cut(data[back : back + max_line_bytes])
        self.scanned, self.hollow = len(data) - back, ends_in_hole(data)
        return None

    def finish(self, max_line_bytes: int) -> Piece | None:
        """What was held and the unfinished last line, or None where there is neither. Raises OSError."""
        if self.skipping:
            return None
        data = self.bytes_at(max_line_bytes, self.offset)
        if not data or (self.encoding.find(data) >= 0 and not self.held):
            return None
        if self.held and len(data) == max_line_bytes:
            data = data[: self.encoding.rfind(data, 0, len(data)) + self.encoding.unit] or data
        if is_hole(data, 0):
            return self._pass_hole(at_rest=True)
        start = self.offset
        self._move(start + len(data))
        return self._text(data, start)

    def restart(self) -> None:
        """From the beginning, as if it were new."""
        self.offset = self.scanned = self.peak = 0
        self.prefix = self.before = NOTHING
        self.skipping = self.hollow = self.held = False

    def start_at_line(self, size: int, encoding: Encoding) -> None:
        """From the last line on that was unfinished when the file had ``size`` bytes. Raises OSError."""
        head = self.bytes_at(PREFIX_BYTES, 0)
        self.prefix, encoding = Fingerprint.of(head.rstrip(b"\0")), encoding.of(head)
        start = max(0, size - LAST_LINE_BYTES)
        data = self.bytes_at(size - start, start - start % encoding.unit)
        newline = encoding.rfind(data, 0, len(data))
        self._move(start + newline + encoding.unit if newline >= 0 else size)

    def _reach(self, block_bytes: int, max_line_bytes: int) -> int:
        """How many bytes to read from the offset on; 0 while a growing line has neither ended nor become too long."""
        if self.scanned > self.unread_bytes:  # its unfinished end was taken back
            self.scanned = 0
        if not self.scanned:  # a buffer of the whole block costs more than the read of a small file
            return min(block_bytes, self.unread_bytes + _GROWN_BYTES)
        more = self.bytes_at(block_bytes, self.offset + self.scanned)
        reach = self.scanned + len(more)
        if self.encoding.find(more) >= 0 or reach > max_line_bytes:
            return reach
        self.scanned, self.hollow = reach - reach % self.encoding.unit, ends_in_hole(more)
        return 0

    def _records(self, data: bytes, back: int, end: int, patient: bool) -> Piece | None:
        """As ``_take``, up to where a record begins that may go on."""
        assert self.stream is not None
        block, first, last, text = data, back, end, None
        if not self.encoding.is_text(data):
            text = self.encoding.text(data[back:end], at_start=not self.offset)
            block, first, last = text.block, 0, len(text.block)
        at = self.stream.cut(block, first, last)
        at_end = self.size <= self.offset + len(data) - back
        if at == last or (at_end and not patient):
            return self._take(data, back, end, text or Text(data[back:end]))
        as_it_lies = text is None or (last == end - back and not (text.replaced or text.nul_bytes))
        rest = back + at - first if as_it_lies else self.encoding.last_lines(data, back, end, block.count(NEWLINE, at))
        self.held = True
        if at == first or rest == back:
            self.scanned, self.hollow = len(data) - back, ends_in_hole(data)
            return None
        piece = self._take(data, back, rest, Text(block[first:at]) if as_it_lies else None)
        self.scanned = end - rest if self.size <= self.offset + end - rest else 0
        return piece

    def _take(self, data: bytes, back: int, end: int, text: Text | None = None) -> Piece:
        start = self.offset
        text = text or self.encoding.text(data[back:end], at_start=not start)
        self.offset = start + end - back
        self.before = Fingerprint.of(data[max(0, end - BEFORE_BYTES) : end])
        self.scanned = 0
        return self._piece(text, start, self.offset)

    def _piece(self, text: Text, start: int, end: int) -> Piece:
        counts = self.stream is not None and self.stream.counts and text.block
        lines = UNCOUNTED if counts else text.block.count(NEWLINE)
        return Piece(text.block, lines, start, end, replaced=text.replaced, nul_bytes=text.nul_bytes)

    def _text(self, raw: bytes, start: int) -> Piece:
        return self._piece(self.encoding.text(raw, at_start=not start), start, start + len(raw))

    def _cut(self, head: bytes) -> Piece | None:
        """The beginning of a line that is too long; its rest is passed over. What a hole follows is a line."""
        start, hole = self.offset, head.find(bytes(HOLE_BYTES))
        if hole >= 0:
            return self._end_at_hole(head[: hole + -hole % self.encoding.unit])
        head = self.encoding.whole_units(head)
        self.offset, self.scanned, self.skipping = start + len(head), 0, True
        cut_bytes = self._skip()
        return replace(self._text(head, start), lines_cut=1, cut_bytes=cut_bytes)

    def _end_at_hole(self, line: bytes) -> Piece | None:
        """The line before a hole, unless it may still be written on in place of it."""
        if self._waits_in_hole():
            return None
        start = self.offset
        self._move(start + len(line))
        return self._text(line, start)

    def _pass_hole(self, *, at_rest: bool = False) -> Piece | None:
        """Moves to what was written behind a hole; None where nothing was, and the file is not ``at_rest``."""
        if not at_rest and self._waits_in_hole():
            return None
        start = self.offset
        end = self.past_hole(start)
        self._move(end - (end - start) % self.encoding.unit)
        return Piece(b"", 0, start, self.offset, nul_bytes=self.offset - start)

    def _waits_in_hole(self) -> bool:
        """Whether the file ends in NUL bytes: whoever made room there may yet write in it."""
        end = self.bytes_at(HOLE_BYTES, max(self.offset, self.size - HOLE_BYTES))
        if is_hole(end, 0):
            self.scanned, self.hollow = self.unread_bytes, True
        return self.hollow

    def _skip(self) -> int:
        """Moves towards the end of the line; returns the bytes passed over, the newline not among them."""
        skipped, at, unit = 0, self.offset, self.encoding.unit
        while skipped < SKIP_BYTES:
            data = self.bytes_at(_SKIP_CHUNK_BYTES, at)
            newline = self.encoding.find(data)
            at += len(data) if newline < 0 else newline + unit
            skipped += len(data) if newline < 0 else newline
            self.skipping = newline < 0
            if not data or newline >= 0:
                break
        self._move(at)
        return skipped

    def bytes_at(self, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes of what the file holds from ``offset`` on. Raises OSError."""
        return os.pread(self.fd, length, offset)

    def past_hole(self, start: int) -> int:
        """As the function of that name, for what the file holds."""
        return past_hole(self.fd, start, SKIP_BYTES)

    def _move(self, offset: int) -> None:
        back = min(offset, BEFORE_BYTES)
        self.offset, self.scanned, self.held = offset, 0, False
        self.before = Fingerprint.of(self.bytes_at(back, offset - back)) if back else NOTHING
