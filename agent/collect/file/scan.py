"""This file finds out what there is: files that are new, renamed, gone or back, and whose turn comes first.

A scan looks at every file the patterns find and at every file that was followed before. What the first scan finds
decides where reading starts; whatever appears later is read from its beginning.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.clock import NANOSECONDS, Time
from agent.collect.file.absent import STARTED
from agent.collect.file.cursor import Cursor
from agent.collect.file.discovery import Discovery, Found
from agent.collect.file.follow import Followed
from agent.collect.file.identity import GONE, Inode, born_ns_of_key, inode_of, key_at
from agent.collect.file.old import Old
from agent.collect.file.options import FileOptions
from agent.collect.file.relatives import Relatives
from agent.collect.file.rotation import Names, lies_at
from agent.collect.file.tail import Tail
from agent.wire.encoding import encoding_of
from agent.wire.unpack import SUFFIXES

_ABSENT = (FileNotFoundError, NotADirectoryError)
_Present = dict[Inode, tuple[str, os.stat_result]]


class Scan:
    """Keeps ``followed`` in step with the directories."""

    def __init__(
        self, options: FileOptions, followed: Followed, positions: Mapping[str, str], *, first_start: bool
    ) -> None:
        self._options = options
        self._followed = followed
        self._discovery = Discovery(options.paths, options.exclude, options.max_directories)
        self._from_end = first_start and options.start_at == "end"
        self._first = True
        self._unsearched: set[str] = set()
        self._positions: Mapping[str, str] | None = positions
        self._encoding = encoding_of(options.encoding)
        self._old = Old(options.max_age_seconds)
        self._relatives = Relatives(followed, options.max_files)
        self._new: dict[Tail, None] = {}
        self._failures: dict[str, OSError] = {}

    def load(self) -> None:
        """Takes in the committed positions, once; of ten thousand files that takes a while."""
        positions, self._positions = self._positions, None
        if positions is not None:
            self._followed.load(positions)
            self._unsearched = {key for _, key, _ in self._followed.absent}
            self._relatives.load()

    def wanted(self, renamed: set[str]) -> bool:
        """Whether names that came or went ask for a scan."""
        known = self._followed.by_name
        return any(path in known or self._discovery.matches(path) for path in renamed)

    def run(self, now: Time) -> None:
        """Looks at every file there is and every file that was; takes note of names, sizes and times."""
        self.load()
        followed = self._followed
        followed.rescan = False
        followed.guard.refresh()
        found, followed.names = self._discovery.walk(), Names()
        followed.directories, self._failures = set(found.directories), found.failures
        self._new = {}
        present = self._by_inode(found)
        packed = [inode for inode, (path, _) in present.items() if path.endswith(SUFFIXES)]
        named = {inode: present.pop(inode) for inode in packed}
        followed.archives.resume()
        self._look_again(present, now)
        self._appear(present, now)
        if self._first:
            self._begin()
        self._search(now)
        self._take_relatives(now)
        followed.archives.look(named, now, aside=self._first and self._from_end)
        self._put_in_order()
        self._relatives.learn(self._new)
        self._forget(now)
        followed.directories.update({path.rpartition("/")[0] or "/" for path in followed.by_name})
        self._tell(found.directories_left_out)
        followed.names.forget()
        self._first = False

    def _look_again(self, present: _Present, now: Time) -> None:
        """Sees how the files that are followed stand, and takes them out of ``present``, all but new ones with the
        inode of one that is gone."""
        for tail in tuple(self._followed.tails.values()):
            if tail.inode in present and self._reused(tail, *present[tail.inode]):
                self._followed.vanish(tail, now, for_good=True)
            elif tail.inode in present:
                self._followed.seen(tail, *present.pop(tail.inode), now)
            else:
                self._missing(tail, now)

    def _tell(self, directories_left_out: int) -> None:
        """Says what is not followed, by which bound, and what could not be read."""
        followed, options = self._followed, self._options
        followed.files_left_alone = len(self._old)
        followed.faults.left_alone(options.max_age_seconds, len(self._old))
        followed.faults.left_out("max_files", options.max_files, followed.files_left_out)
        followed.faults.left_out("max_directories", options.max_directories, directories_left_out)
        faulty = [tail.shown for tail in followed.tails.values() if tail.error]
        followed.faults.listing(self._failures, (*faulty, *followed.archives.faulty()))

    def _by_inode(self, found: Found) -> _Present:
        """One name for each file: the one it was found under, else the one it had, else the first."""
        present: _Present = {}
        for path, status in found.files:
            inode = inode_of(status)
            tail = self._followed.tails.get(inode)
            known = present.get(inode)
            better = tail is not None and (
                path == tail.path or (path == tail.where and known and known[0] != tail.path)
            )
            if known is None or better:
                present[inode] = path, status
        return present

    @staticmethod
    def _reused(tail: Tail, path: str, status: os.stat_result) -> bool:
        """Whether the inode of a file that is not open is another file's by now; asked only where something changed."""
        as_it_was = (tail.where, tail.size, tail.mtime_ns) == (path, status.st_size, status.st_mtime_ns)
        if tail.fd >= 0 or as_it_was:
            return False
        try:
            return key_at(path, tail.inode) != tail.key
        except OSError:
            return False

    def _missing(self, tail: Tail, now: Time) -> None:
        """A followed file that no pattern finds any more: it has another name, or only our descriptor, or is gone."""
        try:
            where = self._find(tail)
            if where is not None and self._reused(tail, where, os.stat(where)):
                self._followed.vanish(tail, now, for_good=True)
            elif where is not None:
                self._followed.seen(tail, where, os.stat(where), now)
            elif tail.fd >= 0:
                self._followed.seen(tail, None, os.fstat(tail.fd), now)
            else:
                self._followed.vanish(tail, now, for_good=False)
        except _ABSENT:
            self._followed.rescan = True
        except OSError as error:
            self._followed.fault(tail, error)

    def _find(self, tail: Tail) -> str | None:
        """Where a file lies now; raises OSError where that cannot be told."""
        if tail.where is not None and lies_at(tail.where, tail.inode):
            return tail.where
        own = {os.path.dirname(tail.where or tail.path): None, os.path.dirname(tail.path): None}
        others = () if tail.fd >= 0 else sorted(self._followed.directories - own.keys())
        return self._followed.names.search(tail.inode, (*own, *others))

    def _appear(self, present: _Present, now: Time) -> None:
        """Takes in files that were not followed: as they were left, or from the beginning, or from the end."""
        followed = self._followed
        followed.files_left_out = 0
        aged = self._old.set_aside(present, followed.absent, now)
        self._make_room(len(present), now)
        for inode, (path, status) in present.items():
            if followed.guard.refuses(followed.names.real(path), inode):
                followed.faults.refused(path)
            elif len(followed.tails) >= self._options.max_files:
                followed.files_left_out += 1
            else:
                self._take_in(inode, path, status, now, aged.get(inode))

    def _make_room(self, wanted: int, now: Time) -> None:
        """Rotated files that were let go give way to new ones; their positions are kept."""
        followed = self._followed
        lacking = len(followed.tails) + wanted - self._options.max_files
        for tail in tuple(followed.tails.values()) if lacking > 0 else ():
            if lacking > 0 and tail.rotated and tail.fd < 0 and not tail.unread_bytes:
                followed.let_be(tail, now)
                followed.keep(tail.inode, tail.key, tail.cursor(), now)
                lacking -= 1

    def _take_in(self, inode: Inode, path: str, status: os.stat_result, now: Time, aged: int | None) -> None:
        """``aged`` is the size at which it was left alone before."""
        followed = self._followed
        try:
            key = key_at(path, inode)
        except OSError:  # replaced since it was found
            followed.rescan = True
            return
        cursor, forgotten = followed.absent.resume(key)
        if forgotten is not None:
            followed.pending[forgotten] = None
        if cursor is not None:
            followed.follow(Tail.resumed(inode, key, path, cursor), status, now)
            return
        former = followed.absent.replaced(inode)
        if former is not None:
            followed.gone_for_good(inode, *former, now)
        tail = Tail(inode, key, path, path, fresh=not self._first and aged is None)
        self._new[tail] = None
        followed.follow(tail, status, now)
        if self._first and self._from_end:
            self._start_at_end(tail, status.st_size)
        elif aged is not None and aged <= status.st_size:
            self._start_at_end(tail, aged)
        followed.pending[key] = tail.cursor().encode()  # from now on it is missed if it is gone before it was read

    def _start_at_end(self, tail: Tail, size: int) -> None:
        """From the last line on that was unfinished at ``size``; where it cannot be read yet, from ``size`` on."""
        tail.offset = size
        try:
            self._followed.open_files.use(tail)
            tail.start_at_line(size, self._encoding)
        except OSError as error:
            self._followed.fault(tail, error)

    def _begin(self) -> None:
        followed = self._followed
        followed.pending[STARTED] = "1"
        followed.pending.update(dict.fromkeys(followed.absent.damaged))

    def _search(self, now: Time) -> None:
        """Finds the files that lost their name while nobody looked; those that are gone are counted, once."""
        for inode, key, cursor in self._followed.absent if self._unsearched else ():
            if key in self._unsearched:
                try:
                    self._find_again(inode, key, cursor, now)
                    self._unsearched.discard(key)
                except OSError as error:  # tried again by the next scan
                    self._failures[cursor.path] = error

    def _find_again(self, inode: Inode, key: str, cursor: Cursor, now: Time) -> None:
        followed = self._followed
        where, directories = None, (os.path.dirname(cursor.path), *sorted(followed.directories))
        if not key.startswith(GONE):
            where = followed.names.search(inode, directories)
        if where is None or key_at(where, inode) != key:
            followed.seek(inode, key, None, cursor, now)
        elif not followed.guard.refuses(followed.names.real(where), inode):
            followed.absent.take(key)
            followed.follow(Tail.resumed(inode, key, where, cursor), os.stat(where), now)

    def _take_relatives(self, now: Time) -> None:
        """Takes in files that came and lost their name between two scans, or while nobody looked."""
        followed = self._followed
        for path, name, key, status in tuple(self._relatives.unseen()):
            if not self._discovery.excludes(path) and len(followed.tails) < self._options.max_files:
                self._found_in_copy(name, status.st_size)
                tail = Tail(inode_of(status), key, name, path)
                self._new[tail] = None
                followed.follow(tail, status, now)
                followed.pending[key] = tail.cursor().encode()

    def _found_in_copy(self, name: str, size: int) -> None:
        """A file truncated before it was first read has no fingerprint; what it held is taken to be in a younger one
        of its name that is at least as long, and is not missed."""
        tail = self._followed.by_name.get(name)
        if tail is not None and not tail.offset and tail.size < tail.lost_bytes <= size:
            tail.peak = tail.size
            self._followed.pending[tail.key] = tail.cursor().encode()

    def _put_in_order(self) -> None:
        """Lets files that had one name be read in the order of their birth."""
        names = {tail.path for tail in (self._followed.tails.values() if self._first else self._new)}
        rests = self._followed.archives.rests()
        bearers: dict[str, list[Tail]] = {}
        for tail in self._followed.tails.values():
            if tail.path in names:
                bearers.setdefault(tail.path, []).append(tail)
        for tails in bearers.values():
            tails.sort(key=lambda tail: (tail.where == tail.path, born_ns_of_key(tail.key)))
            for index, tail in enumerate(tails):
                if tail in self._new or self._first:
                    formers = (former for former in tails[:index] if former.unread_bytes)
                    tail.after = (*rests.get(tail.path, ()), *formers)

    def _forget(self, now: Time) -> None:
        oldest = now.wall_ns // NANOSECONDS - int(self._options.forget_after_seconds)
        for key in self._followed.absent.expired(oldest, self._options.max_files):
            self._followed.absent.take(key)
            self._followed.pending[key] = None
