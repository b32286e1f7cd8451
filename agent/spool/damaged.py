"""This file reads a spool that cannot be trusted: row by row, by id, taking nothing for true that does not prove it.

A row of the batch table has its seal, a payload its CRC, a row of a small table its seal and the number of its commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.batch import Origin
from agent.errors import SpoolDamaged, SpoolFull
from agent.spool import fetch, small_tables
from agent.spool.files import bytes_of, has_lost_its_file
from agent.spool.page_one import has_our_schema, restore_page_one
from agent.spool.positions_copy import Small
from agent.spool.records import Row
from agent.spool.schema import PAGE_BYTES, SMALL, seal
from agent.spool.store import translated
from agent.wire import spooled

MOST_BLIND_STEPS = 500_000
"""Ids looked up one by one where the tables cannot say which comes next."""

CANNOT_SAY = (SpoolDamaged, SpoolFull)

Body = tuple[bytes, spooled.Header]


def open_damaged(path: Path) -> sqlite3.Connection:
    """A connection to what is left of the database at ``path``; it may have no tables at all."""
    if has_lost_its_file(path):
        restore_page_one(path)
    elif not path.exists():
        return open_nothing()
    connection = _connected(path)
    if not _first_page_is_whole(connection, path):
        connection.close()
        restore_page_one(path)
        connection = _connected(path)
    return connection


def open_nothing() -> sqlite3.Connection:
    """A connection to a database without anything in it."""
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _first_page_is_whole(connection: sqlite3.Connection, path: Path) -> bool:
    try:
        with translated():
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            return has_our_schema(connection) and pages * PAGE_BYTES >= bytes_of(path)
    except CANNOT_SAY:
        return False


# The small tables


def small_tables_of(old: sqlite3.Connection) -> Small | None:
    """The small tables, or None where one row of them cannot be trusted."""
    try:
        with translated():
            meta = small_tables.read_meta(old)
            rows = {table: small_tables.read(old, table, meta["commit_id"]) for table in SMALL}
            known = {row[0] for row in rows["lane"]}
            if any(not known.issuperset(_members(lanes)) for _, lanes in rows["route"]):
                return None
    except CANNOT_SAY:
        return None
    return _small(meta, rows)


def whatever_is_whole(old: sqlite3.Connection) -> Small:
    """The rows of the small tables that prove themselves, where no set of them does that is complete."""
    rows = {table: list(_sealed_rows(old, table)) for table in SMALL}
    lanes = {row[0] for row in rows["lane"]}
    rows["route"] = [row for row in rows["route"] if lanes.issuperset(_members(row[1]))]
    rows["ledger"] = [row for row in rows["ledger"] if row[0] in lanes]
    try:
        with translated():
            meta = small_tables.read_meta(old)
    except CANNOT_SAY:
        meta = {"commit_id": 0, "last_time_ns": 0, "next_id": 1}
    return _small(meta, rows)


def more_routes(old: sqlite3.Connection, small: Small) -> list[tuple[int, str]]:
    """Routes of these lanes that are younger than ``small``."""
    lanes, known = {row[0] for row in small.lanes}, {row[0] for row in small.routes}
    return [row for row in _sealed_rows(old, "route") if row[0] not in known and lanes.issuperset(_members(row[1]))]


def _sealed_rows(old: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    with suppress(*CANNOT_SAY), translated():
        for row in old.execute(f"SELECT {SMALL[table]}, commit_id, seal FROM {table}"):  # noqa: S608 - constants
            if seal(*row[:-1]) == row[-1]:
                yield row[:-2]


def _members(lanes: str) -> list[int]:
    return [int(lane) for lane in lanes.split(",")]


def _small(meta: dict[str, int], rows: dict[str, list[tuple[Any, ...]]]) -> Small:
    return Small(
        max(meta["next_id"], *(1 + cursor for _, _, cursor, _ in rows["lane"]), 1),
        meta["commit_id"],
        meta["last_time_ns"],
        rows["lane"],
        rows["route"],
        rows["position"],
        rows["state"],
        rows["ledger"],
    )


# Batches


def saved(old: sqlite3.Connection, small: Small) -> Iterator[tuple[Row, bytes | None]]:
    """What is left of the batches that some lane of theirs has not passed: whole, or a row alone."""
    cursors = {lane: cursor for lane, _, cursor, _ in small.lanes}
    done = {route: min(cursors[lane] for lane in _members(lanes)) for route, lanes in small.routes}
    for row_id in ids(old, ("batch", "payload"), 1 + min(cursors.values(), default=0)):
        row, body = _row(old, row_id), _body(old, row_id)
        if row is None and body is not None:
            row = _row_of(row_id, body)
        if row is None or row_id <= done.get(row.route, row_id):
            continue
        yield row, None if body is None else body[0]


def ids(old: sqlite3.Connection, tables: tuple[str, ...], first: int) -> Iterator[int]:
    """Every id from ``first`` on that may stand in one of the tables, rising."""
    at, blind = first, 0
    last = max((_last_id(old, table) for table in tables), default=0)
    while at <= last:
        yield at
        following = [_next_id(old, table, at) for table in tables]
        if None in following and blind < MOST_BLIND_STEPS:
            blind += 1
            at += 1
        else:
            at = min((each for each in following if each), default=last + 1)


def _last_id(old: sqlite3.Connection, table: str) -> int:
    return _number(old, f"SELECT max(id) FROM {table}", ()) or 0  # noqa: S608 - a constant of the caller


def _next_id(old: sqlite3.Connection, table: str, at: int) -> int | None:
    """The next id of a table, 0 where there is none, None where the table cannot say."""
    found = _number(old, f"SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT 1", (at,))  # noqa: S608 - a constant of the caller
    return found if found is None or found == 0 or found > at else None


def _number(old: sqlite3.Connection, query: str, arguments: tuple[int, ...]) -> int | None:
    try:
        with translated():
            found = old.execute(query, arguments).fetchone()
    except CANNOT_SAY:
        return None
    number = 0 if found is None or found[0] is None else found[0]
    return number if isinstance(number, int) else None


def _row(old: sqlite3.Connection, row_id: int) -> Row | None:
    try:
        with translated():
            return fetch.header(old, row_id)
    except CANNOT_SAY:
        return None


def _body(old: sqlite3.Connection, row_id: int) -> Body | None:
    try:
        with translated():
            (body,) = old.execute("SELECT body FROM payload WHERE id = ?", (row_id,)).fetchone()
            return body, spooled.decode_header(body, row_id)
    except CANNOT_SAY:
        return None


def _row_of(row_id: int, body: Body) -> Row:
    header = body[1]
    return Row(
        row_id,
        header.route,
        header.signal,
        header.source,
        header.count,
        len(body[0]),
        header.first_time_ns,
        None if header.origin is None else Origin(*header.origin),
    )


# What was refused


def refused(old: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """The rows of the quarantine whose records are whole."""
    for row_id in ids(old, ("quarantine",), 1):
        try:
            with translated():
                row = old.execute("SELECT * FROM quarantine WHERE id = ?", (row_id,)).fetchone()
                header = spooled.decode_header(row[-1])
        except CANNOT_SAY:
            continue
        if (header.source, header.count, len(row[-1])) == (row[2], row[5], row[6]):
            yield row
