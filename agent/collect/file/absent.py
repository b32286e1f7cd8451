"""This file keeps the positions of files that are not there: renamed while the agent was down, unmounted, deleted.

A position outlives its file, so that a file that comes back goes on where it was left, and the compressed file that
was made of it is known when it is found. What can never come back is kept under a key that no file has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.collect.file.archive import ARCHIVE
from agent.collect.file.cursor import Cursor, decode
from agent.collect.file.identity import GONE, Inode, inode_of_key

STARTED = "started"
"""The key that says the source has started before, also when it has met no file yet."""


class Absent:
    """Cursors by key. ``damaged`` are keys whose position could not be understood."""

    def __init__(self) -> None:
        self._cursors: dict[str, tuple[Inode, Cursor]] = {}
        self._keys: dict[Inode, str] = {}
        self.damaged: list[str] = []

    def load(self, positions: Mapping[str, str]) -> None:
        """Takes in the positions as they were committed."""
        for key, value in positions.items():
            if key == STARTED or key.startswith(ARCHIVE):
                continue
            inode, cursor = inode_of_key(key), decode(value)
            if inode is None or cursor is None:
                self.damaged.append(key)
            else:
                self.put(inode, key, cursor)

    def __len__(self) -> int:
        return len(self._cursors)

    def __iter__(self) -> Iterator[tuple[Inode, str, Cursor]]:
        """Inode, key and cursor of each, as of now."""
        return iter([(inode, key, cursor) for key, (inode, cursor) in self._cursors.items()])

    def put(self, inode: Inode, key: str, cursor: Cursor) -> None:
        """Keeps how far a file was read that is not there."""
        self._cursors[key] = inode, cursor
        if not key.startswith(GONE):
            self._keys[inode] = key

    def get(self, key: str) -> Cursor | None:
        """The cursor of a key, which stays; None where none is kept."""
        return self._cursors[key][1] if key in self._cursors else None

    def take(self, key: str) -> Cursor | None:
        """The cursor of a file that is there again, or forgotten."""
        inode, cursor = self._cursors.pop(key, (None, None))
        if inode is not None and self._keys.get(inode) == key:
            del self._keys[inode]
        return cursor

    def resume(self, key: str) -> tuple[Cursor | None, str | None]:
        """The cursor of a file that is there, if it was followed before, and a key that no file has any more."""
        if key in self._cursors:
            return self.take(key), None
        moved = self._key_on_other_device(key)
        return (self.take(moved), moved) if moved is not None else (None, None)

    def replaced(self, inode: Inode) -> tuple[str, Cursor] | None:
        """Key and cursor of the file that had this inode before; it is gone."""
        key = self._keys.get(inode)
        cursor = self.take(key) if key is not None else None
        return (key, cursor) if key is not None and cursor is not None else None

    def _key_on_other_device(self, key: str) -> str | None:
        """The key of the same inode number and birth time under another device number.

        Device numbers of some file systems (btrfs, NFS, device mapper) may differ after a boot.
        """
        _, number, born = key.split(":")
        if born == "0":
            return None
        rest = f":{number}:{born}"
        return next((other for other in self._cursors if other.endswith(rest)), None)

    def expired(self, before_seconds: int, most: int) -> list[str]:
        """Keys of files gone since before that time, and the longest gone of those beyond ``most``."""
        gone = sorted((cursor.gone, key) for key, (_, cursor) in self._cursors.items() if cursor.gone)
        too_many = max(0, len(self._cursors) - most)
        return [key for index, (since, key) in enumerate(gone) if since < before_seconds or index < too_many]
