"""This file reads a compressed file as if it lay there unpacked: from its offset, in whole lines, once.

Offsets count unpacked bytes. What lies before the offset is unpacked and let go, some megabytes a turn; around the
offset a window of about a block is kept, so that neither a large file nor a small one that holds much takes memory.

    packed:    [................................]
    unpacked:  [.......let go.......|window|    not unpacked yet
                                       ^ offset
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from agent.collect.file.cursor import Cursor
from agent.collect.file.identity import BEFORE_BYTES, PREFIX_BYTES, Fingerprint, Inode, key_of_open, open_regular
from agent.collect.file.names import rotated_names
from agent.collect.file.tail import SKIP_BYTES, Piece, Rewritten, Tail
from agent.wire.encoding import Encoding
from agent.wire.unpack import MAGIC_BYTES, Unpackable, Unpacking, holds_bytes, unpacking

ARCHIVE = "archive:"
"""What stands before the key of a compressed file, so that its position is not taken for one in its own bytes."""

_PACKED_BYTES = 64 << 10
_GIVEN_BYTES = 128 << 10
_HOLE_BYTES = 256 << 10


class Unfinished(Exception):
    """The compressed file ends in the middle: somebody still writes it, or never finished."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A file that a compressed one may have been made of: its position, the key of that, itself while it is there."""

    key: str
    cursor: Cursor
    tail: Tail | None = None


