"""This file finds the plain copy that holds what was read of a file which is gone, so that its rest is read there.

A file may be copied and truncated, and then renamed, compressed and deleted, between two looks or while the agent is
down. No compressed file holds then what it held when it was read, and the copy is called like any of its rotations.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.collect.file.cursor import Cursor
from agent.collect.file.identity import PREFIX_BYTES, Inode, born_ns_of_key, inode_of, key_at, open_regular
from agent.collect.file.tail import Tail

if TYPE_CHECKING:
    from agent.collect.file.follow import Followed


def copy_of(followed: Followed, key: str, where: str | None, cursor: Cursor) -> tuple[Tail, os.stat_result] | None:
    """The copy of the file that was read up to ``cursor``, set to go on there, and how it stands; None without one.

    It is a rotated one of that name, was made after the file was, and is not followed.
    """
    if not (cursor.offset and cursor.prefix.length):
        return None
    for path, inode, status in _rotated(followed, where, cursor):
        with contextlib.suppress(OSError):
            own = key_at(path, inode)
            younger = born_ns_of_key(own) >= born_ns_of_key(key)
            if younger and followed.absent.get(own) is None and _holds(path, inode, cursor):
                copy = Tail.resumed(inode, own, path, cursor)
                copy.size = copy.peak = status.st_size
                return copy, status
    return None


def _rotated(followed: Followed, where: str | None, cursor: Cursor) -> Iterator[tuple[str, Inode, os.stat_result]]:
    """Path, inode and status of each file that may be the copy by its name, size and time."""
    for directory in dict.fromkeys((os.path.dirname(cursor.path), os.path.dirname(where or cursor.path))):
        for path in followed.names.rotated(cursor.path, directory):
            with contextlib.suppress(OSError):
                status = os.stat(path)
                inode = inode_of(status)
                fits = status.st_size >= cursor.offset and status.st_mtime_ns >= cursor.mtime_ns
                known = inode in followed.tails or followed.guard.refuses(followed.names.real(path), inode)
                if fits and not known and stat.S_ISREG(status.st_mode):
                    yield path, inode, status


def _holds(path: str, inode: Inode, cursor: Cursor) -> bool:
    """Whether what was read up to ``cursor`` lies in the file at ``path``. Raises OSError."""
    fd, back = open_regular(path, inode), cursor.before.length
    try:
        before = os.pread(fd, back, cursor.offset - back)
        return cursor.prefix.holds(os.pread(fd, PREFIX_BYTES, 0)) and cursor.before.holds(before)
    finally:
        os.close(fd)
