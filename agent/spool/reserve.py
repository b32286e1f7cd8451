"""This file keeps a file of real blocks beside the spool, given up step by step when the disk is full.

With no byte free, neither a sweep nor a checkpoint can run, so that nothing could ever free one again. Whoever else
fills the disk takes what is given up at once, so no more of it is than is needed; and once given up it is taken again
piece by piece, as soon as there is any room.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.spool.files import bytes_of

STEPS: Final = 16
LEAST_STEP_BYTES: Final = 1 << 20


class Reserve:
    """``size_bytes`` of disk at ``path`` that are ours to give back; a shorter file waits to be filled again."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._step_bytes = max(size_bytes // STEPS, LEAST_STEP_BYTES)

    def release(self) -> bool:
        """Frees some of the blocks; False when there were none, or they cannot be freed."""
        return self._cut(max(bytes_of(self.path) - self._step_bytes, 0))

    def give_up(self) -> bool:
        """Frees all blocks; False when there were none, or they cannot be freed."""
        return self._cut(0)

    def restore(self) -> bool:
        """Takes the blocks again: all where they were never ours, else as many as there are. True where they are now
        held in full and were not. Raises OSError."""
        here, ours = bytes_of(self.path), self.path.exists()
        if here >= self.size_bytes:
            return False
        free = shutil.disk_usage(self.path.parent).free
        if here + free < self.size_bytes and not (ours and free >= LEAST_STEP_BYTES):
            return False
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _grow(descriptor, here, min(self.size_bytes, here + free))
        finally:
            os.close(descriptor)
        if not ours and not bytes_of(self.path):
            self.path.unlink(missing_ok=True)
        return self.held()

    def held(self) -> bool:
        """Whether the blocks are there in full; a reserve of nothing always is."""
        return bytes_of(self.path) >= self.size_bytes

    def _cut(self, size: int) -> bool:
        if not bytes_of(self.path):
            return False
        try:
            os.truncate(self.path, size)
        except OSError:
            with suppress(OSError):  # a file system that copies on write may need room to cut, and none to delete
                self.path.unlink()
                return True
            return False
        return True


def _grow(descriptor: int, here: int, wanted: int) -> None:
    while here < wanted:
        step = min(here + LEAST_STEP_BYTES, wanted)
        try:
            os.posix_fallocate(descriptor, 0, step)
        except OSError:  # somebody else was faster; a length without blocks would be no reserve
            os.ftruncate(descriptor, here)
            return
        here = step
