"""This file reads the agent's own log files from the oldest line on, through any rotation, and may go on where it was.

  application.log.2026-11-18 → application.log.2026-11-19 → …19.1 → application.log → what is written to it next

A file is known by its inode, which is held open while it grows: what it is called meanwhile makes no difference.
"""

from __future__ import annotations

import heapq
import os
from typing import IO, TYPE_CHECKING, Final

from agent.ownlogs.files import Kind, Rotated, current, rotated_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK_BYTES: Final = 256 << 10
TIMESTAMP: Final = slice(len('{"timestamp":"'), len('{"timestamp":"2026-01-31T12:00:00.123456Z'))
"""Where the time stands in a line of agent.wire.ownline: text that sorts as time does."""


class Reader:
    """The lines of one kind. Each call of ``lines`` gives those that are new; leaving ``with`` lets go of the files.

    Files whose day is before ``since_day`` (``2026-11-19``) are passed over.
    """

    def __init__(self, directory: Path, kind: Kind, since_day: str = "") -> None:
        self._directory = directory
        self._kind: Kind = kind
        self._since_day = since_day
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._hold(None)

    def lines(self) -> Iterator[bytes]:
        """Whole lines, oldest first. Raises OSError where a file is there and cannot be read."""
        growing = self._opened(current(self._kind))
        older = self._older(growing)
        if self._file is not None:
            if growing is not None and _inode(growing) == _inode(self._file):
                growing.close()
                yield from _whole_lines(self._file)
                return
            yield from self._file
        for each in older:
            found = self._opened(each.name)
            if found is not None:
                self._hold(found)
                yield from found
        if growing is not None:
            self._hold(growing)
            yield from _whole_lines(growing)

    def _older(self, growing: IO[bytes] | None) -> list[Rotated]:
        """The files between the one that was read and the one that grows. The latter was opened before they are listed:
        one that is rotated in between is found twice, by one inode, rather than not at all."""
        known = {_inode(file): file for file in (growing, self._file) if file is not None}
        found: list[Rotated] = []
        for each in self._rotated():
            inode = self._inode_of(each)
            if self._file is not None and inode == _inode(self._file):
                found.clear()
            elif inode is not None and inode not in known and each.day >= self._since_day:
                found.append(each)
        return found

    def _rotated(self) -> list[Rotated]:
        try:
            return rotated_in(self._directory, self._kind)
        except FileNotFoundError:
            return []

    def _inode_of(self, rotated: Rotated) -> tuple[int, int] | None:
        try:
            found = os.stat(self._directory / rotated.name)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _opened(self, name: str) -> IO[bytes] | None:
        try:
            return open(self._directory / name, "rb", BLOCK_BYTES)
        except FileNotFoundError:
            return None

    def _hold(self, file: IO[bytes] | None) -> None:
        before, self._file = self._file, file
        if before is not None:
            before.close()


def in_order(readers: Iterable[Reader]) -> Iterator[bytes]:
    """The lines of several kinds, merged by their times."""
    return heapq.merge(*(reader.lines() for reader in readers), key=lambda line: line[TIMESTAMP])


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines from where ``file`` stands; half a line is left for the next time."""
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line


def _inode(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino
