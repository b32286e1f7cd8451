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
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.batch import Origin
from agent.errors import SpoolDamaged, SpoolFull
from agent.spool import fetch, small_tables
from agent.spool import ledger as law
from agent.spool.draft import write_row
from agent.spool.page_one import restore_page_one
from agent.spool.positions_copy import Small, read_copy
from agent.spool.records import DROPPED, READ, Row
from agent.spool.schema import SMALL, SpoolOptions
from agent.spool.store import Store, translated
from agent.wire import spooled

log = logging.getLogger("telemetry_agent.spool")

STEP_BYTES = 8 << 20
MOST_IDS = 5_000_000
DAMAGED = "damaged"


@dataclass(slots=True)
class Report:
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
    _finish_swap(directory)
    try:
        return Store(directory, options), None
    except SpoolDamaged as error:
        return replace_store(directory, copy, options, wall_ns, str(error))


def replace_store(
    directory: Path, copy: Path, options: SpoolOptions, wall_ns: int, reason: str
) -> tuple[Store, Report]:
    """Makes a new spool of what can be saved and sets the damaged one aside; it must be open nowhere."""
    report = Report(reason)
    new = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    with closing(_open_damaged(directory / "spool.db")) as old, closing(Store(new, options)) as store:
        small = _small_tables(old)
        if small is None:
            small = read_copy(copy)
            report.positions_from = "the second copy"
        if small is None:
            small = Small(1, 0, 0, [], [], [], [], [])
            report.positions_from = "nowhere"
        _write_small(store, small)
        _take_over(old, store, small, report)
    with closing(Store(new, options, unchecked=True)) as store:
        _close_the_law(store, report)
    _swap(directory, new, wall_ns, report)
    store = Store(directory, options)
    _bound_what_is_set_aside(directory, report, options, store.used_bytes)
    return store, report


# The directories


def _swap(directory: Path, new: Path, wall_ns: int, report: Report) -> None:
    for older in directory.parent.glob(f"{directory.name}.damaged-*"):
        shutil.rmtree(older, ignore_errors=True)
    aside = directory.with_name(f"{directory.name}.damaged-{wall_ns // 1_000_000_000}")
    directory.rename(aside)
    new.rename(directory)
    report.set_aside = aside.name


def _finish_swap(directory: Path) -> None:
    new = directory.with_name(f"{directory.name}.new")
    if new.exists() and not directory.exists():
        new.rename(directory)


def _bound_what_is_set_aside(directory: Path, report: Report, options: SpoolOptions, used_bytes: int) -> None:
    aside = directory.with_name(report.set_aside)
    size = sum(file.stat().st_size for file in aside.glob("*"))
    scarce = shutil.disk_usage(directory.parent).free < 4 * options.reserve_bytes
    if scarce or used_bytes + size > options.max_bytes:
        shutil.rmtree(aside, ignore_errors=True)
        report.set_aside = ""


# Reading the damaged file


