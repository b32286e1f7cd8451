"""This file keeps which files are gone and may go on compressed, until it is known whether they do.

    a file is gone ──seek──▶ compressed files that may be made of it ──each is decided──▶ found in one, or none is left

It is the memory of one run: positions of such files stay in the spool until they are found or given up, and a restart
seeks again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from agent.collect.file.cursor import Cursor
from agent.collect.file.identity import Inode


@dataclass(slots=True)
class Rest:
    """A file that is gone: its position, where it lay last, and the compressed files that are not decided yet."""

    cursor: Cursor
    where: str | None
    undecided: set[Inode]


class Rests:
    """By the key that their position is kept under."""

    def __init__(self) -> None:
        self._sought: dict[str, Rest] = {}

    def seek(self, key: str, rest: Rest) -> None:
        self._sought[key] = rest

    def take(self, key: str) -> None:
        """It was found, or given up."""
        self._sought.pop(key, None)

    def decided(self, inode: Inode) -> list[tuple[str, Rest]]:
        """Takes one compressed file from what was left to each; those that have none left, which are taken out."""
        for rest in self._sought.values():
            rest.undecided.discard(inode)
        left = [(key, rest) for key, rest in self._sought.items() if not rest.undecided]
        for key, _ in left:
            del self._sought[key]
        return left

    def names(self, inode: Inode) -> Collection[str]:
        """The names of those that it may be made of."""
        return {rest.cursor.path for rest in self._sought.values() if inode in rest.undecided}

    def never_read(self, inode: Inode, mtime_ns: int) -> str | None:
        """The key of one that it may be made of and of which nothing was read, so that only name and time tell.

        Of several, one that was last written to when it was, else one that the fewest others may be made of.
        """
        fitting = [
            (rest.cursor.mtime_ns != mtime_ns, len(rest.undecided), key)
            for key, rest in self._sought.items()
            if inode in rest.undecided and is_unread(rest.cursor)
        ]
        return min(fitting)[-1] if fitting else None


def is_unread(cursor: Cursor) -> bool:
    """Whether nothing is known of what the file held."""
    return not cursor.offset or not cursor.prefix.length
