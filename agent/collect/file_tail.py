"""This file reads one file: from its offset, in whole lines, and only while it is still the file it was.

Nothing unfinished is kept in memory. While a line grows, the offset stays at its start and only the bytes that were
not yet looked at are read; the line is read once more when its end is there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from agent.collect.file_cursor import Cursor
from agent.collect.file_identity import BEFORE_BYTES, NOTHING, PREFIX_BYTES, Fingerprint, Inode
from agent.wire.lines import NEWLINE, ended, whole_lines

SKIP_BYTES = 16 << 20
"""Most bytes of one over-long line passed over in one go."""
_SKIP_CHUNK_BYTES = 256 << 10
_GROWN_BYTES = 4096


class Rewritten(Exception):
    """What was read is no longer in the file: it was cut short, or other bytes were written in its place."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``count`` lines that were read: ``block`` is [start, end) of the file, with a newline added where it had none.

    ``lines_cut`` is 1 where the only line of the piece was too long, ``cut_bytes`` what was passed over so far.
    """

    block: bytes
    count: int
    start: int
    end: int
    lines_cut: int = 0
    cut_bytes: int = 0


@dataclass(slots=True, eq=False)
class Tail:
    """One followed file.

    ``path`` is the name it was found under, ``where`` the name it has now, None when it has none that we know of.
    ``scanned`` bytes after the offset are known to hold no line end. ``still_since`` is when, on the monotonic
    clock, it last grew or was renamed. ``peak`` is the most it was seen to hold since its offset began to count, and
    ``names`` are all that events may call it. ``fresh``: it appeared while the agent ran and may prove to be a copy.
    ``after`` are files that had this one's name before and are read first. ``error`` is why it cannot be read.
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
        self.scanned, self.fresh = 0, False

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
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns
        return changed

    def verify(self) -> None:
        """Raises Rewritten unless the file still begins as it did; then learns more of its beginning."""
        if self.size < self.offset:
            raise Rewritten
        head = os.pread(self.fd, PREFIX_BYTES, 0)
        if not self.prefix.holds(head):
            raise Rewritten
        if len(head) > self.prefix.length:
            self.prefix = Fingerprint.of(head)
        self.peak = max(self.peak, self.size)

    def read(self, block_bytes: int, max_line_bytes: int) -> Piece | None:
        """The next whole lines, about ``block_bytes`` of them, or None. Raises Rewritten, OSError."""
        if self.skipping:
            start = self.offset
            cut_bytes = self._skip()
            return Piece(b"", 0, start, self.offset, cut_bytes=cut_bytes) if self.offset > start else None
        length = self._reach(block_bytes, max_line_bytes)
        if not length:
            return None
        back = self.before.length
        data = os.pread(self.fd, back + length, self.offset - back)
        if not self.before.holds(data):
            raise Rewritten
        end, too_long = whole_lines(data, back, max_line_bytes)
        if end > back:
            return self._take(data, back, end)
        if too_long:
            return self._cut(data[back : back + max_line_bytes])
        self.scanned = len(data) - back
        return None

    def finish(self, max_line_bytes: int) -> Piece | None:
        """The unfinished last line with a newline added, or None where there is none. Raises OSError."""
        if self.skipping:
            return None
        data = os.pread(self.fd, max_line_bytes, self.offset)
        if not data or NEWLINE in data:
            return None
        start = self.offset
        self._move(start + len(data))
        return Piece(ended(data), 1, start, self.offset)

    def restart(self) -> None:
        """From the beginning, as if it were new."""
        self.offset = self.scanned = self.peak = 0
        self.prefix = self.before = NOTHING
        self.skipping = False

    def start_at(self, offset: int) -> None:
        """From ``offset`` on, with fingerprints of what lies before it. Raises OSError."""
        self.prefix = Fingerprint.of(os.pread(self.fd, PREFIX_BYTES, 0))
        self._move(offset)

    def _reach(self, block_bytes: int, max_line_bytes: int) -> int:
        """How many bytes to read from the offset on; 0 while a growing line has neither ended nor become too long."""
        if self.scanned > self.unread_bytes:  # its unfinished end was taken back
            self.scanned = 0
        if not self.scanned:  # a buffer of the whole block costs more than the read of a small file
            return min(block_bytes, self.unread_bytes + _GROWN_BYTES)
        more = os.pread(self.fd, block_bytes, self.offset + self.scanned)
        reach = self.scanned + len(more)
        if NEWLINE in more or reach > max_line_bytes:
            return reach
        self.scanned = reach
        return 0

    def _take(self, data: bytes, back: int, end: int) -> Piece:
        block = data[back:end]
        start = self.offset
        self.offset = start + len(block)
        self.before = Fingerprint.of(data[max(0, end - BEFORE_BYTES) : end])
        self.scanned = 0
        return Piece(block, block.count(NEWLINE), start, self.offset)

    def _cut(self, head: bytes) -> Piece:
        """The beginning of a line that is too long; its rest is passed over."""
        start = self.offset
        self.offset, self.scanned, self.skipping = start + len(head), 0, True
        cut_bytes = self._skip()
        return Piece(ended(head), 1, start, start + len(head), lines_cut=1, cut_bytes=cut_bytes)

    def _skip(self) -> int:
        """Moves towards the end of the line; returns the bytes passed over, the newline not among them."""
        skipped, at = 0, self.offset
        while skipped < SKIP_BYTES:
            data = os.pread(self.fd, _SKIP_CHUNK_BYTES, at)
            newline = data.find(NEWLINE)
            at += len(data) if newline < 0 else newline + 1
            skipped += len(data) if newline < 0 else newline
            self.skipping = newline < 0
            if not data or newline >= 0:
                break
        self._move(at)
        return skipped

    def _move(self, offset: int) -> None:
        back = min(offset, BEFORE_BYTES)
        self.offset, self.scanned = offset, 0
        self.before = Fingerprint.of(os.pread(self.fd, back, offset - back)) if back else NOTHING
