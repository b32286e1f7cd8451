"""This file finds the compressed files of a directory that begin like a file that is gone."""

from __future__ import annotations

import contextlib
import os
import stat

from agent.collect.file.archive import ARCHIVE, Archive, Unfinished
from agent.collect.file.cursor import Cursor
from agent.collect.file.identity import Fingerprint, Inode, inode_of
from agent.collect.file.rotation import SpoolGuard
from agent.wire.unpack import SUFFIXES, Unpackable

_MOST_DIRECTORIES = 16
_Heir = tuple[int, str, Inode]
"""When it was last changed, path and inode."""


class Packed:
    """Beginnings of compressed files, by directory; looked at anew when the directory has changed."""

    def __init__(self, guard: SpoolGuard) -> None:
        self._guard = guard
        self._changed_ns: dict[str, int] = {}
        self._heads: dict[str, list[tuple[bytes, _Heir]]] = {}
        self._alike: dict[tuple[str, int], dict[str, list[_Heir]]] = {}

    def like(self, directory: str, cursor: Cursor) -> list[tuple[str, Inode]]:
        """Path and inode of those changed since ``cursor`` that begin as its file did, the newest first."""
        self._refresh(directory)
        length, digest = cursor.prefix.length, cursor.prefix.digest
        if (directory, length) not in self._alike:
            alike: dict[str, list[_Heir]] = {}
            for head, heir in self._heads.get(directory, ()):
                if len(head) >= length:
                    alike.setdefault(Fingerprint.of(head[:length]).digest, []).append(heir)
            self._alike[directory, length] = alike
        heirs = self._alike[directory, length].get(digest, [])
        return [
            (path, inode) for changed_ns, path, inode in sorted(heirs, reverse=True) if changed_ns >= cursor.mtime_ns
        ]

    def _refresh(self, directory: str) -> None:
        try:
            changed_ns = os.stat(directory).st_mtime_ns
        except OSError:
            changed_ns = -1
        if self._changed_ns.get(directory) == changed_ns:
            return
        if len(self._heads) >= _MOST_DIRECTORIES:
            self._changed_ns.clear()
            self._heads.clear()
        self._alike.clear()
        self._changed_ns[directory], self._heads[directory] = changed_ns, []
        with contextlib.suppress(OSError), os.scandir(directory) as listing:
            entries = [entry for entry in listing if entry.name.endswith(SUFFIXES)]
            self._heads[directory] = [found for entry in entries if (found := self._head(entry)) is not None]

    def _head(self, entry: os.DirEntry[str]) -> tuple[bytes, _Heir] | None:
        try:
            status = entry.stat(follow_symlinks=False)
            inode = inode_of(status)
            if not stat.S_ISREG(status.st_mode) or self._guard.refuses(os.path.realpath(entry.path), inode):
                return None
            archive = Archive(inode, ARCHIVE, entry.path, entry.path, named=False)
            archive.open()
        except OSError:
            return None
        try:
            return archive.head(), (status.st_ctime_ns, entry.path, inode)
        except (OSError, Unpackable, Unfinished):
            return None
        finally:
            archive.close()
