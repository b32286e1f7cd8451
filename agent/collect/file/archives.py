"""This file is the set of compressed files: those that patterns name, and those that hold the rest of a file.

    a file is gone with a rest unread ──the one in its directory that begins like it──▶ goes on at its offset
    a pattern names one ──made of a file that is known──▶ waits until that is gone, then goes on at its offset
                        └─of none────────────────────────▶ from its beginning

They are read one at a time, each once. One that ends in the middle waits for more; one that is damaged is counted,
and tried again when it changes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.clock import NANOSECONDS, Time
from agent.collect.file.archive import ARCHIVE, Archive, Unfinished
from agent.collect.file.cursor import Cursor, decode
from agent.collect.file.discovery import Discovery
from agent.collect.file.identity import Fingerprint, Inode, Replaced, inode_of, inode_of_key, key_at
from agent.collect.file.names import rotated_names
from agent.collect.file.options import FileOptions
from agent.collect.file.packed import Packed
from agent.collect.file.tail import Piece, Rewritten, Tail
from agent.wire.encoding import encoding_of
from agent.wire.unpack import SUFFIXES, Unpackable

if TYPE_CHECKING:
    from agent.collect.file.follow import Followed

_ABSENT = (FileNotFoundError, NotADirectoryError)
MOST_ORIGINALS = 8
"""Most files that begin alike which one compressed file is compared with."""
MOST_UNFINISHED = 16
"""Most files kept open because they are still written; what is unpacked of others is let go."""


class Archives:
    """Compressed files by inode, and the queue of those that have something to read."""

    def __init__(self, options: FileOptions, followed: Followed) -> None:
        self._options = options
        self._followed = followed
        self._encoding = encoding_of(options.encoding)
        self._packed = Packed(followed.guard)
        self._known: dict[Inode, Archive] = {}
        self._queue: dict[Archive, None] = {}
        self._orphans: list[tuple[list[tuple[str, Inode]], Cursor, int]] = []
        self._done: dict[str, Cursor] = {}
        self._left: dict[str, Cursor] = {}
        self._as_they_were: dict[Inode, tuple[int, int]] = {}
        self._discovery = Discovery(options.paths, options.exclude, options.max_directories)
        self._naming = any(path.endswith(SUFFIXES) for path in options.paths)

    def load(self, positions: Mapping[str, str]) -> None:
        """Takes in the positions as they were committed."""
        for key, value in positions.items():
            if key.startswith(ARCHIVE):
                cursor = decode(value)
                if cursor is None:
                    self._followed.pending[key] = None
                else:
                    (self._done if cursor.done else self._left)[key] = cursor

    def __len__(self) -> int:
        """How many have something to read."""
        return len(self._queue)

    def rests(self) -> dict[str, tuple[Archive, ...]]:
        """Those that hold the rest of files, by the names these had."""
        found: dict[str, tuple[Archive, ...]] = {}
        for archive in self._queue:
            if not archive.named:
                found[archive.path] = (*found.get(archive.path, ()), archive)
        return found

    def waits(self, tail: Tail) -> bool:
        """Whether ``tail`` is one that is read, or will be when it has been written to its end."""
        return isinstance(tail, Archive) and not tail.error and self._known.get(tail.inode) is tail

    def look(self, named: Mapping[Inode, tuple[str, os.stat_result]], now: Time, *, aside: bool) -> None:
        """Takes note of those that patterns name now; ``aside`` leaves alone what is new. Wakes what has changed."""
        self._go_on_with_left(now)
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
        self._forget({inode[1] for inode in named}, now)

    def inherit(self, path: str, where: str | None, cursor: Cursor, lost_bytes: int, *, read: bool = False) -> bool:
        """Lets a compressed file go on for a file that is gone; False where none in its directory begins like it.

        Of one that was ``read`` to its end nothing is missing, and only one that patterns name has to know of it.
        """
        if not cursor.prefix.length or (read and not self._naming):
            return False
        directories = dict.fromkeys((os.path.dirname(path), os.path.dirname(where or path)))
        heirs = [heir for directory in directories for heir in self._packed.like(directory, cursor)]
        for _, inode in heirs:
            known = self._known.get(inode)
            if known is not None and known.original is None and known.made_of != []:
                known.made_of = [*(known.made_of or ()), (cursor, None)]
                return True
        heirs.sort(key=lambda heir: not any(rotated_names([os.path.splitext(heir[0])[0]], {path})))
        if self._go_on_in(heirs, cursor, lost_bytes):
            return True
        if heirs:
            self._orphans.append((heirs, cursor, lost_bytes))
        return bool(heirs)

    def left(self, tail: Tail) -> bool:
        """Goes on for a file that is gone in those that wait for it; False where none does."""
        waiting = [archive for archive in self._known.values() if archive.original is tail]
        for archive in waiting:
            archive.original = None
            archive.go_on_at(tail.cursor())
            archive.path = tail.path
            self._enqueue(archive)
        return bool(waiting)

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

    def _read(self, archive: Archive, now: Time) -> Piece | None:
        archive.open()
        if archive.is_another():
            raise Replaced
        archive.look_packed(os.fstat(archive.fd), now.monotonic_seconds)
        if archive.made_of is None:
            archive.made_of = list(self._originals(archive))
        if archive.made_of and not self._settle(archive):
            return None
        if archive.offset and not archive.ended and archive.holds_no_more():
            self._finished(archive)
            return None
        if not archive.approach():
            return None
        if archive.others is not None and not archive.fits(archive.cursor()):
            self._next_heir(archive)
            return None
        archive.others = None
        archive.learn(self._encoding)
        options = self._options
        piece = archive.next(options.block_bytes, options.max_line_bytes, options.max_record_bytes)
        if piece is None:
            self._finished(archive)
        return piece

    def _begin_anew(self, archive: Archive) -> None:
        """From its beginning, once for each time it changes: what repeats for ever helps nobody."""
        if archive.begun_anew:
            self._failed(archive, Unpackable("it does not read the same twice"))
        archive.begun_anew = True
        archive.restart()

    def _settle(self, archive: Archive) -> bool:
        """Whether it is known which file it was made of, and that is gone."""
        assert archive.made_of
        cursor, original = archive.made_of[0]
        archive.go_on_at(cursor)
        if not archive.approach():
            return False
        if not archive.fits(cursor):
            archive.made_of.pop(0)
            archive.restart()
            return not archive.made_of
        archive.made_of = []
        archive.path = cursor.path
        if original is not None and self._followed.tails.get(original.inode) is original:
            archive.original = original
            self._dequeue(archive)
            archive.close()
            return False
        return True

    def _originals(self, archive: Archive) -> Iterator[tuple[Cursor, Tail | None]]:
        """Files that begin as it does: followed, gone, or compressed themselves."""
        head, digests = archive.head(), dict[int, Fingerprint]()

        def begins(known: Fingerprint) -> bool:
            if known.length not in digests:
                digests[known.length] = Fingerprint.of(head[: known.length])
            return known.length > 0 and digests[known.length] == known

        tails = [tail for tail in self._followed.tails.values() if tail.offset and begins(tail.prefix)]
        alike: list[tuple[Cursor, Tail | None]] = [(tail.cursor(), tail) for tail in tails]
        gone = [*(cursor for _, _, cursor in self._followed.absent), *self._done.values()]
        alike += [(cursor, None) for cursor in gone if cursor.offset and begins(cursor.prefix)]
        stem = archive.path.partition(".")[0]
        alike.sort(key=lambda each: (not each[0].path.startswith(stem), -each[0].mtime_ns))
        return iter(alike[:MOST_ORIGINALS])

    def _find(self, inode: Inode, path: str, status: os.stat_result, now: Time, *, aside: bool) -> None:
        """One that is new to us, unless it was read to its end before."""
        seen = status.st_size, status.st_mtime_ns
        if self._as_they_were.get(inode) == seen:
            return
        try:
            key = ARCHIVE + key_at(path, inode)
        except OSError:  # replaced since it was found
            self._followed.rescan = True
            return
        done = self._done.get(key)
        if done is not None and (done.size, done.mtime_ns) == seen:
            self._as_they_were[inode] = seen
            if done.gone:
                self._note_done(key, replace(done, gone=0))
            return
        if len(self._known) + len(self._done) >= self._options.max_files:
            self._followed.files_left_out += 1
            return
        oldest_ns = now.wall_ns - round((self._options.max_age_seconds or 0) * NANOSECONDS)
        if done is None and (aside or (self._options.max_age_seconds and status.st_mtime_ns < oldest_ns)):
            self._note_done(key, Cursor(path, 0, status.st_size, status.st_mtime_ns, done=True))
            return
        self._enqueue(Archive(inode, key, path, path, named=True))

    def _go_on_with_left(self, now: Time) -> None:
        """Those that were not read to their end when the agent stopped."""
        left, self._left = self._left, {}
        for key, cursor in left.items():
            inode = inode_of_key(key.removeprefix(ARCHIVE))
            directories = (os.path.dirname(cursor.path), *sorted(self._followed.directories))
            where = None
            with contextlib.suppress(OSError):
                where = None if inode is None else self._followed.names.search(inode, directories)
            if where is None or inode is None:
                self._gone(key, cursor.path)
            elif cursor.offset:
                self._enqueue(Archive.at(inode, key, where, cursor, named=self._discovery.matches(where)))
            else:  # of which nothing was read: it may yet prove to be made of a file that is known
                self._enqueue(Archive(inode, key, where, where, named=self._discovery.matches(where)))

    def _go_on_in(self, heirs: list[tuple[str, Inode]], cursor: Cursor, lost_bytes: int) -> bool:
        """Tries the first of them that is free, which is taken out; False where none is."""
        for heir in [heir for heir in heirs if heir[1] not in self._known]:
            heirs.remove(heir)
            path, inode = heir
            with contextlib.suppress(OSError):
                key = ARCHIVE + key_at(path, inode)
                archive = Archive.at(inode, key, path, cursor, named=self._discovery.matches(path))
                archive.others, archive.missing_bytes = heirs, lost_bytes
                self._enqueue(archive)
                return True
        return False

    def _next_heir(self, archive: Archive) -> None:
        """Another one that begins alike; where none is left, what was there is lost."""
        cursor, others = archive.cursor(), archive.others or []
        self._drop(archive)
        if not self._go_on_in(others, cursor, archive.missing_bytes):
            if others:
                self._orphans.append((others, cursor, archive.missing_bytes))
            else:
                self._followed.count_vanished(archive.path, archive.missing_bytes)

    def _try_orphans(self) -> None:
        """Files that found each one that begins alike taken, now that one is free."""
        orphans, self._orphans = self._orphans, []
        for heirs, cursor, lost_bytes in orphans:
            if not self._go_on_in(heirs, cursor, lost_bytes):
                if heirs:
                    self._orphans.append((heirs, cursor, lost_bytes))
                else:
                    self._followed.count_vanished(cursor.path, lost_bytes)

    def _wake(self, archive: Archive, now: Time) -> None:
        """Reads on in one that has changed; one that was never written to its end is damaged after a while."""
        if archive in self._queue or archive.original is not None:
            return
        try:
            status = os.stat(archive.where or archive.path)
        except OSError:
            self._lost_sight(archive)
            return
        if inode_of(status) != archive.inode or not stat.S_ISREG(status.st_mode):
            self._lost_sight(archive)
        elif (status.st_size, status.st_mtime_ns) != archive.packed:
            self._enqueue(archive)
        elif not archive.error and now.monotonic_seconds - archive.still_since >= self._options.rotate_wait_seconds:
            self._failed(archive, Unpackable("it ends in the middle"))

    def _lost_sight(self, archive: Archive) -> None:
        """It was renamed, or is gone."""
        names = type(self._followed.names)()
        with contextlib.suppress(OSError):
            where = names.search(archive.inode, {os.path.dirname(archive.where or archive.path): None})
            if where is not None and where != archive.where:
                archive.where = where
                return
        self._drop(archive)
        self._gone(archive.key, archive.shown)

    def _gone(self, key: str, path: str) -> None:
        self._followed.pending[key] = None
        self._followed.faults.archive_gone(path)

    def _failed(self, archive: Archive, error: Exception) -> None:
        archive.error = getattr(error, "strerror", None) or str(error)
        self._followed.faults.unpackable(archive.shown, archive.error)
        self._dequeue(archive)
        archive.close()

    def _finished(self, archive: Archive) -> None:
        self._drop(archive)
        if archive.named:
            self._note_done(archive.key, replace(archive.cursor(), done=True))

    def _note_done(self, key: str, cursor: Cursor) -> None:
        self._done[key] = cursor
        self._followed.pending[key] = cursor.encode()

    def _forget(self, numbers: set[int], now: Time) -> None:
        """Positions of those that are gone, after a while."""
        wall_seconds = now.wall_ns // NANOSECONDS
        for key, cursor in tuple(self._done.items()):
            inode = inode_of_key(key.removeprefix(ARCHIVE))
            if inode is not None and inode[1] in numbers:
                continue
            self._as_they_were.pop(inode or (0, 0), None)
            if not cursor.gone:
                self._note_done(key, replace(cursor, gone=wall_seconds))
            elif cursor.gone < wall_seconds - int(self._options.forget_after_seconds):
                del self._done[key]
                self._followed.pending[key] = None

    def _enqueue(self, archive: Archive) -> None:
        self._known[archive.inode] = archive
        self._queue[archive] = None
        archive.error = ""
        self._followed.pending[archive.key] = archive.cursor().encode()
        self._advance()

    def _dequeue(self, archive: Archive) -> None:
        self._queue.pop(archive, None)
        self._followed.ready.pop(archive, None)

    def _drop(self, archive: Archive) -> None:
        self._dequeue(archive)
        archive.close()
        self._known.pop(archive.inode, None)
        self._followed.pending[archive.key] = None
        if self._orphans:
            self._try_orphans()

    def _advance(self) -> None:
        """Has the first of the queue read; one at a time, for the memory they take."""
        for archive in self._queue:
            self._followed.ready[archive] = None
            return