class Archive(Tail):
    """One compressed file. ``named`` says that a pattern names it; others may hold the rest of a file that is gone.

    ``claims`` are files it may have been made of that have not been compared yet, None while nobody has looked;
    ``fitting`` those that were and are in it. When all were compared it is ``settled`` from where on it is read; until
    then its offset is 0. ``original`` is the file it was made of while that can still be read itself; only its name
    says so unless ``proven``. ``packed`` is its own size and time. ``begun_anew``: what was read of it is no longer in
    it, and it is read again. ``born_ns``: when the file it goes on for was born.
    """

    __slots__ = (
        "_at",
        "_fault",
        "_head",
        "_packed_at",
        "_unpacking",
        "_window",
        "begun_anew",
        "born_ns",
        "claims",
        "ended",
        "fitting",
        "named",
        "original",
        "packed",
        "proven",
        "settled",
    )

    _fault: Unfinished | Unpackable | None

    def __init__(self, inode: Inode, key: str, path: str, where: str, *, named: bool) -> None:
        super().__init__(inode, key, path, where)
        self.named = named
        self.claims: list[Claim] | None = None
        self.fitting: list[Claim] = []
        self.settled = self.proven = False
        self.original: Tail | None = None
        self.begun_anew = False
        self.born_ns = 0
        self.packed = 0, -1
        self._begin_unpacking()

    @classmethod
    def at(cls, inode: Inode, key: str, where: str, cursor: Cursor, *, named: bool) -> Archive:
        """The compressed file at ``where``, to be read from ``cursor`` on."""
        archive = cls(inode, key, cursor.path, where, named=named)
        archive.go_on_at(cursor)
        return archive

    def go_on_at(self, cursor: Cursor) -> None:
        """Where ``cursor`` is, whatever file it is of."""
        self.path, self.settled, self.claims = cursor.path, True, []
        self.offset, self.skipping = cursor.offset, cursor.skipping
        self.prefix, self.before = cursor.prefix, cursor.before
        self.scanned, self.born_ns = 0, cursor.born_ns

    def unsettle(self) -> None:
        """It is to be found out anew what it was made of; only of one that was not read yet."""
        self.claims, self.fitting, self.original = None, [], None

    def minds(self, tail: Tail) -> bool:
        """Whether it waits for that file, or is compared with it."""
        return self.original is tail or any(claim.tail is tail for claim in (*(self.claims or ()), *self.fitting))

    def fits(self, cursor: Cursor) -> bool:
        """Whether it holds what was read up to ``cursor``; the offset was approached. Raises as ``approach`` does."""
        back = cursor.before.length
        before = self.bytes_at(back, cursor.offset - back)
        if len(before) < back and self._fault is not None:  # it ends in the middle of what is compared
            raise self._fault
        return cursor.prefix.holds(self.head()) and cursor.before.holds(before)

    def open(self) -> None:
        """Opens it unless it is open. Raises OSError; Replaced where another file lies there."""
        if self.fd < 0:
            self.fd = open_regular(self.where or self.path, self.inode)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._begin_unpacking()

    def is_another(self) -> bool:
        """Whether the inode is another file's by now; it is open."""
        return ARCHIVE + key_of_open(self.fd) != self.key

    def look_packed(self, status: os.stat_result, now_seconds: float) -> None:
        """Takes note of its own size and time, and goes on after what was in the way; anew where it was cut short."""
        if status.st_size < self._packed_at:
            self._begin_unpacking()
        if self.packed != (status.st_size, status.st_mtime_ns):
            self.still_since, self.begun_anew = now_seconds, False
        self.packed = status.st_size, status.st_mtime_ns
        self._fault = None

    def cursor(self, gone: int = 0) -> Cursor:
        size, mtime_ns = self.packed
        where = self.offset, size, mtime_ns, self.prefix, self.before, self.skipping, gone
        return Cursor(self.path, *where, done=self.ended and not self.behind, born_ns=self.born_ns)

    def holds_no_more(self, cursor: Cursor) -> bool:
        """Whether its last bytes say that it holds as many as were read, and it is called what one rotated file of
        that name is called; it is open. Raises OSError."""
        if not any(rotated_names([os.path.splitext(self.shown)[0]], {cursor.path})):
            return False
        size = os.fstat(self.fd).st_size
        ends = holds_bytes(os.pread(self.fd, 4, 0), os.pread(self.fd, 4, max(0, size - 4)))
        return ends is not None and ends == cursor.offset & 0xFFFFFFFF

    def approach(self, offset: int) -> bool:
        """Unpacks towards ``offset``; False while it is not reached. Raises OSError, Unpackable, Unfinished."""
        target = max(0, offset - BEFORE_BYTES)
        reached = self._at + len(self._window)
        self._unpack(min(target, reached + SKIP_BYTES), keep_from=target)
        reached = self._at + len(self._window)
        if self._fault is not None and reached < target:
            raise self._fault
        return reached >= target or self.ended

    def next(self, block_bytes: int, max_line_bytes: int, max_record_bytes: int) -> Piece | None:
        """The next lines; None where it was read to its end. Raises as ``approach`` does, and Rewritten."""
        while True:
            self._unpack(self.offset + block_bytes, keep_from=self.offset)
            self._measure()
            before = self.offset, self.scanned
            piece = self.read(block_bytes, max_line_bytes)
            self._measure()
            if piece is not None:
                return piece
            if not self.behind and self.ended:
                return self.finish(max(max_line_bytes, max_record_bytes))
            if self._fault is not None:
                raise self._fault
            if before == (self.offset, self.scanned):
                raise Unpackable("it cannot be read on")

    def learn(self, encoding: Encoding) -> None:
        """Raises Rewritten unless what it holds begins as was known; learns its encoding, and more of its beginning."""
        head = self.head()
        if not self.prefix.holds(head):
            raise Rewritten
        self.prefix, self.encoding = Fingerprint.of(head.rstrip(b"\0")), encoding.of(head)

    def bytes_at(self, length: int, offset: int) -> bytes:
        if offset < self._at:
            return self._head[offset : offset + length]
        self._unpack(offset + length, keep_from=offset if self.skipping else min(offset, self.offset))
        self._measure()
        start = offset - self._at
        return bytes(self._window[start : start + length])

    def past_hole(self, start: int) -> int:
        data = self.bytes_at(_HOLE_BYTES, start)
        return start + len(data) - len(data.lstrip(b"\0"))

    def head(self) -> bytes:
        """The first bytes of what it holds. Raises OSError, Unpackable, Unfinished."""
        if len(self._head) < PREFIX_BYTES:
            self._unpack(PREFIX_BYTES)
        if self._fault is not None and len(self._head) < PREFIX_BYTES:
            raise self._fault
        return self._head

    def restart(self) -> None:
        super().restart()
        self._begin_unpacking()

    def _waits_in_hole(self) -> bool:
        return False

    def _measure(self) -> None:
        """As much as is known to be in it; one more while there may be more."""
        self.size = self._at + len(self._window) + (not self.ended and self._fault is None)

    def _begin_unpacking(self) -> None:
        self._unpacking: Unpacking | None = None
        self._window = bytearray()
        self._at = self._packed_at = 0
        self._head = b""
        self._fault = None
        self.ended = False

    def _unpack(self, end: int, keep_from: int = 0) -> None:
        """Unpacks up to ``end``, and lets go of what lies well before ``keep_from``."""
        while self._at + len(self._window) < end and not self.ended and self._fault is None:
            try:
                given = self._give()
            except (Unfinished, Unpackable) as fault:  # raised when what could be unpacked was read
                self._fault = fault
                return
            if len(self._head) < PREFIX_BYTES:
                self._head += given[: PREFIX_BYTES - len(self._head)]
            self._window += given
            self._let_go(min(keep_from - BEFORE_BYTES, self._at + len(self._window)))

    def _let_go(self, before: int) -> None:
        if before - self._at > _GIVEN_BYTES:
            del self._window[: before - self._at]
            self._at = before

    def _give(self) -> bytes:
        """The next unpacked bytes; none where the end was reached."""
        while True:
            given = b"" if self._unpacking is None else self._unpacking.give(_GIVEN_BYTES)
            if given:
                return given
            packed = os.pread(self.fd, _PACKED_BYTES, self._packed_at)
            if not packed:
                self._end()
                return b""
            if len(packed) < MAGIC_BYTES and not self._packed_at:
                raise Unfinished
            if self._unpacking is None:
                self._unpacking = unpacking(packed)
            self._unpacking.take(packed)
            self._packed_at += len(packed)

    def _end(self) -> None:
        if self._unpacking is None or not self._unpacking.whole:
            raise Unfinished
        self.ended = True


def holds(inode: Inode, path: str, cursor: Cursor) -> bool:
    """Whether the compressed file at ``path`` holds what was read up to ``cursor``; it is unpacked up to there."""
    start = cursor.offset - cursor.before.length
    found = unpacked_at(inode, path, start, cursor.offset)
    return found is not None and cursor.prefix.holds(found[0]) and cursor.before.holds(found[1])


def unpacked_at(inode: Inode, path: str, start: int, end: int) -> tuple[bytes, bytes] | None:
    """The first bytes of what the compressed file at ``path`` holds, and those at [start, end); None without them."""
    archive = Archive(inode, ARCHIVE, path, path, named=False)
    try:
        archive.open()
        while not archive.approach(start):
            pass
        data = archive.bytes_at(end - start, start)
        return (archive.head(), data) if len(data) == end - start else None
    except (OSError, Unpackable, Unfinished):
        return None
    finally:
        archive.close()
