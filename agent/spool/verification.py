"""This file reads everything in a spool back and says what is not as it was written.

    structure      SQLite's own quick_check; beside a running agent table by table, without the long ones
    small tables   every seal and commit number, and the law, counted again
    batches        every header row against its seal, every payload against its CRC, the two against each other
    quarantine     every payload against its CRC

Batches are read in pages by id, and no read transaction lasts longer than a page.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from agent.errors import SpoolDamaged
from agent.spool.fetch import to_row
from agent.spool.inspection import Small, one_moment, read_small
from agent.spool.listing import waited_for_by
from agent.spool.records import Row
from agent.spool.recount import Recount, recount
from agent.spool.schema import COLUMNS
from agent.wire import spooled

PAGE_ROWS: Final = 64
MOST_FINDINGS: Final = 1000
SHORT_TABLES: Final = ("meta", "lane", "route", "batch", "position", "state", "ledger", "skip")

Progress = Callable[[int, int], None]
"""Told the id that was reached, and the last one."""


class Report(Struct):
    """What was read back. ``findings`` are sentences, at most MOST_FINDINGS of them; ``found`` counts them all."""

    batches: int = 0
    payload_bytes: int = 0
    quarantined: int = 0
    to_read_again: int = 0
    damaged_records: int = 0
    passed_damaged: int = 0
    found: int = 0
    findings: list[str] = field(default_factory=list)
    counted: Recount | None = None

    def note(self, finding: str) -> None:
        """Adds a finding."""
        self.found += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)

    @property
    def sound(self) -> bool:
        """Whether everything is as it was written, and the law holds."""
        return not self.found and self.counted is not None and self.counted.holds


def verify(connection: sqlite3.Connection, *, alone: bool, progress: Progress = lambda reached, last: None) -> Report:
    """Reads everything back. ``alone`` says that no agent has it open, so that a long transaction hurts nobody."""
    report = Report()
    for finding in _structure(connection, alone=alone):
        report.note(finding)
    small = _small(connection, report)
    _batches(connection, small, report, progress)
    _quarantine(connection, report)
    return report


def _structure(connection: sqlite3.Connection, *, alone: bool) -> Iterator[str]:
    for check in ["quick_check"] if alone else [f"quick_check({table})" for table in SHORT_TABLES]:
        try:
            for (said,) in connection.execute(f"PRAGMA {check}"):
                if said != "ok":
                    yield f"{check}: {said}"
        except sqlite3.DatabaseError as error:
            yield f"{check}: {error}"


def _small(connection: sqlite3.Connection, report: Report) -> Small | None:
    try:
        report.counted = recount(connection)
        with one_moment(connection):
            return read_small(connection)
    except (sqlite3.DatabaseError, SpoolDamaged, TypeError, ValueError, KeyError, msgspec.MsgspecError) as error:
        report.note(f"small tables: {error}")
        return None


# Batches


def _batches(connection: sqlite3.Connection, small: Small | None, report: Report, progress: Progress) -> None:
    ids = [_extreme(connection, which, table) for which in ("min", "max") for table in ("batch", "payload")]
    after, last = min((i for i in ids[:2] if i), default=1) - 1, max(ids)
    while after < last:
        with one_moment(connection):
            found, reached = _page(connection, after, report)
            for fields in found:
                _batch(connection, fields, small, report)
            _strays(connection, after, reached, {fields[0] for fields in found}, small, report)
        after = reached
        progress(min(after, last), last)


def _extreme(connection: sqlite3.Connection, which: str, table: str) -> int:
    try:
        (found,) = connection.execute(f"SELECT {which}(id) FROM {table}").fetchone()  # noqa: S608 - constants
    except sqlite3.DatabaseError:
        return 0
    return found if isinstance(found, int) else 0


def _page(connection: sqlite3.Connection, after: int, report: Report) -> tuple[list[tuple[Any, ...]], int]:
    """Header rows beyond ``after``, and the id up to which there are no others."""
    query = f"SELECT {COLUMNS} FROM batch NOT INDEXED WHERE id > ? ORDER BY id LIMIT {PAGE_ROWS}"  # noqa: S608 - constants
    try:
        found = connection.execute(query, (after,)).fetchall()
    except sqlite3.DatabaseError as error:
        report.note(f"batches {after + 1} to {after + PAGE_ROWS} cannot be listed: {error}")
        return list(_one_by_one(connection, after)), after + PAGE_ROWS
    return found, found[-1][0] if len(found) == PAGE_ROWS else (1 << 63) - 1


def _one_by_one(connection: sqlite3.Connection, after: int) -> Iterator[tuple[Any, ...]]:
    for row_id in range(after + 1, after + 1 + PAGE_ROWS):
        try:
            fields = connection.execute(f"SELECT {COLUMNS} FROM batch WHERE id = ?", (row_id,)).fetchone()  # noqa: S608 - constants
        except sqlite3.DatabaseError:
            continue
        if fields is not None:
            yield fields


def _batch(connection: sqlite3.Connection, fields: tuple[Any, ...], small: Small | None, report: Report) -> None:
    report.batches += 1
    try:
        row = to_row(fields)
    except SpoolDamaged as error:
        report.note(str(error))
        return
    fault = _fault(connection, row, report)
    if fault is None:
        return
    lanes = None if small is None else waited_for_by(small, row.id, row.route)
    if lanes == []:
        report.passed_damaged += 1
        return
    report.damaged_records += row.records
    again = f"; it can be read again from {row.origin.key} while that exists" if row.origin else ""
    waits = f", waited for by {', '.join(lanes)}" if lanes else ""
    report.note(f"batch {row.id} ({row.records:,} records of {row.source}{waits}): {fault}{again}")


def _fault(connection: sqlite3.Connection, row: Row, report: Report) -> str | None:
    """What is wrong with the payload of a row; None where nothing is, or where it is known to be read again."""
    try:
        found = connection.execute("SELECT body FROM payload WHERE id = ?", (row.id,)).fetchone()
        if found is None:
            if row.origin is None:
                return "its payload is gone"
            report.to_read_again += 1
            return None
        report.payload_bytes += len(found[0])
        header = spooled.decode_header(found[0], row.id)
    except (sqlite3.DatabaseError, ValueError, TypeError, msgspec.MsgspecError) as error:
        return str(error)
    if header.count != row.records:
        return f"its row counts {row.records} records and its payload holds {header.count}"
    return None


def _strays(
    connection: sqlite3.Connection, after: int, last: int, known: set[int], small: Small | None, report: Report
) -> None:
    """Payloads in (after, last] without a row; of no interest where every lane has passed them."""
    try:
        with closing(connection.execute("SELECT id FROM payload WHERE id > ? AND id <= ?", (after, last))) as rows:
            found = [row[0] for row in rows if row[0] not in known]
    except sqlite3.DatabaseError as error:
        report.note(f"payloads beyond {after} cannot be listed: {error}")
        return
    cursor = min((lane.cursor for lane in small.lanes.values()), default=0) if small else 0
    for row_id in found:
        if row_id > cursor:
            report.note(f"batch {row_id}: there is a payload and no row")


# Quarantine


def _quarantine(connection: sqlite3.Connection, report: Report) -> None:
    after = 0
    while True:
        try:
            page = connection.execute(
                f"SELECT id, body FROM quarantine WHERE id > ? ORDER BY id LIMIT {PAGE_ROWS}",  # noqa: S608 - a constant
                (after,),
            ).fetchall()
        except sqlite3.DatabaseError as error:
            report.note(f"quarantine beyond {after}: {error}")
            return
        for row_id, body in page:
            report.quarantined += 1
            try:
                spooled.decode_header(body)
            except (ValueError, TypeError, msgspec.MsgspecError) as error:
                report.note(f"quarantined batch {row_id}: {error}")
        if not page:
            return
        after = page[-1][0]
