"""This file is a file of lines that is appended to, flushed to disk, and rotated by size: NAME, NAME.1, …, NAME.keep.

Its calls block, and one thread makes them all. After ``append`` has returned, the lines are on the disk; after it has
raised, none of them is in the file: the caller may try again without making repeats.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

STEP_BYTES: Final = 64 << 10
LONGEST_TAIL_BYTES: Final = 64 << 20


class NotAFile(Exception):
    """Something else than a file has the name."""


class RotatedFile:
    """Appends to ``path``. ``ours`` is how every line of ours begins: only such a torn line is cut off."""

    def __init__(self, path: Path, max_bytes: int, keep: int, ours: bytes) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._ours = ours
        self._descriptor: int | None = None
        self.repaired_bytes = 0

    def append(self, chunks: Sequence[bytes]) -> None:
        """Writes ``chunks``, which are whole lines, and flushes them to disk. Raises OSError or NotAFile."""
        descriptor = self._opened()
        size = os.fstat(descriptor).st_size
        if size and size + sum(map(len, chunks)) > self._max_bytes:
            self._rotate()
            descriptor, size = self._opened(), 0
        try:
            for chunk in chunks:
                _write(descriptor, chunk)
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the file; the next ``append`` opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _opened(self) -> int:
        if self._descriptor is not None and self._still_there(self._descriptor):
            return self._descriptor
        self.close()
        with suppress(FileExistsError):
            self._path.parent.mkdir(mode=0o750)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
        self._descriptor = descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            self.close()
            raise NotAFile(str(self._path))
        self._repair(descriptor)
        _flush_directory(self._path.parent)
        return descriptor

    def _still_there(self, descriptor: int) -> bool:
        """False when somebody moved or deleted the file: what is written then belongs into a new one."""
        mine = os.fstat(descriptor)
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)

    def _repair(self, descriptor: int) -> None:
        """Ends the file at the end of a line: half a line of ours is cut off, any other is given its newline."""
        size = os.fstat(descriptor).st_size
        if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
            return
        start = _line_start(descriptor, size)
        head = os.pread(descriptor, len(self._ours), start)
        if self._ours.startswith(head[: size - start]):
            os.ftruncate(descriptor, start)
            self.repaired_bytes += size - start
        else:
            _write(descriptor, b"\n")
        os.fsync(descriptor)

    def _rotate(self) -> None:
        self.close()
        if self._keep == 0:
            self._path.unlink()
        for number in range(self._keep - 1, -1, -1):
            with suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _line_start(descriptor: int, size: int) -> int:
    """Where the last line begins, looked for from the end."""
    end = size
    while end > 0 and size - end < LONGEST_TAIL_BYTES:
        start = max(0, end - STEP_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return end


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
