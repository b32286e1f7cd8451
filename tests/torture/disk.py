"""This file is a small disk of its own, and what fills it to the last byte."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_BYTES = 48 << 20


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Where it is mounted; None where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Ballast:
    """Takes whatever is free, again and again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ballast"

    @property
    def there(self) -> bool:
        """Whether it takes anything."""
        return self._path.exists()

    def fill(self) -> None:
        """Not a byte is free."""
        with self._path.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while file.write(b"\0" * size) == size:
                        pass
                except OSError:
                    continue

    def drop(self) -> None:
        """Everything is free again."""
        self._path.unlink()
