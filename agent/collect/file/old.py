"""This file leaves alone what was not modified for long before it was first found.

What such a file held then is never read; what is added to it later is. Only the agent's memory knows the size at
which it was left: after a restart a file that has changed meanwhile is read from its beginning.
"""

from __future__ import annotations

import os

from msgspec import Struct

from agent.clock import NANOSECONDS, Time
from agent.collect.file.absent import Absent
from agent.collect.file.identity import GONE, Inode, key_at


class _Left(Struct, frozen=True):
    """How a file was when it was left alone."""

    size: int
    mtime_ns: int
    key: str


class Old:
    """The files that are left alone now; ``len`` says how many."""

    def __init__(self, max_age_seconds: float | None) -> None:
        self._max_age_seconds = max_age_seconds
        self._alone: dict[Inode, _Left] = {}

    def __len__(self) -> int:
        return len(self._alone)

    def set_aside(
        self, present: dict[Inode, tuple[str, os.stat_result]], absent: Absent, now: Time
    ) -> dict[Inode, int]:
        """Takes out of ``present`` what is too old and has no position; the sizes of those that are so no longer."""
        if self._max_age_seconds is None:
            return {}
        oldest_ns = now.wall_ns - round(self._max_age_seconds * NANOSECONDS)
        known = {inode for inode, key, _ in absent if not key.startswith(GONE)}
        before, self._alone = self._alone, {}
        again: dict[Inode, int] = {}
        for inode, (path, status) in tuple(present.items()):
            left = before.get(inode)
            if left is None and inode not in known and status.st_mtime_ns < oldest_ns:
                left = _Left(status.st_size, status.st_mtime_ns, _key(path, inode))
            if left is None:
                continue
            if (left.size, left.mtime_ns) == (status.st_size, status.st_mtime_ns):
                self._alone[inode] = left
                del present[inode]
            elif left.key and left.key == _key(path, inode):
                again[inode] = left.size
        return again


def _key(path: str, inode: Inode) -> str:
    """The key of the file at ``path``, empty where it cannot be told."""
    try:
        return key_at(path, inode)
    except OSError:
        return ""
