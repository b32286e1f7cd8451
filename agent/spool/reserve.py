"""This file keeps a file of real blocks beside the spool, given up when the disk is full.

With no byte free, neither a sweep nor a checkpoint can run, so that nothing could ever free one again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


class Reserve:
    """``size_bytes`` of disk at ``path`` that are ours to give back."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes

    def release(self) -> bool:
        """Frees the blocks; False when there were none."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True

    def restore(self) -> bool:
        """Takes the blocks again, if the disk has twice as many free; False where it has not or they are there."""
        if not self.size_bytes or self.held():
            return False
        if shutil.disk_usage(self.path.parent).free < 2 * self.size_bytes:
            return False
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size_bytes)
        except OSError:
            with suppress(OSError):
                self.path.unlink()
            return False
        finally:
            os.close(descriptor)
        return True

    def held(self) -> bool:
        """Whether the blocks are there in full."""
        try:
            return self.path.stat().st_size >= self.size_bytes
        except OSError:
            return False
