"""This file opens the spool that a command was asked to look at."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Iterator


@contextmanager
def reading(arguments: argparse.Namespace) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """A connection that only reads, and the directory: ``--directory``, or that of the agent of ``--config``.

    Raises SpoolUnreadable, also for what fails while it is open.
    """
    from agent.cli.directories import host_of
    from agent.spool.inspection import opened
    from agent.supervise.instance import seems_free

    given: Path | None = getattr(arguments, "directory", None)
    directory = host_of(Path(arguments.config), os.environ).spool_dir if given is None else given.absolute()
    with opened(directory, lambda: seems_free(directory.parent)) as connection:
        yield connection, directory