def _open_damaged(path: Path) -> sqlite3.Connection:
    if not path.exists():
        return sqlite3.connect(":memory:")
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("SELECT min(id) FROM batch").fetchone()
    except sqlite3.Error:
        connection.close()
        with suppress(OSError):
            restore_page_one(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    return connection


def _small_tables(old: sqlite3.Connection) -> Small | None:
    try:
        with translated():
            meta = small_tables.read_meta(old)
            rows = {table: small_tables.read(old, table, meta["commit_id"]) for table in SMALL}
            routes = [(route, lanes) for route, lanes in old.execute("SELECT id, lanes FROM route")]
            if {int(lane) for _, lanes in routes for lane in lanes.split(",")} - {row[0] for row in rows["lane"]}:
                return None
    except (SpoolDamaged, SpoolFull):
        return None
    last = [cursor for _, _, cursor, _ in rows["lane"]] + [_last_id(old, table) for table in ("batch", "payload")]
    return Small(
        1 + max(last, default=0),
        meta["commit_id"],
        meta["last_time_ns"],
        rows["lane"],
        routes,
        rows["position"],
        rows["state"],
        rows["ledger"],
    )


def _last_id(old: sqlite3.Connection, table: str) -> int:
    try:
        (last,) = old.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608 - a constant of the caller
    except sqlite3.Error:
        return 0
    return last if isinstance(last, int) else 0


def _candidates(old: sqlite3.Connection, small: Small) -> range:
    first = 1 + min((cursor for _, _, cursor, _ in small.lanes), default=0)
    last = max(small.next_id - 1, *(_last_id(old, table) for table in ("batch", "payload")))
    return range(first, min(last, first + MOST_IDS) + 1)


def _row(old: sqlite3.Connection, row_id: int) -> Row | None:
    try:
        with translated():
            return fetch.header(old, row_id)
    except (SpoolDamaged, SpoolFull):
        return None


def _body(old: sqlite3.Connection, row_id: int) -> tuple[bytes, spooled.Header] | None:
    try:
        (body,) = old.execute("SELECT body FROM payload WHERE id = ?", (row_id,)).fetchone()
        return body, spooled.decode_header(body)
    except (sqlite3.Error, TypeError, ValueError, msgspec.MsgspecError):
        return None


# Writing the new one


def _write_small(store: Store, small: Small) -> None:
    with store.transaction() as connection:
        small_tables.write(connection, "lane", small.commit_id, small.lanes)
        small_tables.write(connection, "position", small.commit_id, small.positions)
        small_tables.write(connection, "state", small.commit_id, small.states)
        small_tables.write(connection, "ledger", small.commit_id, small.ledger)
        small_tables.write_meta(connection, small.commit_id, small.last_time_ns)
        connection.executemany("INSERT INTO route(id, lanes) VALUES(?, ?)", small.routes)


def _take_over(old: sqlite3.Connection, store: Store, small: Small, report: Report) -> None:
    cursors = {lane: cursor for lane, _, cursor, _ in small.lanes}
    done = {route: min(cursors[int(lane)] for lane in lanes.split(",")) for route, lanes in small.routes}
    steps = _steps(_saved(old, _candidates(old, small), done))
    try:
        for step in steps:
            with store.transaction() as connection:
                for row, body in step:
                    write_row(connection, row)
                    if body is not None:
                        connection.execute("INSERT INTO payload(id, body) VALUES(?, ?)", (row.id, body))
            report.batches += len(step)
            report.records += sum(row.records for row, _ in step)
            report.to_read_again += sum(row.records for row, body in step if body is None)
    except SpoolFull as error:  # a second copy of everything may not fit: what did not is counted as lost
        report.complete = False
        log.error("the disk is full while the spool is replaced; the rest of its records is lost: %s", error)


def _saved(old: sqlite3.Connection, ids: range, done: dict[int, int]) -> Iterator[tuple[Row, bytes | None]]:
    for row_id in ids:
        row, body = _row(old, row_id), _body(old, row_id)
        if row is None and body is not None:
            row = _row_of(row_id, body[1], len(body[0]))
        if row is None or row_id <= done.get(row.route, row_id):
            continue
        if body is not None:
            yield row, body[0]
        elif row.origin is not None:
            yield row, None


def _row_of(row_id: int, header: spooled.Header, size: int) -> Row:
    origin = None if header.origin is None else Origin(*header.origin)
    return Row(row_id, header.route, header.signal, header.source, header.count, size, header.first_time_ns, origin)


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


def _close_the_law(store: Store, report: Report) -> None:
    counts: Counter[tuple[int, str, str, str]] = Counter()
    for lane in store.lanes.values():
        for source, missing in law.missing_by_source(store.connection, lane, store.ledger).items():
            if missing > 0:
                counts[lane.id, source, DROPPED, DAMAGED] += missing
                report.lost_records += missing
            elif missing < 0:  # batches younger than the copy that the counts came from
                counts[lane.id, source, READ, ""] -= missing
    with store.transaction() as connection:
        rows = [(*key, store.ledger[key] + records) for key, records in counts.items()]
        small_tables.write(connection, "ledger", store.commit_id, rows)
