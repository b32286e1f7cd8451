"""This file is the set of followed files: under which names they lie, which are ready, what became of them.

    found ──> followed ──renamed, deleted──> rotated ──read to its end──> let go: closed, looked at while it has a name
                 │                              │
                 └── no name, no descriptor ────┴──> absent: position kept for its return, unread bytes counted

scan.py finds out what there is, turns.py reads. All of it is synchronous, runs on one thread and is
told the time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec.structs import replace

from agent.clock import NANOSECONDS, Time
from agent.collect.file.absent import Absent
from agent.collect.file.archives import Archives
from agent.collect.file.copies import copy_of
from agent.collect.file.cursor import Cursor
from agent.collect.file.faults import Faults
from agent.collect.file.identity import GONE, Inode, file_key, gone_key, inode_of_key
from agent.collect.file.open import OpenFiles
from agent.collect.file.options import FileOptions
from agent.collect.file.rotation import Names, SpoolGuard
from agent.collect.file.tail import Tail

MOST_COMPRESSED = 1000
"""Names of files that are gone, for batches that are read again from what they were compressed to."""


class Followed:
    """Every file that is followed, by inode.

    ``by_name`` finds them by every name an event may give them. ``ready`` are the files to be looked into, in order.
    ``absent`` are those that are not there. ``pending`` are positions that wait for the next batch.
    ``directories`` are those to watch. ``rescan`` asks for a scan before the next one is due.
    """

    def __init__(self, options: FileOptions, guard: SpoolGuard, faults: Faults) -> None:
        self.tails: dict[Inode, Tail] = {}
        self.by_name: dict[str, Tail] = {}
        self.ready: dict[Tail, None] = {}
        self.absent = Absent()
        self.pending: dict[str, str | None] = {}
        self.directories: set[str] = set()
        self.names = Names()
        self.rescan = False
        self.files_left_out = self.files_left_alone = 0
        self.guard = guard
        self.faults = faults
        self.open_files = OpenFiles(options.max_open_files)
        self.archives = Archives(options, self)
        self._compressed: dict[str, str] = {}
        self._rotate_wait_seconds = options.rotate_wait_seconds

    def load(self, positions: Mapping[str, str]) -> None:
        """Takes in the positions as they were committed."""
        self.absent.load(positions)
        self.archives.load(positions)

    def path_of(self, key: str) -> str:
        """The name under which a file was found, by its key; empty where that is not known."""
        here = next((tail.path for tail in self.tails.values() if tail.key == key), None)
        absent = here or next((cursor.path for _, known, cursor in self.absent if file_key(known) == key), "")
        return absent or self._compressed.get(key, "")

    def written(self, paths: set[str]) -> None:
        """Readies files that were written to."""
        for path in paths & self.by_name.keys():
            self.ready[self.by_name[path]] = None

    def seen(self, tail: Tail, where: str | None, status: os.stat_result, now: Time) -> None:
        """Takes note of where a followed file lies and how large it is, and readies it if there is something to do."""
        self.place(tail, where, now)
        changed = tail.look(status, now.monotonic_seconds)
        if changed or tail.behind or tail.error or self.to_let_go(tail, now):
            self.ready[tail] = None

    def to_let_go(self, tail: Tail, now: Time) -> bool:
        """Whether a rotated file has been at rest long enough."""
        rested = now.monotonic_seconds - tail.still_since >= self._rotate_wait_seconds
        return tail.rotated and rested and (tail.fd >= 0 or tail.unread_bytes > 0)

    def follow(self, tail: Tail, status: os.stat_result, now: Time) -> None:
        """Adds a file; it is opened when its turn comes, unless it is as it was and there is no room."""
        self.tails[tail.inode] = tail
        where, tail.where = tail.where, None
        self.place(tail, where, now)
        changed = tail.look(status, now.monotonic_seconds)
        tail.still_since = now.monotonic_seconds
        if changed or tail.behind or not self.open_files.full:
            self.ready[tail] = None

    def vanish(self, tail: Tail, now: Time, *, for_good: bool) -> None:
        """Ends following a file that has no name and no descriptor left; ``for_good`` says it can never return."""
        where, lost_bytes = tail.where, max(tail.lost_bytes, tail.unread_bytes)
        read = for_good and tail.fd >= 0 and not lost_bytes
        self.let_be(tail, now)
        cursor = replace(tail.cursor(), size=tail.offset + lost_bytes)
        if for_good:
            self.pending[tail.key] = None
        if not read or self.archives.naming:
            self.seek(tail, gone_key(tail.key, cursor.prefix) if for_good else tail.key, where, cursor, now)

    def let_be(self, tail: Tail, now: Time) -> None:
        """Ends following a file, whatever becomes of its position."""
        self.open_files.close(tail)
        del self.tails[tail.inode]
        self.ready.pop(tail, None)
        self.place(tail, None, now)

    def place(self, tail: Tail, where: str | None, now: Time) -> None:
        """Notes the name a file has now. A file that loses its name is read before the next one that bears it."""
        if tail.where == where:
            return
        for name in tail.names:
            if self.by_name.get(name) is tail:
                del self.by_name[name]
        was_rotated, tail.where = tail.rotated, where
        if tail.rotated and not was_rotated:
            tail.still_since = now.monotonic_seconds
        tail.names = () if where is None else (where, self.names.real(where))
        for name in tail.names:
            self.by_name[name] = tail

    def fault(self, tail: Tail, error: OSError) -> None:
        """Notes that a file cannot be read; it is tried again at every scan."""
        tail.error = error.strerror or type(error).__name__
        self.faults.unreadable(tail.shown, error)

    def keep(self, inode: Inode, key: str, cursor: Cursor, now: Time) -> None:
        """Keeps the position of a file that is gone; what was not read of it was counted, or can be read yet."""
        self._hold(inode, key, cursor.as_gone(now.wall_ns // NANOSECONDS))

    def seek(
        self, file: Tail | Inode, key: str, where: str | None, cursor: Cursor, now: Time, *, truncated: bool = False
    ) -> bool:
        """Keeps the position of a file that is gone until a compressed one goes on for it, or none is left that may;
        a plain copy goes on at once, which is looked for before where it was ``truncated``.

        Where there is none what was not read is counted, and False returned; not so of one that was ``truncated``.
        """
        tail, inode = (file, file.inode) if isinstance(file, Tail) else (None, file)
        if not truncated and self._copied(key, where, cursor, now):
            self.archives.release(tail)
            return True
        gone = replace(cursor, gone=cursor.gone or now.wall_ns // NANOSECONDS)
        self._hold(inode, key, gone)
        sought = self.archives.seek(key, where, gone, tail)
        if not sought:
            self.give_up(key, counted=truncated)
        return sought

    def _copied(self, key: str, where: str | None, cursor: Cursor, now: Time) -> bool:
        """Whether a plain copy goes on for a file that is gone; both positions are committed together."""
        found = copy_of(self, key, where, cursor)
        if found is None:
            return False
        copy, status = found
        self._forget(key)
        self.follow(copy, status, now)
        self.pending[copy.key] = copy.cursor().encode()
        return True

    def give_up(self, key: str, *, counted: bool = False) -> None:
        """No compressed file holds the rest of a file that is gone: it is lost. Its position is kept for its return,
        or for a compressed file that patterns name."""
        inode, cursor = inode_of_key(key), self.absent.get(key)
        if inode is None or cursor is None:
            return
        if not counted:
            self.count_vanished(cursor.path, cursor.unread_bytes)
        if key.startswith(GONE) and not (self.archives.naming and cursor.prefix.length):
            self._forget(key)
        else:
            self._hold(inode, key, cursor.as_gone(cursor.gone))

    def went_on(self, key: str, path: str) -> None:
        """Forgets the position of a file for which a compressed one goes on; its name is known a while longer."""
        self._forget(key)
        self._compressed[file_key(key)] = path
        if len(self._compressed) > MOST_COMPRESSED:
            del self._compressed[next(iter(self._compressed))]

    def gone_for_good(self, inode: Inode, key: str, cursor: Cursor, now: Time) -> None:
        """Ends with a file whose inode another one has; what was not read of it is counted, or read compressed."""
        self.pending[key] = None
        self.seek(inode, gone_key(key, cursor.prefix), None, cursor, now)

    def _hold(self, inode: Inode, key: str, cursor: Cursor) -> None:
        if self.absent.get(key) != cursor:
            self.absent.put(inode, key, cursor)
            self.pending[key] = cursor.encode()

    def _forget(self, key: str) -> None:
        self.absent.take(key)
        self.pending[key] = None

    def count_vanished(self, path: str, amount: int) -> None:
        """Counts bytes that nobody can read any more."""
        self.faults.lost("vanished", amount, "%d bytes of %s were gone before they were read", path)
