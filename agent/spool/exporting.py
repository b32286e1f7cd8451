"""This file reads batches out of a spool for an export, a few at a time, also from one that is damaged.

A payload describes itself, so a batch whose row is lost is exported all the same. No read transaction outlives a step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import msgspec
from msgspec import Struct

from agent.batch import Batch
from agent.errors import SpoolDamaged
from agent.spool.inspection import Small, one_moment, read_small
from agent.spool.listing import first_cursor, waited_for_by
from agent.spool.records import Lane
from agent.wire import spooled

STEP_BYTES: Final = 4 << 20
STEP_ROWS: Final = 64


class Out(Struct, frozen=True):
    """One batch to be written, or (``batch`` None) why it cannot be: ``fault``."""

    id: int
    batch: Batch | None
    lanes: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""
    fault: str = ""


def known_lanes(connection: sqlite3.Connection) -> dict[int, Lane]:
    """The lanes by id; none where that table cannot be trusted."""
    small = _small(connection)
    return {} if small is None else small.lanes


def waiting(connection: sqlite3.Connection, lane: str | None, after: int) -> Iterator[Out]:
    """The batches beyond id ``after`` that ``lane``, or any, has yet to pass; all there are where nobody can tell."""
    small = _small(connection)
    beyond = after if small is None else max(after, first_cursor(small, lane))
    for row in _rows(connection, "payload", "id, body", beyond):
        try:
            header = spooled.decode_header(_body(row), row[0])
            lanes = () if small is None else tuple(waited_for_by(small, row[0], header.route))
            if small is None or (lanes if lane is None else lane in lanes):
                yield Out(row[0], spooled.decode(row[1], row[0]), lanes)
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            yield Out(row[0], None, fault=str(error))


def quarantined(connection: sqlite3.Connection, lane: str | None, after: int) -> Iterator[Out]:
    """What was refused, to ``lane`` or to any, beyond id ``after`` of the quarantine."""
    names = {each.id: each.name for each in known_lanes(connection).values()}
    for row in _rows(connection, "quarantine", "id, body, lane, reason, detail", after):
        try:
            body = _body(row)
            name = names.get(row[2], f"lane {row[2]}")
            if lane in (None, name):
                yield Out(row[0], spooled.decode(body), (name,), row[3], row[4])
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            yield Out(row[0], None, fault=str(error))


def _small(connection: sqlite3.Connection) -> Small | None:
    try:
        with one_moment(connection):
            return read_small(connection)
    except (sqlite3.DatabaseError, SpoolDamaged, TypeError, ValueError, KeyError, msgspec.MsgspecError):
        return None


_Row = tuple[Any, ...]


def _body(row: _Row) -> bytes:
    """The second column; raises ValueError with what stands in its place where the row could not be read."""
    if not isinstance(row[1], bytes):
        raise ValueError(str(row[1]))
    return row[1]


def _rows(connection: sqlite3.Connection, table: str, columns: str, after: int) -> Iterator[_Row]:
    """Rows beyond ``after``, a step at a time. A stretch that cannot be read is one row with the reason as its body."""
    query = f"SELECT {columns} FROM {table} WHERE id > ? ORDER BY id"  # noqa: S608 - constants of the callers
    stretch = False
    while True:
        rows, fault = _step(connection, query, after)
        yield from rows
        after = rows[-1][0] if rows else after
        if fault is None and not rows:
            return
        stretch = stretch and not rows
        if fault is not None:
            if not stretch:
                yield (after + 1, f"from here on nothing could be read for a stretch: {fault}")
            stretch = True
            after += 1
            if after > _last_id(connection, table):
                return


def _step(connection: sqlite3.Connection, query: str, after: int) -> tuple[list[_Row], str | None]:
    rows: list[_Row] = []
    size = 0
    try:
        with one_moment(connection), closing(connection.execute(query, (after,))) as found:
            for row in found:
                rows.append(row)
                size += len(row[1])
                if size > STEP_BYTES or len(rows) >= STEP_ROWS:
                    break
    except sqlite3.DatabaseError as error:
        return rows, str(error)
    return rows, None


def _last_id(connection: sqlite3.Connection, table: str) -> int:
    try:
        (last,) = connection.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608 - constants of the callers
    except sqlite3.DatabaseError:
        return 0
    return last if isinstance(last, int) else 0
