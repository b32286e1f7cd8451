"""This file keeps a file of real blocks beside the spool, given up when the disk is full.

With no byte free, neither a sweep nor a checkpoint can run, so that nothing could ever free one again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from agent.spool.files import bytes_of


class Reserve:
    """``size_bytes`` of disk at ``path`` that are ours to give back."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes

    def release(self) -> bool:
        """Frees the blocks; False when there were none, or they cannot be freed."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True

    def restore(self, spare_bytes: int | None = None) -> bool:
        """Takes the blocks again where that leaves ``spare_bytes`` (the reserve's own size) free; False where it cannot
        or they are there."""
        if self.held():
            return False
        spare = self.size_bytes if spare_bytes is None else spare_bytes
        if shutil.disk_usage(self.path.parent).free < self.size_bytes + spare:
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
        """Whether the blocks are there in full; a reserve of nothing always is."""
        return bytes_of(self.path) >= self.size_bytes
