"""This file is the set of followed files: which there are, under which names, and what became of them.

    found ──> followed ──renamed, deleted──> rotated ──read to its end──> let go: closed, looked at while it has a name
                 │                              │
                 └── no name, no descriptor ────┴──> absent: position kept for its return, unread bytes counted

Everything here is synchronous, runs on one thread and is told the time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.clock import NANOSECONDS, Time
from agent.collect.file_absent import STARTED, Absent
from agent.collect.file_cursor import Cursor
from agent.collect.file_discovery import Discovery, Found
from agent.collect.file_faults import Faults
from agent.collect.file_identity import Inode, Replaced, inode_of, key_at
from agent.collect.file_open import OpenFiles
from agent.collect.file_options import FileOptions
from agent.collect.file_rotation import Names, SpoolGuard, lies_at
from agent.collect.file_tail import Tail
from agent.wire.lines import line_start

_LAST_LINE_BYTES = 64 << 10
_ABSENT = (FileNotFoundError, NotADirectoryError)


class Followed:
    """Every file that is followed, by inode.

    ``ready`` are the files to be looked into, in order. ``pending`` are positions that wait for the next batch.
    ``directories`` are those to watch. ``rescan`` asks for a scan before the next one is due.
    """

    def __init__(
        self, options: FileOptions, guard: SpoolGuard, faults: Faults, positions: Mapping[str, str], first_start: bool
    ) -> None:
        self.tails: dict[Inode, Tail] = {}
        self.ready: dict[Tail, None] = {}
        self.pending: dict[str, str | None] = {}
        self.directories: set[str] = set()
        self.rescan = False
        self.files_left_out = 0
        self.guard = guard
        self.faults = faults
        self.open_files = OpenFiles(options.max_open_files)
        self._options = options
        self._discovery = Discovery(options.paths, options.exclude, options.max_directories)
        self._absent = Absent(positions)
        self._at_end = first_start and options.start_at == "end"
        self._first_scan = True
        self._by_name: dict[str, Tail] = {}
        self._left: dict[str, Tail] = {}
        self._names = Names()

    def touch(self, written: set[str], renamed: set[str]) -> bool:
        """Readies the files written to; True when a name that came or went asks for a scan."""
        for path in written:
            tail = self._by_name.get(path)
            if tail is not None:
                self.ready[tail] = None
        return any(path in self._by_name or self._discovery.matches(path) for path in renamed)

    def scan(self, now: Time) -> None:
        """Looks at every file there is and every file that was; takes note of names, sizes and times."""
        self.rescan = False
        self.guard.refresh()
        found, self._names = self._discovery.walk(), Names()
        present = self._by_inode(found)
        self.directories = set(found.directories)
        for tail in tuple(self.tails.values()):
            if tail.inode in present:
                self.seen(tail, *present.pop(tail.inode), now)
            else:
                self._missing(tail, now)
        self._appear(present, now)
        if self._first_scan:
            self._begin(now)
        self._forget(now)
        self._left = {name: tail for name, tail in self._left.items() if tail.unread_bytes and tail.inode in self.tails}
        self.directories.update(os.path.dirname(path) for path in self._by_name)
        self.faults.left_out("max_directories", self._options.max_directories, found.directories_left_out)
        self.faults.listing(found.failures, (tail.shown for tail in self.tails.values() if tail.error))
        self._first_scan = False

    def seen(self, tail: Tail, where: str | None, status: os.stat_result, now: Time) -> None:
        """Takes note of where a followed file lies and how large it is, and readies it if there is something to do."""
        self._place(tail, where, now)
        changed = tail.look(status, now.monotonic_seconds)
        if changed or tail.behind or tail.error or self.to_let_go(tail, now):
            self.ready[tail] = None

    def to_let_go(self, tail: Tail, now: Time) -> bool:
        """Whether a rotated file has been at rest long enough."""
        rested = now.monotonic_seconds - tail.still_since >= self._options.rotate_wait_seconds
        return tail.rotated and rested and (tail.fd >= 0 or tail.unread_bytes > 0)

    def follow(self, tail: Tail, status: os.stat_result, now: Time) -> None:
        """Adds a file; it is opened when its turn comes, unless it is as it was and there is no room."""
        self.tails[tail.inode] = tail
        where, tail.where = tail.where, None
        self._place(tail, where, now)
        changed = tail.look(status, now.monotonic_seconds)
        tail.still_since = now.monotonic_seconds
        if changed or tail.behind or not self.open_files.full:
            self.ready[tail] = None

    def vanish(self, tail: Tail, now: Time, *, for_good: bool) -> None:
        """Ends following a file that has no name and no descriptor left; ``for_good`` says it can never return."""
        self.open_files.close(tail)
        del self.tails[tail.inode]
        self.ready.pop(tail, None)
        self._place(tail, None, now)
        self._count_vanished(tail.path, tail.lost_bytes)
        if for_good:
            self.pending[tail.key] = None
        else:
            self._keep(tail.inode, tail.key, tail.cursor(), now)

    def _by_inode(self, found: Found) -> dict[Inode, tuple[str, os.stat_result]]:
        """One name for each file: the one it was found under, else the one it had, else the first."""
        present: dict[Inode, tuple[str, os.stat_result]] = {}
        for path, status in found.files:
            inode = inode_of(status)
            tail = self.tails.get(inode)
            known = present.get(inode)
            better = tail is not None and (
                path == tail.path or (path == tail.where and known and known[0] != tail.path)
            )
            if known is None or better:
                present[inode] = path, status
        return present

    def _place(self, tail: Tail, where: str | None, now: Time) -> None:
        """Notes the name a file has now. A file that loses its name is read before the next one that bears it."""
        if tail.where == where:
            return
        for name in tail.names:
            if self._by_name.get(name) is tail:
                del self._by_name[name]
        if tail.where is not None:
            self._left[tail.where] = tail
        was_rotated, tail.where = tail.rotated, where
        if tail.rotated and not was_rotated:
            tail.still_since = now.monotonic_seconds
        tail.names = () if where is None else (where, self._names.real(where))
        for name in tail.names:
            self._by_name[name] = tail

    def _missing(self, tail: Tail, now: Time) -> None:
        """A followed file that no pattern finds any more: it has another name, or only our descriptor, or is gone."""
        try:
            where = self._find(tail)
            if where is not None:
                self.seen(tail, where, os.stat(where), now)
            elif tail.fd >= 0:
                self.seen(tail, None, os.fstat(tail.fd), now)
            else:
                self.vanish(tail, now, for_good=False)
        except _ABSENT:
            self.rescan = True
        except OSError as error:
            self.fault(tail, error)

    def _find(self, tail: Tail) -> str | None:
        """Where a file lies now; raises OSError where that cannot be told."""
        if tail.where is not None and lies_at(tail.where, tail.inode):
            return tail.where
        own = {os.path.dirname(tail.where or tail.path): None, os.path.dirname(tail.path): None}
        others = () if tail.fd >= 0 else sorted(self.directories - own.keys())
        return self._names.search(tail.inode, (*own, *others))

    def fault(self, tail: Tail, error: OSError) -> None:
        """Notes that a file cannot be read; it is tried again at every scan."""
        tail.error = error.strerror or type(error).__name__
        self.faults.unreadable(tail.shown, error)

    def _appear(self, present: dict[Inode, tuple[str, os.stat_result]], now: Time) -> None:
        """Takes in files that were not followed: as they were left, or from the beginning, or from the end."""
        self.files_left_out = 0
        for inode, (path, status) in present.items():
            if self.guard.refuses(self._names.real(path), inode):
                self.faults.refused(path)
            elif len(self.tails) >= self._options.max_files:
                self.files_left_out += 1
            else:
                self._take_in(inode, path, status, now)
        self.faults.left_out("max_files", self._options.max_files, self.files_left_out)

    def _take_in(self, inode: Inode, path: str, status: os.stat_result, now: Time) -> None:
        try:
            key = key_at(path, inode)
        except OSError:  # replaced since it was found
            self.rescan = True
            return
        cursor, forgotten = self._absent.resume(inode, key)
        if forgotten is not None:
            self.pending[forgotten] = None
        tail = Tail(inode, key, path, path, fresh=not self._first_scan)
        if cursor is not None:
            tail = Tail.resumed(inode, key, path, cursor)
        tail.after = self._left.get(path)
        self.follow(tail, status, now)
        if cursor is None and self._first_scan and self._at_end:
            self._start_at_end(tail, status)

    def _start_at_end(self, tail: Tail, status: os.stat_result) -> None:
        """From its last unfinished line on; where it cannot be read yet, from its present size on."""
        tail.offset = status.st_size
        try:
            self.open_files.use(tail)
            back = min(status.st_size, _LAST_LINE_BYTES)
            data = os.pread(tail.fd, back, status.st_size - back)
            whole = line_start(data)
            tail.start_at(status.st_size - back + whole if whole else status.st_size)
        except OSError as error:
            self.fault(tail, error)
        self.pending[tail.key] = tail.cursor().encode()

    def _begin(self, now: Time) -> None:
        """Finds the files that lost their name while nobody looked; those that are gone are counted, once."""
        self.pending[STARTED] = "1"
        self.pending.update(dict.fromkeys(self._absent.damaged))
        for inode, key, cursor in self._absent:
            try:
                self._find_again(inode, key, cursor, now)
            except Replaced:
                self.rescan = True
            except OSError as error:
                self.faults.unreadable(cursor.path, error)

    def _find_again(self, inode: Inode, key: str, cursor: Cursor, now: Time) -> None:
        where = self._names.search(inode, (os.path.dirname(cursor.path), *sorted(self.directories)))
        if where is None or key_at(where, inode) != key:
            if not cursor.gone:
                self._count_vanished(cursor.path, cursor.unread_bytes)
                self._keep(inode, key, cursor, now)
        elif not self.guard.refuses(self._names.real(where), inode):
            self._absent.take(key)
            self.follow(Tail.resumed(inode, key, where, cursor), os.stat(where), now)

    def _keep(self, inode: Inode, key: str, cursor: Cursor, now: Time) -> None:
        """Keeps the position of a file that is gone."""
        gone = cursor.as_gone(now.wall_ns // NANOSECONDS)
        self._absent.put(inode, key, gone)
        self.pending[key] = gone.encode()

    def _count_vanished(self, path: str, amount: int) -> None:
        self.faults.lost("vanished", amount, "%d bytes of %s were gone before they were read", path)

    def _forget(self, now: Time) -> None:
        oldest = now.wall_ns // NANOSECONDS - int(self._options.forget_after_seconds)
        for key in self._absent.expired(oldest, self._options.max_files):
            self._absent.take(key)
            self.pending[key] = None
