"""This file keeps records that a destination will never take, for inspection and replay, within their bound."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from agent.spool.records import Quarantined
from agent.wire import spooled

MOST_DETAIL = 1024
"""Characters kept of what a destination said."""

ROW_BYTES = 128
"""What a row takes besides its payload and its text."""

PAGE_ROWS = 256
_INSERT = (
    "INSERT INTO quarantine(lane, source, reason, detail, records, bytes, time_ns, body) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
)
_SIZE = f"bytes + length(detail) + {ROW_BYTES}"


def write_quarantined(connection: sqlite3.Connection, refused: Iterable[Quarantined], bound_bytes: int) -> None:
    """Inserts what was refused, and deletes the oldest beyond ``bound_bytes``."""
    for item in refused:
        body, batch = spooled.encode(item.batch, 0), item.batch
        if len(body) <= bound_bytes:
            detail = item.detail[:MOST_DETAIL]
            row = (item.lane, batch.source, item.reason, detail, batch.count, len(body), batch.first_time_ns, body)
            connection.execute(_INSERT, row)
    _delete_oldest(connection, bound_bytes)


def _delete_oldest(connection: sqlite3.Connection, bound_bytes: int) -> None:
    (excess,) = connection.execute(f"SELECT coalesce(sum({_SIZE}), 0) - ? FROM quarantine", (bound_bytes,)).fetchone()  # noqa: S608 - constants
    while excess > 0:
        page = connection.execute(f"SELECT id, {_SIZE} FROM quarantine ORDER BY id LIMIT {PAGE_ROWS}").fetchall()  # noqa: S608 - constants
        for row_id, size in page:
            if excess > 0:
                connection.execute("DELETE FROM quarantine WHERE id = ?", (row_id,))
                excess -= size
