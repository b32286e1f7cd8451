"""This file is the set of followed files: under which names they lie, which are ready, what became of them.

    found ──> followed ──renamed, deleted──> rotated ──read to its end──> let go: closed, looked at while it has a name
                 │                              │
                 └── no name, no descriptor ────┴──> absent: position kept for its return, unread bytes counted

file_scan.py finds out what there is, file_turns.py reads. All of it is synchronous, runs on one thread and is
told the time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.clock import NANOSECONDS, Time
from agent.collect.file.absent import Absent
from agent.collect.file.archives import Archives
from agent.collect.file.cursor import Cursor
from agent.collect.file.faults import Faults
from agent.collect.file.identity import Inode
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
        absent = here or next((cursor.path for _, known, cursor in self.absent if known == key), "")
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
        read = for_good and tail.fd >= 0 and not tail.unread_bytes
        where = tail.where
        self.let_be(tail, now)
        archives, cursor, lost_bytes = self.archives, tail.cursor(), max(tail.lost_bytes, tail.unread_bytes)
        heir = archives.left(tail) or archives.inherit(tail.path, where, cursor, lost_bytes, read=read)
        if not heir:
            self.count_vanished(tail.path, lost_bytes)
        if heir:
            self._went_on(tail.key, tail.path)
        elif for_good:
            self.pending[tail.key] = None
        else:
            self.keep(tail.inode, tail.key, cursor, now)

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
        """Keeps the position of a file that is gone."""
        gone = cursor.as_gone(now.wall_ns // NANOSECONDS)
        self.absent.put(inode, key, gone)
        self.pending[key] = gone.encode()

    def inherited(self, key: str, cursor: Cursor) -> bool:
        """Whether a compressed file goes on for one that is gone, whose position is then forgotten."""
        lost_bytes = 0 if cursor.gone else cursor.unread_bytes
        heir = self.archives.inherit(cursor.path, None, cursor, lost_bytes)
        if heir:
            self._went_on(key, cursor.path)
        return heir

    def _went_on(self, key: str, path: str) -> None:
        """Forgets the position of a file for which a compressed one goes on; its name is known a while longer."""
        self.pending[key] = None
        self._compressed[key] = path
        if len(self._compressed) > MOST_COMPRESSED:
            del self._compressed[next(iter(self._compressed))]

    def gone_for_good(self, key: str, cursor: Cursor) -> None:
        """Forgets a file whose inode another one has; what was not read of it is counted, or read compressed."""
        if not self.inherited(key, cursor) and not cursor.gone:
            self.count_vanished(cursor.path, cursor.unread_bytes)
        self.pending[key] = None

    def count_vanished(self, path: str, amount: int) -> None:
        """Counts bytes that nobody can read any more."""
        self.faults.lost("vanished", amount, "%d bytes of %s were gone before they were read", path)
