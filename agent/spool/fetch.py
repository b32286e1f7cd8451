"""This file reads batches back for the lanes, a page at a time, and notices what is damaged.

No read transaction outlives one call: an open cursor would keep the write-ahead log from ever being folded.
"""

from __future__ import annotations

import heapq
import sqlite3
from typing import TYPE_CHECKING, Any

from agent.batch import Origin
from agent.errors import SpoolDamaged
from agent.spool import ledger as law
from agent.spool.records import Row, Stored
from agent.spool.schema import COLUMNS, seal
from agent.wire import spooled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.wire.entries import Sendable

ROWS = 64
UNREADABLE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_TOOBIG}
"""Primary result codes of a payload whose pages do not hold together."""


def fetch(
    connection: sqlite3.Connection,
    lane: int,
    after: int,
    max_bytes: int,
    at_hand: Callable[[int], Sendable | None] = lambda row_id: None,
) -> list[Stored]:
    """The lane's next batches after id ``after``: at least one if there is any, then up to ``max_bytes`` of records.

    ``at_hand`` gives batches by id that need not be read.
    """
    found: list[Stored] = []
    size = 0
    for row in _rows(connection, lane, after, ROWS):
        if found and size + row.bytes > max_bytes:  # compressed it is smaller than its records: it cannot fit either
            break
        batch = at_hand(row.id)
        stored = payload(connection, row) if batch is None else Stored(row, batch)
        size += _bytes_to_come(row) if stored.batch is None else stored.batch.size_bytes
        if found and size > max_bytes:
            break
        found.append(stored)
    return found


def _bytes_to_come(row: Row) -> int:
    """What a damaged batch will take in memory once it was read again: the bytes at its origin."""
    return row.bytes if row.origin is None else max(row.bytes, row.origin.end - row.origin.start)


def rows(connection: sqlite3.Connection, lane: int, after: int, most: int) -> list[Row]:
    """Header rows of the lane after id ``after``, by id. Raises SpoolDamaged where one does not match its seal."""
    return list(_rows(connection, lane, after, most))


def _rows(connection: sqlite3.Connection, lane: int, after: int, most: int) -> Iterator[Row]:
    """The same one by one: behind a backlog few of so many are wanted, and reading one costs a query."""
    found: Iterator[tuple[int, int]] = heapq.merge(
        *(
            connection.execute(
                "SELECT id, route FROM batch INDEXED BY batch_by_route WHERE route = ? AND id > ? ORDER BY id LIMIT ?",
                (route, after, most),
            ).fetchall()
            for route in law.routes_of(connection, lane)
        )
    )
    return (_routed(header(connection, row_id), route) for _, (row_id, route) in zip(range(most), found, strict=False))


def _routed(row: Row, route: int) -> Row:
    if row.route != route:
        raise SpoolDamaged(f"the index says that batch {row.id} has route {route}, and it has {row.route}")
    return row


def header(connection: sqlite3.Connection, row_id: int) -> Row:
    """One header row. Raises SpoolDamaged where it is gone or does not match its seal."""
    fields = connection.execute(f"SELECT {COLUMNS} FROM batch WHERE id = ?", (row_id,)).fetchone()  # noqa: S608 - constant
    if fields is None:
        raise SpoolDamaged(f"batch {row_id} stands in the index and not in the table")
    return to_row(fields)


def to_row(fields: tuple[Any, ...]) -> Row:
    """A header row from its columns. Raises SpoolDamaged where they do not match their seal."""
    if seal(*fields[:-1]) != fields[-1]:
        raise SpoolDamaged(f"batch {fields[0]} does not match its seal")
    origin = None if fields[7] is None else Origin(fields[7], fields[8], fields[9])
    row_id, route, signal, source, records, size, first_time_ns = fields[:7]
    return Row(row_id, route, signal, source, records, size, first_time_ns, origin)


def payload(connection: sqlite3.Connection, row: Row) -> Stored:
    """The batch of a header row; None where its payload cannot be read, is gone, or fails its CRC."""
    try:
        found = connection.execute("SELECT body FROM payload WHERE id = ?", (row.id,)).fetchone()
        return Stored(row, None if found is None else spooled.decode_to_send(found[0], row.id))
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in UNREADABLE:
            raise
        return Stored(row, None, unreadable=True)
