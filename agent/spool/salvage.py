"""This file replaces a spool that cannot be trusted: what can be read is taken over, what cannot is counted.

    spool.new/                 ← made first, so that a crash half-way leaves the damaged spool to start from again
    spool/                     → spool.damaged-<time>/, renamed as a whole: the database and its write-ahead log belong
                                 together, and a new database beside the old log would delete it
    small tables               ← the damaged file if every row of them can be trusted, else the second copy
    batches                    ← one by one: a row without its payload is kept where its source can be read again,
                                 a payload without its row gets one from its own header
    what is missing after that → dropped{damaged}

Batch ids stay what they were, so that an answer still under way finds its batch.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.errors import SpoolDamaged, SpoolFull
from agent.spool import damaged, small_tables
from agent.spool import ledger as law
from agent.spool.files import bound_what_is_set_aside, set_aside
from agent.spool.positions_copy import Small, flush_directory, read_copy
from agent.spool.records import DROPPED, READ, Ledger, Row
from agent.spool.rows import write_row
from agent.spool.schema import SpoolOptions
from agent.spool.store import Store, translated

log = logging.getLogger("telemetry_agent.spool")

STEP_BYTES = 4 << 20
HEADROOM_BYTES = 3 * STEP_BYTES
"""What a step may take of the disk, log included, and what must be left to write down what became of everything."""

DAMAGED = "damaged"


class Report(Struct):
    """What a replacement saved and what it could not."""

    reason: str
    set_aside: str = ""
    positions_from: str = "the damaged file"
    batches: int = 0
    records: int = 0
    to_read_again: int = 0
    lost_records: int = 0
    complete: bool = True


def open_store(directory: Path, copy: Path, options: SpoolOptions, wall_ns: int) -> tuple[Store, Report | None]:
    """The spool in ``directory``, with a report when it had to be replaced. Raises SpoolFull."""
    with translated():
        _finish_swap(directory)
    try:
        if _gone(directory, copy):
            raise SpoolDamaged("its database is gone")
        return Store(directory, options), None
    except SpoolDamaged as error:
        return replace_store(directory, copy, options, wall_ns, str(error))


def _gone(directory: Path, copy: Path) -> bool:
    """Whether there was a database: to begin anew without a word would forget every position and count."""
    path = directory / "spool.db"
    if path.exists() and path.stat().st_size:
        return False
    return path.with_name("spool.db-wal").exists() or read_copy(copy) is not None


def replace_store(
    directory: Path, copy: Path, options: SpoolOptions, wall_ns: int, reason: str, known: Small | None = None
) -> tuple[Store, Report]:
    """Makes a new spool of what can be saved and sets the damaged one aside; it must be open nowhere.

    ``known`` are the small tables as somebody remembers them who had it open. Raises SpoolFull, and can then be called
    again: nothing was changed but the first page of a file that had none.
    """
    report = Report(reason)
    new, second = _new(directory), read_copy(copy)
    with translated():
        try:
            with translated(), closing(damaged.open_damaged(directory / "spool.db")) as old:
                _build(new, old, known or _trusted(old, second, report), second, options, report)
        except SpoolDamaged as error:  # nothing of it may keep the agent from starting
            log.error("nothing can be taken over from the damaged spool: %s", error)
            with closing(damaged.open_nothing()) as old:
                _build(new, old, known or second or Small.empty(), second, options, report)
        _swap(directory, new, wall_ns, report)
    if known is not None:
        report.positions_from = "memory"
    store = Store(directory, options)
    with translated():
        if not bound_what_is_set_aside(directory, options, store.used_bytes):
            report.set_aside = ""
    return store, report


def _build(
    new: Path, old: sqlite3.Connection, small: Small, second: Small | None, options: SpoolOptions, report: Report
) -> None:
    if new.exists():
        shutil.rmtree(new)
    small = msgspec.structs.replace(small, routes=small.routes + damaged.more_routes(old, small))
    next_id = max(small.next_id, second.next_id if second else 1)
    with closing(Store(new, options)) as store:
        _write_small(store, small, next_id)
        gone = _take_over(old, store, small, report)
    with closing(Store(new, options, unchecked=True)) as store:
        _close_the_law(store, small.next_id, gone, report)


def _trusted(old: sqlite3.Connection, second: Small | None, report: Report) -> Small:
    small = damaged.small_tables_of(old)
    if small is not None:
        return small
    if second is not None:
        report.positions_from = "the second copy"
        return second
    report.positions_from = "what was whole in the damaged file"
    return damaged.whatever_is_whole(old)


# The directories


def _new(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.new")


def _swap(directory: Path, new: Path, wall_ns: int, report: Report) -> None:
    for older in set_aside(directory):
        shutil.rmtree(older, ignore_errors=True)
    if directory.exists():
        aside = directory.with_name(f"{directory.name}.damaged-{wall_ns // 1_000_000_000}")
        directory.rename(aside)
        report.set_aside = aside.name
    new.rename(directory)
    flush_directory(directory.parent)


def _finish_swap(directory: Path) -> None:
    """Ends a replacement that a crash has cut between its two renames; what one left that was cut before is removed."""
    new = _new(directory)
    if not new.exists():
        return
    if directory.exists() or not set_aside(directory):
        shutil.rmtree(new, ignore_errors=True)
    else:
        new.rename(directory)
        flush_directory(directory.parent)


# Writing the new one


def _write_small(store: Store, small: Small, next_id: int) -> None:
    with store.transaction() as connection:
        small_tables.write(connection, "lane", small.commit_id, small.lanes)
        small_tables.write(connection, "route", small.commit_id, small.routes)
        small_tables.write(connection, "position", small.commit_id, small.positions)
        small_tables.write(connection, "state", small.commit_id, small.states)
        small_tables.write(connection, "ledger", small.commit_id, small.ledger)
        small_tables.write_meta(connection, commit_id=small.commit_id, last_time_ns=small.last_time_ns, next_id=next_id)


def _take_over(old: sqlite3.Connection, store: Store, small: Small, report: Report) -> list[Row]:
    """Writes what is left; returns the rows of which nothing is left that could be sent or read again."""
    gone: list[Row] = []
    try:
        for step in _steps(damaged.saved(old, small)):
            if shutil.disk_usage(store.directory).free < HEADROOM_BYTES:
                raise SpoolFull(f"less than {HEADROOM_BYTES:,} bytes are free")
            with store.transaction() as connection:
                kept = [_insert(connection, row, body) for row, body in step if body is not None or row.origin]
            gone += [row for row, body in step if body is None and row.origin is None]
            report.batches += len(kept)
            report.records += sum(row.records for row in kept)
            report.to_read_again += sum(row.records for row in kept if not row.bytes)
        _take_over_refused(damaged.refused(old), store)
    except SpoolFull as error:  # a second copy of everything may not fit: what did not is counted as lost
        report.complete = False
        log.error("the disk is full while the spool is replaced; the rest of its records is lost: %s", error)
    return gone


def _insert(connection: sqlite3.Connection, row: Row, body: bytes | None) -> Row:
    """Writes a batch, or the row alone of one that will be read again; returns the row as it stands."""
    if body is None:
        row = replace(row, bytes=0)
    else:
        connection.execute("INSERT INTO payload(id, body) VALUES(?, ?)", (row.id, body))
    write_row(connection, row)
    return row


def _take_over_refused(rows: Iterable[tuple[object, ...]], store: Store) -> None:
    with store.transaction() as connection:
        connection.executemany("INSERT INTO quarantine VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _steps(saved: Iterator[tuple[Row, bytes | None]]) -> Iterator[list[tuple[Row, bytes | None]]]:
    step: list[tuple[Row, bytes | None]] = []
    size = 0
    for row, body in saved:
        step.append((row, body))
        size += len(body or b"") + 256
        if size > STEP_BYTES:
            yield step
            step, size = [], 0
    if step:
        yield step


def _close_the_law(store: Store, counted_until: int, gone: list[Row], report: Report) -> None:
    """Counts as read what is younger than the counts, and as dropped what they say is there and is not."""
    counts = _younger(store, counted_until, gone)
    for lane in store.lanes.values():
        for source, missing in law.missing_by_source(store.connection, lane, store.ledger + counts).items():
            if missing > 0:
                counts[lane.id, source, DROPPED, DAMAGED] += missing
                report.lost_records += missing
            elif missing < 0:
                counts[lane.id, source, READ, ""] -= missing
    with store.transaction() as connection:
        rows = [(*key, store.ledger[key] + records) for key, records in counts.items()]
        small_tables.write(connection, "ledger", store.commit_id, rows)


def _younger(store: Store, counted_until: int, gone: list[Row]) -> Ledger:
    """What was read since the counts were written: it stands in the file, or is gone."""
    found = [(row.route, row.source, row.records) for row in gone if row.id >= counted_until]
    found += store.connection.execute(
        "SELECT route, source, sum(records) FROM batch WHERE id >= ? GROUP BY route, source", (counted_until,)
    )
    members = {route: lanes for lanes, route in store.routes.items()}
    counts: Ledger = Counter()
    for route, source, records in found:
        for lane in members[route]:
            counts[lane, source, READ, ""] += records
    return counts
