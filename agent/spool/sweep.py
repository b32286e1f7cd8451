"""This file deletes what every lane of its route has passed, at most 16 MiB a transaction.

One DELETE of 1 GB makes a write-ahead log of 1 GB. A row that cannot be deleted (a damaged page) goes into the
skip table and is walked around; when nothing else is left, the file is replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from agent.errors import SpoolDamaged
from agent.spool.records import Lane

MOST_BYTES = 16 << 20
MOST_ROWS = 512

Routes = Mapping[tuple[int, ...], int]


def delete_passed(connection: sqlite3.Connection, routes: Routes, lanes: Mapping[int, Lane], skips: set[int]) -> int:
    """Deletes one step's worth within the transaction under way; returns how many rows it deleted."""
    ids = [(row,) for row in passed(connection, routes, lanes, skips)]
    connection.executemany("DELETE FROM payload WHERE id = ?", ids)
    connection.executemany("DELETE FROM batch WHERE id = ?", ids)
    return len(ids)


def passed(connection: sqlite3.Connection, routes: Routes, lanes: Mapping[int, Lane], skips: set[int]) -> Iterator[int]:
    """Ids of rows that every lane of their route has passed: at most MOST_ROWS and MOST_BYTES of each route."""
    for members, route in routes.items():
        done = min((lanes[lane].cursor for lane in members if lane in lanes), default=None)
        if done is None:
            continue
        left = MOST_BYTES
        rows = connection.execute(
            "SELECT id, bytes FROM batch INDEXED BY batch_by_route WHERE route = ? AND id <= ? ORDER BY id LIMIT ?",
            (route, done, MOST_ROWS + len(skips)),
        )
        for row, size in rows.fetchall():
            if left <= 0:
                break
            if row not in skips:
                left -= size
                yield row


def undeletable(
    connection: sqlite3.Connection,
    routes: Routes,
    lanes: Mapping[int, Lane],
    skips: set[int],
    transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
) -> set[int]:
    """Deletes what is passed one row a transaction; returns the rows that could not be."""
    bad: set[int] = set()
    for row in list(passed(connection, routes, lanes, skips)):
        try:
            with transaction():
                connection.execute("DELETE FROM payload WHERE id = ?", (row,))
                connection.execute("DELETE FROM batch WHERE id = ?", (row,))
        except SpoolDamaged:
            bad.add(row)
    return bad


def give_back(connection: sqlite3.Connection, least_pages: int = 512) -> None:
    """Returns free pages to the file system once more than a quarter of the file is free.

    ``executescript`` steps the pragma to its end; ``execute`` would free one page.
    """
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if free > max(least_pages, pages // 4):
        connection.executescript(f"PRAGMA incremental_vacuum({min(free - least_pages // 2, 1024)})")
