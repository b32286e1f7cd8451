"""This file finds the compressed files of a directory that begin like a file that is gone, or are called like it."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import dataclass

from agent.collect.file.archive import ARCHIVE, Archive, Unfinished
from agent.collect.file.cursor import Cursor
from agent.collect.file.identity import Fingerprint, Inode, inode_of
from agent.collect.file.names import former_names
from agent.collect.file.rotation import SpoolGuard
from agent.wire.unpack import SUFFIXES, Unpackable

_MOST_DIRECTORIES = 16
_CLOCK_REALTIME_COARSE = 5
"""The clock that times of files are taken from, of linux/time.h."""

_MOST_AHEAD_NS = 1_000_000_000
"""A directory changed further in the future than this has the time of another machine, which is no use."""


@dataclass(slots=True)
class _Found:
    """A compressed file as it was when it was looked at; without a head where that could not be unpacked."""

    path: str
    inode: Inode
    changed_ns: int
    mtime_ns: int
    size: int
    head: bytes | None


class Packed:
    """Compressed files by directory; listed anew when the directory may have changed.

    The time of a directory moves in ticks of the kernel: a listing is trusted only when it was made in a later one.
    """

    def __init__(self, guard: SpoolGuard) -> None:
        self._guard = guard
        self._listed: dict[str, tuple[int, list[_Found]]] = {}
        self._names: dict[str, dict[str, list[_Found]]] = {}
        self._alike: dict[tuple[str, int], dict[str, list[_Found]]] = {}

    def like(self, directory: str, cursor: Cursor) -> list[tuple[str, Inode]]:
        """Path and inode of those changed since ``cursor`` that begin as its file did, the newest first.

        Where there is none, and something was not read: of older ones too, for the file may have been truncated and
        written to again since it was read.
        """
        listed = self._list(directory)
        length, digest = cursor.prefix.length, cursor.prefix.digest
        if (directory, length) not in self._alike:
            alike: dict[str, list[_Found]] = {}
            for found in listed:
                if found.head is not None and len(found.head) >= length:
                    alike.setdefault(Fingerprint.of(found.head[:length]).digest, []).append(found)
            self._alike[directory, length] = alike
        heirs = [(_times_ns(found.path)[1], found) for found in self._alike[directory, length].get(digest, ())]
        heirs.sort(key=lambda heir: heir[0], reverse=True)
        newer = [heir for heir in heirs if heir[0] >= cursor.mtime_ns]
        return [(found.path, found.inode) for _, found in newer or (heirs if cursor.unread_bytes else ())]

    def called(
        self, directory: str, where: str, cursor: Cursor, born_ns: int, *, loosely: bool
    ) -> list[tuple[str, Inode]]:
        """Path and inode of those that are called as if they were made of the file that lay at ``where``.

        Only its name and times are known of that file. ``loosely`` also finds one that has the name of another
        rotation and was written to later; otherwise its time has to be the same.
        """
        since_ns, heirs = max(cursor.mtime_ns, born_ns), []
        for found in self._named(directory, where, cursor.path):
            beside = found.path.startswith(where) and os.path.splitext(found.path)[0] == where
            mtime_ns = _times_ns(found.path)[0]
            same_time = mtime_ns == cursor.mtime_ns and cursor.size > 0
            if mtime_ns >= since_ns if beside or loosely else same_time:
                heirs.append((not beside, not same_time, mtime_ns, found.path, found.inode))
        return [(path, inode) for *_, path, inode in sorted(heirs)]

    def _named(self, directory: str, where: str, path: str) -> list[_Found]:
        """Those called as if made of what lay at ``where``, or of a rotated ``path``."""
        listed = self._list(directory)
        if directory not in self._names:
            names: dict[str, list[_Found]] = {}
            for found in listed:
                stem = os.path.splitext(found.path)[0]
                for name in {stem, *former_names(stem)}:
                    names.setdefault(name, []).append(found)
            self._names[directory] = names
        named = self._names[directory]
        return [*named.get(where, ()), *(named.get(path, ()) if path != where else ())]

    def _list(self, directory: str) -> list[_Found]:
        """What there is now."""
        try:
            changed_ns = os.stat(directory).st_mtime_ns
        except OSError:
            changed_ns = -1
        before_ns, found = self._listed.get(directory, (None, []))
        if before_ns != changed_ns:
            tick_ns = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
            found = self._look(directory, {each.path: each for each in found})
            self._forget(directory)
            trusted = changed_ns < tick_ns or changed_ns > tick_ns + _MOST_AHEAD_NS
            self._listed[directory] = changed_ns if trusted else -2, found
        elif sum(self._finished(each) for each in found if each.head is None):
            self._forget(directory)
        return found

    def _forget(self, directory: str) -> None:
        if directory not in self._listed and len(self._listed) >= _MOST_DIRECTORIES:
            self._listed.clear()
            self._alike.clear()
            self._names.clear()
        self._names.pop(directory, None)
        for key in [key for key in self._alike if key[0] == directory]:
            del self._alike[key]

    def _look(self, directory: str, before: dict[str, _Found]) -> list[_Found]:
        found = []
        with contextlib.suppress(OSError), os.scandir(directory) as listing:
            for entry in listing:
                if entry.name.endswith(SUFFIXES):
                    with contextlib.suppress(OSError):
                        each = self._found(entry.path, entry.stat(follow_symlinks=False), before.get(entry.path))
                        found += [each] if each is not None else []
        return found

    def _found(self, path: str, status: os.stat_result, before: _Found | None) -> _Found | None:
        inode = inode_of(status)
        if not stat.S_ISREG(status.st_mode) or self._guard.refuses(os.path.realpath(path), inode):
            return None
        found = _Found(path, inode, status.st_ctime_ns, status.st_mtime_ns, status.st_size, None)
        if before is not None and (before.inode, before.changed_ns) == (inode, found.changed_ns):
            found.head = before.head
        if found.head is None:
            found.head = _head(path, inode)
        return found

    def _finished(self, found: _Found) -> bool:
        """Whether one that could not be unpacked has changed, and can be by now."""
        with contextlib.suppress(OSError):
            status = os.stat(found.path, follow_symlinks=False)
            if inode_of(status) == found.inode and (status.st_size, status.st_mtime_ns) != (found.size, found.mtime_ns):
                found.size, found.mtime_ns, found.changed_ns = status.st_size, status.st_mtime_ns, status.st_ctime_ns
                found.head = _head(found.path, found.inode)
        return found.head is not None


def _times_ns(path: str) -> tuple[int, int]:
    """When it was last written to and last changed, as of now: what packs a file gives it its times at the end."""
    try:
        status = os.stat(path)
    except OSError:
        return -2, -2
    return status.st_mtime_ns, status.st_ctime_ns


def _head(path: str, inode: Inode) -> bytes | None:
    archive = Archive(inode, ARCHIVE, path, path, named=False)
    try:
        archive.open()
        return archive.head()
    except (OSError, Unpackable, Unfinished):
        return None
    finally:
        archive.close()
