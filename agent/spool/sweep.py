"""This file deletes what every lane of its route has passed, at most 16 MiB a transaction.

One DELETE of 1 GB makes a write-ahead log of 1 GB. A row that cannot be deleted (a damaged page) goes into the
skip table and is walked around; when nothing else is left, the file is replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from agent.errors import SpoolDamaged
from agent.spool.records import Lane
from agent.spool.rows import delete_rows

MOST_BYTES = 16 << 20
MOST_ROWS = 512
STEP_PAGES, SCARCE_STEP_PAGES = 1024, 256
"""Pages given back to the file system in one transaction; moving them writes as many to the write-ahead log."""

Routes = Mapping[tuple[int, ...], int]


def delete_passed(connection: sqlite3.Connection, routes: Routes, lanes: Mapping[int, Lane], skips: set[int]) -> int:
    """Deletes one step's worth within the transaction under way; returns how many rows it deleted."""
    ids = passed(connection, routes, lanes, skips)
    delete_rows(connection, ids)
    return len(ids)


def passed(connection: sqlite3.Connection, routes: Routes, lanes: Mapping[int, Lane], skips: set[int]) -> list[int]:
    """Ids of rows that every lane of their route has passed: at most MOST_ROWS and MOST_BYTES."""
    found: list[int] = []
    left = MOST_BYTES
    for members, route in routes.items():
        done = min((lanes[lane].cursor for lane in members if lane in lanes), default=None)
        rows = connection.execute(
            "SELECT id, bytes FROM batch INDEXED BY batch_by_route WHERE route = ? AND id <= ? ORDER BY id LIMIT ?",
            (route, done, MOST_ROWS + len(skips)),
        )
        for row, size in rows:
            if left <= 0 or len(found) == MOST_ROWS:
                return found
            if row not in skips:
                left -= size
                found.append(row)
    return found


def undeletable(
    connection: sqlite3.Connection,
    routes: Routes,
    lanes: Mapping[int, Lane],
    skips: set[int],
    transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
) -> set[int]:
    """Deletes what is passed one row a transaction; returns the rows that could not be."""
    bad: set[int] = set()
    for row in passed(connection, routes, lanes, skips):
        try:
            with transaction():
                delete_rows(connection, [row])
        except SpoolDamaged:
            bad.add(row)
    return bad


def give_back(connection: sqlite3.Connection, *, scarce_pages: int = 0) -> bool:
    """Returns free pages to the file system, a step of them, once more than a quarter of the file is free; where space
    is scarce, any, in steps of ``scarce_pages``. False where there were none to return.

    ``executescript`` steps the pragma to its end; ``execute`` would free one page.
    """
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    keep = 0 if scarce_pages else max(STEP_PAGES // 4, pages // 8)
    if free <= 2 * keep:
        return False
    connection.executescript(f"PRAGMA incremental_vacuum({min(free - keep, scarce_pages or STEP_PAGES)})")
    return True
