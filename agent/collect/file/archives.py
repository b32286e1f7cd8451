"""This file is the set of compressed files: those that patterns name, and those that hold the rest of a file.

    a file is gone ──those in its directory that begin like it──▶ the one that holds what was read goes on at its offset
    a pattern names one ──made of a file that is followed──▶ waits until that is gone
                        ├─of one that is gone──────────────▶ goes on at its offset
                        └─of none──────────────────────────▶ from its beginning

They are read one at a time, each once. One that ends in the middle waits for more; one that is damaged is counted,
and tried again when it changes. The position of a file that is gone is kept until one goes on for it, and both are
committed together: of what is decided here nothing has to survive a restart.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.clock import NANOSECONDS, Time
from agent.collect.file.archive import ARCHIVE, Archive, Claim, Unfinished, holds
from agent.collect.file.cursor import Cursor
from agent.collect.file.discovery import Discovery
from agent.collect.file.finished import Finished
from agent.collect.file.heirs import Heirs
from agent.collect.file.identity import Inode, Replaced, born_ns_of_key, inode_of, key_at
from agent.collect.file.left import Left
from agent.collect.file.options import FileOptions
from agent.collect.file.origins import alike, compared, known_files, likeliest
from agent.collect.file.rests import Rest, Rests, is_unread
from agent.collect.file.tail import Piece, Rewritten, Tail
from agent.wire.encoding import encoding_of
from agent.wire.unpack import SUFFIXES, Unpackable

if TYPE_CHECKING:
    from agent.collect.file.follow import Followed

_ABSENT = (FileNotFoundError, NotADirectoryError)
MOST_UNFINISHED = 16
"""Most files kept open because they are still written; what is unpacked of others is let go."""


class Archives:
    """Compressed files by inode, and the queue of those that have something to read.

    ``naming``: some pattern names compressed files.
    """

    def __init__(self, options: FileOptions, followed: Followed) -> None:
        self._options = options
        self._followed = followed
        self._encoding = encoding_of(options.encoding)
        self._known: dict[Inode, Archive] = {}
        self._queue: dict[Archive, None] = {}
        self._rests = Rests()
        self._finished = Finished(followed.pending, options.forget_after_seconds)
        self._discovery = Discovery(options.paths, options.exclude, options.max_directories)
        self._left = Left(followed, self._finished, self._discovery)
        self.naming = any(path.endswith(SUFFIXES) for path in options.paths)
        self._heirs = Heirs(followed.guard, loosely=self.naming)

    def load(self, positions: Mapping[str, str]) -> None:
        """Takes in the positions as they were committed."""
        self._left.load(positions)

    def __len__(self) -> int:
        """How many have something to read."""
        return len(self._queue)

    def births(self) -> Iterator[tuple[str, int]]:
        """Names of the files that were compressed, and when these were born; before ``resume``."""
        cursors = (cursor for known in (self._finished, self._left) for _, cursor in known)
        yield from ((cursor.path, cursor.born_ns) for cursor in cursors if cursor.born_ns)

    def rests(self) -> dict[str, tuple[Archive, ...]]:
        """Those that hold the rest of files, or may, by the names these had."""
        found: dict[str, tuple[Archive, ...]] = {}
        for archive in self._queue:
            for name in {archive.path, *self._rests.names(archive.inode)}:
                found[name] = (*found.get(name, ()), archive)
        return found

    def waits(self, tail: Tail) -> bool:
        """Whether ``tail`` is one that is read, or will be when it has been written to its end."""
        there = isinstance(tail, Archive) and not tail.error and self._known.get(tail.inode) is tail
        return there and isinstance(tail, Archive) and tail.original is None

    def look(self, named: Mapping[Inode, tuple[str, os.stat_result]], now: Time, *, aside: bool) -> None:
        """Takes note of those that patterns name now; ``aside`` leaves alone what is new. Wakes what has changed."""
        self._heirs.lie_in(dict.fromkeys(os.path.dirname(path) for path, _ in named.values()))
        for inode, (path, status) in named.items():
            archive = self._known.get(inode)
            if archive is not None:
                archive.where, archive.named = path, True
            elif self._followed.guard.refuses(self._followed.names.real(path), inode):
                self._followed.faults.refused(path)
            else:
                self._find(inode, path, status, now, aside=aside)
        for archive in tuple(self._known.values()):
            self._wake(archive, now)
        self._finished.forget({inode[1] for inode in named}, now.wall_ns // NANOSECONDS)

    def seek(self, key: str, where: str | None, cursor: Cursor, tail: Tail | None = None) -> bool:
        """Looks for what was not read of a file that is gone, and whose position is kept under ``key``; False where no
        compressed file may hold it.

        Whoever asks is told of the end by ``Followed.went_on`` or ``give_up``. ``tail`` is the file itself, for which
        some wait.
        """
        undecided = {archive.inode for archive in self.release(tail)}
        heirs = self._heirs.of(key, where, cursor)
        for path, inode in heirs:
            known = self._known.get(inode)
            if known is None and not self._finished.is_read(path, inode):
                known = self._take_in(path, inode)
            if known is not None and not known.settled:
                known.unsettle()
                self._enqueue(known)
                undecided.add(inode)
        if undecided:
            self._rests.seek(key, Rest(cursor, where, undecided))
        return bool(undecided) or self._was_read(key, cursor, heirs)

    def release(self, tail: Tail | None) -> list[Archive]:
        """Has those that wait for ``tail`` or are compared with it look anew what they are made of; returns them."""
        released = [] if tail is None else [each for each in self._known.values() if each.minds(tail)]
        for archive in released:
            archive.unsettle()
            self._enqueue(archive)
        return released

    def turn(self, archive: Archive, now: Time) -> Piece | None:
        """The next piece of one that is in the queue. Raises OSError."""
        try:
            piece = self._read(archive, now)
        except (Replaced, *_ABSENT):
            self._lost_sight(archive)
        except Rewritten:
            self._begin_anew(archive)
        except Unfinished:
            self._dequeue(archive)
            if sum(known.fd >= 0 for known in self._known.values()) > MOST_UNFINISHED:
                archive.close()
        except (Unpackable, OSError) as error:
            self._failed(archive, error)
        else:
            self._advance()
            return piece
        self._advance()
        return None

    def faulty(self) -> list[str]:
        """The names of those that cannot be read to their end."""
        return [archive.shown for archive in self._known.values() if archive.error]

    def close(self) -> None:
        for archive in self._known.values():
            archive.close()

    def resume(self) -> None:
        """Takes in those that were not read to their end when the agent stopped."""
        for archive in self._left.resume():
            self._enqueue(archive)

    def _read(self, archive: Archive, now: Time) -> Piece | None:
        archive.open()
        if archive.is_another():
            raise Replaced
        archive.look_packed(os.fstat(archive.fd), now.monotonic_seconds)
        if not archive.settled and not self._settle(archive):
            return None
        if archive.offset and not archive.ended and archive.holds_no_more(archive.cursor()):
            self._end(archive)
            return None
        if not archive.approach(archive.offset):
            return None
        archive.learn(self._encoding)
        options = self._options
        piece = archive.next(options.block_bytes, options.max_line_bytes, options.max_record_bytes)
        if piece is None:
            self._end(archive)
        return piece

    def _begin_anew(self, archive: Archive) -> None:
        """From its beginning, once for each time it changes: what repeats for ever helps nobody."""
        if archive.begun_anew:
            self._failed(archive, Unpackable("it does not read the same twice"))
        archive.begun_anew = True
        archive.restart()

    # What it was made of

    def _settle(self, archive: Archive) -> bool:
        """Whether it is known where to read on in it."""
        if archive.claims is None:
            others = (other for other in self._known.values() if other is not archive and not other.error)
            archive.claims = alike(archive, known_files(self._followed, self._finished, others))
        if not compared(archive):
            return False
        if not all(map(self._stands, archive.fitting)):  # it was read on, or is gone, while it was compared
            archive.unsettle()
            return False
        claim = likeliest(archive)
        archive.fitting = []
        if claim is not None and claim.tail is not None:
            archive.original, archive.proven = claim.tail, claim.cursor.offset > 0
            self._dequeue(archive)
            archive.close()
            self._decided(archive)
            return False
        key = claim.key if claim is not None else self._never_read(archive)
        if key is None and not archive.named:
            self._drop(archive)
            return False
        self._go_on(archive, key, claim)
        return True

    def _never_read(self, archive: Archive) -> str | None:
        """The key of a file it may be made of by its name alone; not of one that came back, or has another key now."""
        while (key := self._rests.never_read(archive.inode, archive.packed[1])) is not None:
            if self._followed.absent.get(key) is not None:
                return key
            self._rests.take(key)
        return None

    def _go_on(self, archive: Archive, key: str | None, claim: Claim | None) -> None:
        """It is read from where the file of that key was left, whose position is now its own; else from its start."""
        cursor = claim.cursor if claim is not None else self._followed.absent.get(key or "")
        archive.settled = True
        if cursor is not None:
            archive.go_on_at(cursor)
        if key is not None and not key.startswith(ARCHIVE):
            archive.born_ns = born_ns_of_key(key)
            self._rests.take(key)
            self._followed.went_on(key, archive.path)
            self._heirs.take(archive.inode)
        elif key is not None:
            self._left.taken(key)
        self._followed.pending[archive.key] = archive.cursor().encode()
        self._decided(archive)

    def _stands(self, claim: Claim) -> bool:
        """Whether what was compared is still so."""
        tail = claim.tail
        if tail is not None:
            return self._is_there(tail)
        return (self._finished if claim.key.startswith(ARCHIVE) else self._followed.absent).get(
            claim.key
        ) == claim.cursor

    def _is_there(self, tail: Tail) -> bool:
        known = self._known if isinstance(tail, Archive) else self._followed.tails
        return known.get(tail.inode) is tail and not (isinstance(tail, Archive) and tail.error)

    def _decided(self, archive: Archive) -> None:
        """It is known not to be made of any other file that is sought."""
        for key, rest in self._rests.decided(archive.inode):
            there = self._followed.absent.get(key) is not None
            if there and not self._was_read(key, rest.cursor, self._heirs.of(key, rest.where, rest.cursor)):
                self._followed.give_up(key)

    def _was_read(self, key: str, cursor: Cursor, heirs: list[tuple[str, Inode]]) -> bool:
        """Whether what a file that is gone held more has been read, or is, in one of the compressed ones.

        Its position is kept where that is not read yet: it waits for another file, which may prove not to be what was
        compressed, or has not been looked into."""
        for path, inode in heirs if cursor.unread_bytes else ():
            known, unread, read = self._known.get(inode), is_unread(cursor), self._finished.is_read(path, inode)
            met = known is not None or read
            if (self._heirs.free(inode) and met) if unread else holds(inode, path, cursor):
                self._heirs.take(inode)
                settled = read or (known is not None and known.settled) or not self._discovery.matches(path)
                if unread or settled:
                    self._followed.went_on(key, cursor.path)
                return True
        return False

    def _take_in(self, path: str, inode: Inode) -> Archive | None:
        """One that may be made of a file that is gone."""
        with contextlib.suppress(OSError):
            return Archive(inode, ARCHIVE + key_at(path, inode), path, path, named=self._discovery.matches(path))
        return None

    def _find(self, inode: Inode, path: str, status: os.stat_result, now: Time, *, aside: bool) -> None:
        """One that is new to us, unless it was read to its end before."""
        if self._finished.as_it_was(inode, status):
            return
        try:
            key = ARCHIVE + key_at(path, inode)
        except OSError:  # replaced since it was found
            self._followed.rescan = True
            return
        if self._finished.there_again(key, inode, status):
            return
        if len(self._known) + len(self._finished) >= self._options.max_files:
            self._followed.files_left_out += 1
            return
        oldest_ns = now.wall_ns - round((self._options.max_age_seconds or 0) * NANOSECONDS)
        if self._finished.get(key) is None and (
            aside or (self._options.max_age_seconds and status.st_mtime_ns < oldest_ns)
        ):
            self._finished.note(key, Cursor(path, 0, status.st_size, status.st_mtime_ns, done=True))
            return
        self._enqueue(Archive(inode, key, path, path, named=True))

    # What becomes of them

    def _wake(self, archive: Archive, now: Time) -> None:
        """Reads on in one that has changed; one that was never written to its end is damaged after a while."""
        if archive in self._queue or self._waits_for_original(archive):
            return
        try:
            status = os.stat(archive.where or archive.path)
        except OSError:
            self._lost_sight(archive)
            return
        if inode_of(status) != archive.inode or not stat.S_ISREG(status.st_mode):
            self._lost_sight(archive)
        elif (status.st_size, status.st_mtime_ns) != archive.packed:
            if not archive.settled:
                archive.unsettle()
            self._enqueue(archive)
        elif not archive.error and now.monotonic_seconds - archive.still_since >= self._options.rotate_wait_seconds:
            self._failed(archive, Unpackable("it ends in the middle"))

    def _waits_for_original(self, archive: Archive) -> bool:
        """Whether the file it was made of can still be read; where that is no longer so, it looks anew."""
        if archive.original is None:
            return False
        if self._is_there(archive.original) and (archive.proven or not archive.original.offset):
            return True
        archive.unsettle()
        self._enqueue(archive)
        return True

    def _lost_sight(self, archive: Archive) -> None:
        """It was renamed, or is gone."""
        names = type(self._followed.names)()
        with contextlib.suppress(OSError):
            where = names.search(archive.inode, {os.path.dirname(archive.where or archive.path): None})
            if where is not None and where != archive.where:
                archive.where = where
                return
        self._drop(archive)
        if archive.settled or archive.named:
            self._left.gone(archive.key, archive.cursor(), archive.shown)

    def _failed(self, archive: Archive, error: Exception) -> None:
        archive.error = getattr(error, "strerror", None) or str(error)
        self._followed.faults.unpackable(archive.shown, archive.error)
        self._dequeue(archive)
        archive.close()
        self._decided(archive)

    def _end(self, archive: Archive) -> None:
        if archive.named:
            self._finished.note(archive.key, replace(archive.cursor(), done=True))
        self._drop(archive)

    def _enqueue(self, archive: Archive) -> None:
        self._known[archive.inode] = archive
        self._queue[archive] = None
        archive.error = ""
        if archive.settled or (archive.named and self._finished.get(archive.key) is None):
            self._followed.pending[archive.key] = archive.cursor().encode()
        self._advance()

    def _dequeue(self, archive: Archive) -> None:
        self._queue.pop(archive, None)
        self._followed.ready.pop(archive, None)

    def _drop(self, archive: Archive) -> None:
        self._dequeue(archive)
        archive.close()
        self._known.pop(archive.inode, None)
        if archive.settled or archive.named:
            self._finished.let_be(archive.key)
        self.release(archive)
        self._decided(archive)

    def _advance(self) -> None:
        """Has the first of the queue read; one at a time, for the memory they take."""
        for archive in self._queue:
            self._followed.ready[archive] = None
            return
