"""This file finds the compressed files that a file which is gone may have become."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice

from agent.collect.file.cursor import Cursor
from agent.collect.file.identity import Inode, born_ns_of_key
from agent.collect.file.packed import Packed
from agent.collect.file.rests import is_unread
from agent.collect.file.rotation import SpoolGuard

MOST_TAKEN = 1000
"""Most compressed files of which it is remembered that some file became them."""
MOST_DIRECTORIES = 8
"""Most directories of compressed files in which those of any file are looked for."""


class Heirs:
    """Looks in the directory that a file had, the one it lay in last, and where those that patterns name ``lie_in``.

    What was read of a file tells which begin like it; one that was never read has only its name and times, which are
    taken ``loosely`` where each of the compressed files is read whatever it was made of.
    """

    def __init__(self, guard: SpoolGuard, *, loosely: bool) -> None:
        self._packed = Packed(guard)
        self._loosely = loosely
        self._directories: tuple[str, ...] = ()
        self._taken: dict[Inode, None] = {}

    def lie_in(self, directories: Iterable[str]) -> None:
        """Where those are that patterns name."""
        self._directories = tuple(islice(directories, MOST_DIRECTORIES))

    def of(self, key: str, where: str | None, cursor: Cursor) -> list[tuple[str, Inode]]:
        """Path and inode of each, the likeliest first."""
        unread = is_unread(cursor)
        if unread and not cursor.unread_bytes:
            return []
        name = where or cursor.path
        directories = dict.fromkeys((os.path.dirname(cursor.path), os.path.dirname(name), *self._directories))
        if not unread:
            return [heir for directory in directories for heir in self._packed.like(directory, cursor)]
        born_ns = born_ns_of_key(key)
        called = (self._packed.called(each, name, cursor, born_ns, loosely=self._loosely) for each in directories)
        return [heir for heirs in called for heir in heirs]

    def take(self, inode: Inode) -> None:
        """It is what became of some file, and not of another one of which only the name is known."""
        self._taken[inode] = None
        if len(self._taken) > MOST_TAKEN:
            del self._taken[next(iter(self._taken))]

    def free(self, inode: Inode) -> bool:
        """Whether no file is known that became it."""
        return inode not in self._taken
