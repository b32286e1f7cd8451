"""This file reads and writes the small tables: lanes, routes, positions, processor states and the ledger.

SQLite checksums nothing, and after a damaged write-ahead log pages of different commits can stand side by side. So
each row carries a seal over its fields and the number of the commit that wrote it; a row younger than the commit
number in ``meta`` was torn from a commit of which the rest is gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from agent.errors import SpoolDamaged
from agent.spool.schema import SMALL, seal

_INSERT = {
    table: f"INSERT OR REPLACE INTO {table}({columns}, commit_id, seal) "
    f"VALUES({'?, ' * (columns.count(',') + 3)}".rstrip(", ")
    + ")"
    for table, columns in SMALL.items()
}


def read(connection: sqlite3.Connection, table: str, commit_id: int) -> list[tuple[Any, ...]]:
    """The rows of a small table without seal and commit number. Raises SpoolDamaged where one cannot be trusted."""
    rows = []
    for row in connection.execute(f"SELECT {SMALL[table]}, commit_id, seal FROM {table}"):  # noqa: S608 - constants
        *fields, written_by, sealed = row
        if seal(*row[:-1]) != sealed:
            raise SpoolDamaged(f"a row of {table} does not match its seal: {fields[0]}")
        if written_by > commit_id:
            raise SpoolDamaged(f"a row of {table} is from commit {written_by}, the file ends at {commit_id}")
        rows.append(tuple(fields))
    return rows


def write(connection: sqlite3.Connection, table: str, commit_id: int, rows: Iterable[tuple[Any, ...]]) -> None:
    """Inserts or replaces rows of a small table."""
    connection.executemany(_INSERT[table], [(*row, commit_id, seal(*row, commit_id)) for row in rows])


def read_meta(connection: sqlite3.Connection) -> dict[str, int]:
    """``commit_id``, ``last_time_ns`` and ``next_id``, above every batch there was; of a new file 0, 0 and 1."""
    meta = {"commit_id": 0, "last_time_ns": 0, "next_id": 1}
    for key, value, sealed in connection.execute("SELECT key, value, seal FROM meta"):
        if seal(key, value) != sealed:
            raise SpoolDamaged(f"a row of meta does not match its seal: {key}")
        meta[key] = value
    return meta


def write_meta(connection: sqlite3.Connection, **values: int) -> None:
    """Notes the number of this commit, the time of the last record and the next id."""
    connection.executemany(
        "INSERT OR REPLACE INTO meta(key, value, seal) VALUES(?, ?, ?)",
        [(key, value, seal(key, value)) for key, value in values.items()],
    )
