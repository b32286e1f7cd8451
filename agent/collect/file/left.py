"""This file keeps the positions of compressed files that are not read to their end: over a restart, and when they go.

One that is gone may come back, be it as a copy under another inode: where it was left is then known by what it holds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.collect.file.archive import ARCHIVE, Archive
from agent.collect.file.cursor import Cursor, decode
from agent.collect.file.discovery import Discovery
from agent.collect.file.finished import Finished
from agent.collect.file.identity import Inode, inode_of_key, key_at

if TYPE_CHECKING:
    from agent.collect.file.follow import Followed

_NO_SIZE = -1
"""The size of one that was left: none that comes back is taken for read to its end."""


class Left:
    """``finished`` takes in those that were read to their end, and those that are gone."""

    def __init__(self, followed: Followed, finished: Finished, discovery: Discovery) -> None:
        self._followed = followed
        self._finished = finished
        self._discovery = discovery
        self._cursors: dict[str, Cursor] = {}

    def load(self, positions: Mapping[str, str]) -> None:
        """Takes in the positions as they were committed."""
        for key, value in positions.items():
            if key.startswith(ARCHIVE):
                cursor = decode(value)
                if cursor is None:
                    self._followed.pending[key] = None
                elif cursor.done:
                    self._finished.load(key, cursor)
                else:
                    self._cursors[key] = cursor

    def __iter__(self) -> Iterator[tuple[str, Cursor]]:
        """Key and cursor of each that was not resumed yet."""
        return iter(self._cursors.items())

    def resume(self) -> Iterator[Archive]:
        """Those that were not read to their end when the agent stopped, and are there; once."""
        cursors, self._cursors = self._cursors, {}
        for key, cursor in cursors.items():
            inode = inode_of_key(key.removeprefix(ARCHIVE))
            where = self._where(inode, key, cursor.path)
            if where is None or inode is None:
                self.gone(key, cursor, cursor.path)
                continue
            named = self._discovery.matches(where)
            if cursor.offset or not named:
                yield Archive.at(inode, key, where, cursor, named=named)
            else:  # of which nothing was read: it may yet prove to be made of a file that is known
                yield Archive(inode, key, where, where, named=named)

    def _where(self, inode: Inode | None, key: str, path: str) -> str | None:
        """Where it lies now; not where another file has its inode by now."""
        with contextlib.suppress(OSError):
            directories = (os.path.dirname(path), *sorted(self._followed.directories))
            where = None if inode is None else self._followed.names.search(inode, directories)
            if where is not None and inode is not None and ARCHIVE + key_at(where, inode) == key:
                return where
        return None

    def taken(self, key: str) -> None:
        """Another one goes on for it, if it is gone."""
        cursor = self._finished.get(key)
        if cursor is not None and cursor.size == _NO_SIZE:
            self._finished.take(key)

    def gone(self, key: str, cursor: Cursor, path: str) -> None:
        """It is gone before it was read to its end."""
        if cursor.offset and cursor.prefix.length:
            self._finished.note(key, replace(cursor, size=_NO_SIZE, done=True))
        else:
            self._finished.let_be(key)
        self._followed.faults.archive_gone(path)
