"""This file is what lies in a spool, as plain documents: lanes, batches by source, what was refused, bytes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.spool import ledger as law
from agent.spool.inspection import Small, one_moment, read_small
from agent.spool.records import Lane
from agent.spool.schema import COLUMNS, seal

PAGE_ROWS: Final = 1000


def listing(connection: sqlite3.Connection, directory: Path) -> dict[str, Any]:
    """Everything but the batches one by one, as of one commit. Raises SpoolDamaged."""
    with one_moment(connection):
        small = read_small(connection)
        return {
            "path": str(directory / "spool.db"),
            **_bytes(connection, directory),
            "commit": small.commit_id,
            "lanes": [_lane(connection, lane) for lane in small.lanes.values()],
            "sources": list(_sources(connection)),
            "quarantine": list(_quarantine(connection, small)),
            "undeletable_batches": connection.execute("SELECT count(*) FROM skip").fetchone()[0],
            "reserve_bytes": _file_bytes(directory.parent / "reserve"),
            "damaged_directories": [
                {"path": str(path), "bytes": sum(_file_bytes(file) for file in path.iterdir())}
                for path in damaged_directories(directory)
            ],
        }


def damaged_directories(directory: Path) -> list[Path]:
    """The spools that were set aside beside the one in ``directory``."""
    try:
        return sorted(directory.parent.glob(f"{directory.name}.damaged-*"))
    except OSError:
        return []


def batches(connection: sqlite3.Connection, lane: str | None, after: int, most: int) -> list[dict[str, Any]]:
    """Header rows beyond id ``after`` that ``lane``, or any, has yet to pass; a page of them a read transaction."""
    query = f"SELECT {COLUMNS} FROM batch NOT INDEXED WHERE id > ? ORDER BY id LIMIT {PAGE_ROWS}"  # noqa: S608 - constants
    found: list[dict[str, Any]] = []
    while len(found) < most:
        with one_moment(connection):
            small = read_small(connection)
            page = connection.execute(query, (max(after, first_cursor(small, lane)),)).fetchall()
        for fields in page:
            lanes = waited_for_by(small, fields[0], fields[1])
            if lanes and (lane is None or lane in lanes):
                found.append(_batch(fields, lanes))
        if not page:
            break
        after = page[-1][0]
    return found[:most]


def _batch(fields: tuple[Any, ...], lanes: list[str]) -> dict[str, Any]:
    keys = ("id", "route", "signal", "source", "records", "bytes", "first_time_ns")
    sealed = seal(*fields[:-1]) == fields[-1]
    origin = None if fields[7] is None else list(fields[7:10])
    return {**dict(zip(keys, fields, strict=False)), "origin": origin, "waited_for_by": lanes, "sealed": sealed}


def waited_for_by(small: Small, batch: int, route: int) -> list[str]:
    """The names of the lanes that have yet to pass a batch."""
    members = small.routes.get(route, ())
    return [lane.name for lane in small.lanes.values() if lane.id in members and lane.cursor < batch]


def first_cursor(small: Small, lane: str | None) -> int:
    """The id before which nothing is waited for."""
    return min((each.cursor for each in small.lanes.values() if lane in (None, each.name)), default=0)


def _lane(connection: sqlite3.Connection, lane: Lane) -> dict[str, Any]:
    stands = law.waiting(connection, lane)
    return {
        "name": lane.name,
        "cursor": lane.cursor,
        "waiting_records": stands.records,
        "waiting_bytes": stands.bytes,
        "waiting_batches": stands.batches,
        "held_records": stands.held,
        "oldest_time_ns": stands.oldest_time_ns or None,
        "orphaned_ns": lane.orphaned_ns,
    }


def _sources(connection: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    keys = ("source", "signal", "batches", "records", "bytes", "first_id", "last_id")
    for row in connection.execute(
        "SELECT source, signal, count(*), sum(records), sum(bytes), min(id), max(id) FROM batch NOT INDEXED "
        "GROUP BY source, signal ORDER BY source, signal"
    ):
        yield dict(zip(keys, row, strict=True))


def _quarantine(connection: sqlite3.Connection, small: Small) -> Iterator[dict[str, Any]]:
    for lane, source, reason, rows, records, size, detail in connection.execute(
        "SELECT lane, source, reason, count(*), sum(records), sum(bytes), detail FROM quarantine "
        "GROUP BY lane, source, reason ORDER BY lane, source, reason"
    ):
        yield {
            "lane": small.lanes[lane].name if lane in small.lanes else f"lane {lane}",
            "source": source,
            "reason": reason,
            "batches": rows,
            "records": records,
            "bytes": size,
            "detail": detail,
        }


def _bytes(connection: sqlite3.Connection, directory: Path) -> dict[str, int]:
    pages, free, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    log_bytes = _file_bytes(directory / "spool.db-wal")
    return {"bytes": (pages - free) * page_bytes + log_bytes, "free_bytes": free * page_bytes, "log_bytes": log_bytes}


def _file_bytes(path: Path) -> int:
    """The size of a file, which is looked at and never opened."""
    with suppress(OSError):
        return os.stat(path).st_size
    return 0
