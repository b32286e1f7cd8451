"""This file keeps the positions of compressed files that were read to their end, so that each is read once.

One that is gone is kept for a while, also where it was left before its end: a copy of it, or itself under another
inode, is known by what it holds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from msgspec.structs import replace

from agent.collect.file.archive import ARCHIVE
from agent.collect.file.cursor import Cursor
from agent.collect.file.identity import Inode, inode_of_key, key_at


class Finished:
    """Cursors by key; what changes is put into ``pending``."""

    def __init__(self, pending: dict[str, str | None], forget_after_seconds: float) -> None:
        self._pending = pending
        self._forget_after_seconds = int(forget_after_seconds)
        self._cursors: dict[str, Cursor] = {}
        self._as_they_were: dict[Inode, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._cursors)

    def __iter__(self) -> Iterator[tuple[str, Cursor]]:
        """Key and cursor of each."""
        return iter(self._cursors.items())

    def load(self, key: str, cursor: Cursor) -> None:
        """Takes in one as it was committed."""
        self._cursors[key] = cursor

    def get(self, key: str) -> Cursor | None:
        return self._cursors.get(key)

    def note(self, key: str, cursor: Cursor) -> None:
        """It was read to its end, and to be kept so."""
        self._cursors[key] = cursor
        self._pending[key] = cursor.encode()

    def let_be(self, key: str) -> None:
        """Nothing of that key is read on; what was read to its end stays known."""
        cursor = self._cursors.get(key)
        self._pending[key] = None if cursor is None else cursor.encode()

    def take(self, key: str) -> None:
        """It is kept no longer."""
        del self._cursors[key]
        self._pending[key] = None

    def as_it_was(self, inode: Inode, status: os.stat_result) -> bool:
        """Whether the file was known to be finished and has not changed since, without asking for its key."""
        return self._as_they_were.get(inode) == (status.st_size, status.st_mtime_ns)

    def there_again(self, key: str, inode: Inode, status: os.stat_result) -> bool:
        """Whether the file of that key, which is there, is finished and as it was."""
        cursor, seen = self._cursors.get(key), (status.st_size, status.st_mtime_ns)
        if cursor is None or (cursor.size, cursor.mtime_ns) != seen:
            return False
        self._as_they_were[inode] = seen
        if cursor.gone:
            self.note(key, replace(cursor, gone=0))
        return True

    def is_read(self, path: str, inode: Inode) -> bool:
        """Whether the file at ``path`` is finished and as it was."""
        with contextlib.suppress(OSError):
            cursor, status = self._cursors.get(ARCHIVE + key_at(path, inode)), os.stat(path)
            return cursor is not None and (cursor.size, cursor.mtime_ns) == (status.st_size, status.st_mtime_ns)
        return False

    def forget(self, numbers: set[int], wall_seconds: int) -> None:
        """Lets go of those that are gone, after a while; ``numbers`` are the inodes that are there."""
        for key, cursor in tuple(self._cursors.items()):
            inode = inode_of_key(key.removeprefix(ARCHIVE))
            if inode is not None and inode[1] in numbers:
                continue
            self._as_they_were.pop(inode or (0, 0), None)
            if not cursor.gone:
                self.note(key, replace(cursor, gone=wall_seconds))
            elif cursor.gone < wall_seconds - self._forget_after_seconds:
                self.take(key)
