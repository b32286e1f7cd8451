"""This file looks at the spool's files from outside: their names and sizes, and nothing that opens them.

Opening and closing one of them by any other way than SQLite would drop this process's locks on it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from agent.spool.schema import SpoolOptions


def bytes_of(path: Path | str) -> int:
    """The size of a file, 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def bytes_of_log(path: Path) -> int:
    """The size of the write-ahead log of the database at ``path``."""
    return bytes_of(f"{path}-wal")


def has_lost_its_file(path: Path) -> bool:
    """Whether there is a log with something in it beside a database that is empty or gone: SQLite would delete it."""
    return bytes_of(path) == 0 and bytes_of_log(path) > 0


def set_aside(directory: Path) -> list[Path]:
    """The directories of damaged spools beside ``directory``."""
    return sorted(directory.parent.glob(f"{directory.name}.damaged-*"))


def bound_what_is_set_aside(directory: Path, options: SpoolOptions, used_bytes: int) -> bool:
    """Removes damaged files that do not fit into the spool's bound, or that a scarce disk has no room for; whether any
    are left."""
    aside = set_aside(directory)
    if not aside:
        return False
    size = sum(bytes_of(file) for each in aside for file in each.glob("*"))
    scarce = shutil.disk_usage(directory.parent).free < 4 * options.reserve_bytes
    if not scarce and used_bytes + size <= options.max_bytes:
        return True
    for each in aside:
        shutil.rmtree(each, ignore_errors=True)
    return False
