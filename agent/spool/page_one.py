"""This file gives a database back its first page, which is the same in every spool of one schema.

The first page holds the file header and the roots of all tables. Offsets are those of SQLite's file format, section
1.3: with the change counter (24) unlike the version-valid-for number (92), the size in the header is not believed and
taken from the file instead.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

from agent.errors import SpoolDamaged
from agent.spool.schema import NEW_FILE, PAGE_BYTES, PRAGMAS, SCHEMA_VERSION, TABLES

CHANGE_COUNTER = slice(24, 28)
VERSION_VALID_FOR = slice(92, 96)
CREATE = f"BEGIN IMMEDIATE; {TABLES}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"


def require_schema(connection: sqlite3.Connection) -> None:
    """Makes the tables in an empty database. Raises SpoolDamaged where there are some and they are not ours: to add
    what seems to be missing would move and overwrite pages that nothing points to any more."""
    if not _objects(connection):
        connection.executescript(CREATE)
    elif not has_our_schema(connection):
        raise SpoolDamaged("the first page does not name the tables of a spool")


def has_our_schema(connection: sqlite3.Connection) -> bool:
    """Whether every table of ours is where it is in every spool; a newer agent may have added others."""
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    try:
        fresh.executescript(NEW_FILE + PRAGMAS)
        fresh.executescript(CREATE)
        return _objects(fresh) <= _objects(connection)
    finally:
        fresh.close()


def _objects(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    return set(connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master"))


def restore_page_one(path: Path) -> None:
    """Writes a fresh first page over that of ``path``, which must be open nowhere."""
    page = bytearray(fresh_page_one(path.parent))
    page[CHANGE_COUNTER] = (1).to_bytes(4, "big")
    page[VERSION_VALID_FOR] = (0).to_bytes(4, "big")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, page, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fresh_page_one(scratch: Path) -> bytes:
    """The first page of a new spool, made in a directory of its own under ``scratch``."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        path = Path(directory) / "fresh.db"
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.executescript(NEW_FILE + PRAGMAS)
            connection.executescript(CREATE)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
        return path.read_bytes()[:PAGE_BYTES]
