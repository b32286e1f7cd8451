"""This file is the batch table: its rows as plain data, written with their seal, and walked in order for one lane."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import astuple

from agent.spool import ledger as law
from agent.spool.records import Row
from agent.spool.schema import seal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from agent.wire.entries import Sendable

LAST_ID = (1 << 63) - 1


class Passing(NamedTuple):
    """A row that a lane is about to pass."""

    id: int
    route: int
    signal: str
    source: str
    records: int
    bytes: int
    first_time_ns: int


def rows_after(connection: sqlite3.Connection, lane_id: int, after: int, last: int = LAST_ID) -> Iterator[Passing]:
    """A lane's rows with ids in (after, last], by id. Read as they are asked for: change nothing meanwhile."""
    query = (
        f"SELECT {', '.join(Passing._fields)} FROM batch INDEXED BY batch_by_route "  # noqa: S608 - constants
        "WHERE route = ? AND id > ? AND id <= ? ORDER BY id"
    )
    found = [connection.execute(query, (route, after, last)) for route in law.routes_of(connection, lane_id)]
    return heapq.merge(*(map(Passing._make, rows) for rows in found))


def write_batch(connection: sqlite3.Connection, row_id: int, route: int, batch: Sendable, payload: bytes) -> None:
    """Inserts a batch."""
    write_row(
        connection,
        Row(row_id, route, batch.signal, batch.source, batch.count, len(payload), batch.first_time_ns, batch.origin),
    )
    connection.execute("INSERT INTO payload(id, body) VALUES(?, ?)", (row_id, payload))


def write_row(connection: sqlite3.Connection, row: Row) -> None:
    """Inserts a header row alone."""
    fields = _fields(row)
    connection.execute("INSERT INTO batch VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*fields, seal(*fields)))


def write_route(connection: sqlite3.Connection, row: Row) -> None:
    """Gives a row that is there the route it has now."""
    connection.execute("UPDATE batch SET route = ?, seal = ? WHERE id = ?", (row.route, seal(*_fields(row)), row.id))


def delete_rows(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Deletes batches with their payloads."""
    keys = [(row_id,) for row_id in ids]
    connection.executemany("DELETE FROM payload WHERE id = ?", keys)
    connection.executemany("DELETE FROM batch WHERE id = ?", keys)


def _fields(row: Row) -> tuple[object, ...]:
    origin = (None, None, None) if row.origin is None else astuple(row.origin)
    return (row.id, row.route, row.signal, row.source, row.records, row.bytes, row.first_time_ns, *origin)
