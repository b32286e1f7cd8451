"""This file gives a database back its first page, which is the same in every spool of one schema.

The first page holds the file header and the roots of all tables. Offsets are those of SQLite's file format, section
1.3: with the change counter (24) unlike the version-valid-for number (92), the size in the header is not believed and
taken from the file instead.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from agent.spool.schema import NEW_FILE, PAGE_BYTES, PRAGMAS, TABLES

CHANGE_COUNTER = slice(24, 28)
VERSION_VALID_FOR = slice(92, 96)


def restore_page_one(path: Path) -> None:
    """Writes a fresh first page over that of ``path``, which must be open nowhere."""
    page = bytearray(fresh_page_one(path.parent))
    page[CHANGE_COUNTER] = (1).to_bytes(4, "big")
    page[VERSION_VALID_FOR] = (0).to_bytes(4, "big")
    with path.open("r+b") as file:
        file.write(page)


def fresh_page_one(scratch: Path) -> bytes:
    """The first page of a new spool, made in a directory of its own under ``scratch``."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        path = Path(directory) / "fresh.db"
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.executescript(NEW_FILE + PRAGMAS)
            connection.executescript(TABLES)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
        return path.read_bytes()[:PAGE_BYTES]
