"""This file gives files their turns: one block each, round robin, and decides what a changed file means."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.clock import Time
from agent.collect.file.archive import Archive
from agent.collect.file.faults import Faults
from agent.collect.file.follow import Followed
from agent.collect.file.identity import Replaced, gone_key, key_of_open
from agent.collect.file.open import Reused
from agent.collect.file.options import FileOptions
from agent.collect.file.rotation import copies, has_writer, holds_the_rest, same_beginning
from agent.collect.file.tail import Piece, Rewritten, Tail
from agent.wire.encoding import encoding_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.collect.file.parse import Streams

_ABSENT = (FileNotFoundError, NotADirectoryError)


class Turns:
    """Reads from whatever in ``followed`` is ready; ``found`` is told of each file before it is first read."""

    def __init__(
        self,
        options: FileOptions,
        followed: Followed,
        faults: Faults,
        parser: Streams | None = None,
        found: Callable[[str], object] | None = None,
    ) -> None:
        self._options = options
        self._followed = followed
        self._faults = faults
        self._encoding = encoding_of(options.encoding)
        self._parser = parser
        self._found = found
        self._held: dict[Tail, None] = {}

    def next(self, now: Time) -> tuple[Tail, Piece] | None:
        """A file and the next piece of it, or None when there is nothing to read anywhere."""
        ready = self._followed.ready
        ready.update(dict.fromkeys(self._due(now)))
        waiting = 0
        while ready:
            if waiting == len(ready) and any(map(self._holds, (former for tail in ready for former in tail.after))):
                return None
            if waiting == len(ready):  # for each other, in a circle that should not be: nobody waits any more
                for tail in ready:
                    tail.after = ()
            tail = next(iter(ready))
            del ready[tail]
            if self._waits(tail):
                ready[tail] = None
                waiting += 1
                continue
            waiting = 0
            piece = self._turn(tail, now)
            if piece is not None:
                self._faults.changed(piece)
                return tail, piece
        return None

    def due_seconds(self) -> float:
        """When, on the monotonic clock, the next record has waited long enough for more lines; infinite for none."""
        since = min((tail.still_since for tail in self._held), default=float("inf"))
        return since + self._options.join_seconds

    def _due(self, now: Time) -> list[Tail]:
        """The files whose last record has waited long enough."""
        if not self._held:
            return []
        before = now.monotonic_seconds - self._options.join_seconds
        due = [tail for tail in self._held if tail.still_since <= before]
        for tail in due:
            del self._held[tail]
        return [tail for tail in due if tail.inode in self._followed.tails]

    def _waits(self, tail: Tail) -> bool:
        """Whether a file that had this one's name before still has something to read; it goes first."""
        if any(former in self._followed.ready or self._holds(former) for former in tail.after):
            return True
        tail.after = ()
        return False

    def _holds(self, tail: Tail) -> bool:
        """Whether a record of the file is to be read that waits for more lines, within its time."""
        held = tail.held and not tail.error and self._followed.tails.get(tail.inode) is tail
        return held or self._followed.archives.waits(tail)

    def _turn(self, tail: Tail, now: Time) -> Piece | None:
        if isinstance(tail, Archive):
            tail.stream = tail.stream or (self._parser.stream() if self._parser is not None else None)
            return self._followed.archives.turn(tail, now)
        before = tail.offset, tail.scanned
        try:
            piece = self._read(tail, now)
        except Rewritten:
            self._rewritten(tail, now)
            return None
        except Reused:
            self._followed.vanish(tail, now, for_good=True)
            self._followed.rescan = True
            return None
        except (Replaced, *_ABSENT):
            self._followed.rescan = True
            return None
        except OSError as error:
            if error.errno == errno.ESTALE:
                self._followed.open_files.close(tail)
            self._followed.fault(tail, error)
            return None
        if tail.error:
            tail.error = ""
            self._faults.readable(tail.shown)
        if tail.behind and before != (tail.offset, tail.scanned):
            self._followed.ready[tail] = None
        return piece

    def _read(self, tail: Tail, now: Time) -> Piece | None:
        self._followed.open_files.use(tail)
        status = os.fstat(tail.fd)
        tail.look(status, now.monotonic_seconds)
        tail.verify(self._encoding)
        if tail.fresh and tail.size:
            if self._may_be_copy(tail, now):
                return None
            tail.fresh = False
        options, patient = self._options, True
        if self._parser is not None:
            if tail.stream is None and self._found is not None:
                self._found(tail.path)
            tail.stream = tail.stream or self._parser.stream()
            patient = now.monotonic_seconds - tail.still_since < options.join_seconds
        piece = tail.read(options.block_bytes, options.max_line_bytes, patient=patient)
        if tail.held:
            self._held[tail] = None
        if piece is None and not tail.behind and self._followed.to_let_go(tail, now):
            piece = self._let_go(tail, status, now)
        return piece

    def _let_go(self, tail: Tail, status: os.stat_result, now: Time) -> Piece | None:
        """The unfinished last line of a rotated file at rest; then, on the next turn, its descriptor is closed.

        A deleted file that somebody still writes to is kept: once closed it could never be opened again.
        """
        deleted = tail.where is None and not status.st_nlink
        if deleted and has_writer(tail.fd):
            return None
        piece = tail.finish(max(self._options.max_line_bytes, self._options.max_record_bytes))
        if piece is None and os.fstat(tail.fd).st_size == status.st_size:
            if tail.where is None:
                self._followed.vanish(tail, now, for_good=deleted)
            else:
                self._followed.open_files.close(tail)
        return piece

    def _may_be_copy(self, tail: Tail, now: Time) -> bool:
        """Whether a new file begins like one beside it: a copy in the making, whose original will be truncated.

        It is not read until then, so that no line is delivered twice, or until it has been at rest for a while.
        """
        if now.monotonic_seconds - tail.still_since >= self._options.rotate_wait_seconds:
            return False
        directory = os.path.dirname(tail.path)
        return any(
            other.offset and other.prefix.length and not other.rotated and same_beginning(tail.fd, other)
            for other in self._followed.tails.values()
            if other is not tail and os.path.dirname(other.path) == directory
        )

    def _rewritten(self, tail: Tail, now: Time) -> None:
        """Begins anew; what was not read before is read from a copy if there is one, else counted as lost."""
        copy, archives = self._copy_of(tail, now), self._followed.archives
        if copy is not None:
            archives.release(tail)
            self._followed.ready[copy] = None
        elif not self._sought(tail, now):
            message = "%d bytes of %s were truncated away before they were read"
            self._faults.lost("truncated", tail.lost_bytes, message, tail.path)
        tail.restart()
        tail.after = archives.rests().get(tail.path, ()) if copy is None else (copy,)
        self._followed.pending[tail.key] = tail.cursor().encode()
        self._followed.ready[tail] = None

    def _sought(self, tail: Tail, now: Time) -> bool:
        """Whether some compressed file may hold what a file held that was truncated."""
        size = tail.offset + tail.lost_bytes
        cursor = replace(tail.cursor(), size=size, mtime_ns=-1)  # what is in it now may be younger than any copy
        key = gone_key(tail.key, tail.prefix)
        return self._followed.seek(tail, key, tail.where, cursor, now, truncated=True)

    def _copy_of(self, tail: Tail, now: Time) -> Tail | None:
        """The file beside ``tail`` that holds what ``tail`` held, set to go on at its offset."""
        if not (tail.prefix.length or tail.before.length):
            return None
        guard, tails = self._followed.guard, self._followed.tails
        candidates = copies(
            os.path.dirname(tail.where or tail.path),
            tail.offset,
            tail.prefix,
            lambda path, inode: guard.refuses(os.path.realpath(path), inode),
        )
        for path, inode, fd in candidates:
            key, known = key_of_open(fd), tails.get(inode)
            if known is not None and known.key != key:
                self._followed.vanish(known, now, for_good=True)
                known = None
            if known is tail or (known is not None and known.offset) or not holds_the_rest(fd, tail):
                continue
            copy = known or Tail(inode, key, tail.path, path)
            copy.take_over(tail)
            self._followed.follow(copy, os.fstat(fd), now)
            self._followed.pending[copy.key] = copy.cursor().encode()
            return copy
        return None
