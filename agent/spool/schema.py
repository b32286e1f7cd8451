"""This file is the options of the ``[spool]`` table and the database schema; docs/spool-format.md draws it."""

from __future__ import annotations

import zlib
from typing import Annotated

from msgspec import Meta

from agent.options import Options


class SpoolOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[spool]`` table."""

    max_bytes: Annotated[
        int, Meta(ge=16 << 20, description="Most bytes the spool takes on disk, write-ahead log included.")
    ] = 2 << 30
    max_age_seconds: Annotated[float, Meta(gt=0, description="Older records are let go and counted as dropped.")] = (
        7 * 86400.0
    )
    reserve_bytes: Annotated[
        int, Meta(ge=0, description="Space kept in a file of its own, given up when the disk is full.")
    ] = 16 << 20
    retire_after_seconds: Annotated[
        float, Meta(ge=0, description="How long a lane that left the configuration keeps its records.")
    ] = 86400.0
    quarantine_bytes: Annotated[
        int, Meta(ge=0, description="Most bytes of refused records kept for inspection and replay.")
    ] = 16 << 20

    @property
    def quarantine_bound(self) -> int:
        """``quarantine_bytes``, and never more than an eighth of the whole."""
        return min(self.quarantine_bytes, self.max_bytes // 8)


SCHEMA_VERSION = 1
"""``PRAGMA user_version``. Within a major version of the agent a change only ever adds."""

PAGE_BYTES = 16384
WAL_PAGES = 64

BUSY_TIMEOUT = "PRAGMA busy_timeout = 5000;"
NEW_FILE = f"""
PRAGMA page_size = {PAGE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
"""
"""Only before the first table is made do they take effect. The second one writes each time, also where it changes
nothing, and a spool must open on a disk without a free byte."""

PRAGMAS = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = OFF;
PRAGMA wal_autocheckpoint = {WAL_PAGES};
PRAGMA journal_size_limit = {8 << 20};
PRAGMA cache_size = -256;
PRAGMA temp_store = MEMORY;
{BUSY_TIMEOUT}
"""
"""After ``NEW_FILE`` in a new file. None of them writes to one that has them."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta(
    key TEXT PRIMARY KEY, value INTEGER NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lane(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, cursor INTEGER NOT NULL,
    orphaned_ns INTEGER, commit_id INTEGER NOT NULL, seal INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS route(
    id INTEGER PRIMARY KEY, lanes TEXT NOT NULL UNIQUE, commit_id INTEGER NOT NULL, seal INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS batch(
    id INTEGER PRIMARY KEY, route INTEGER NOT NULL, signal TEXT NOT NULL, source TEXT NOT NULL,
    records INTEGER NOT NULL, bytes INTEGER NOT NULL, first_time_ns INTEGER NOT NULL,
    origin_key TEXT, origin_start INTEGER, origin_end INTEGER, seal INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS batch_by_route ON batch(route, id, records, bytes);
CREATE TABLE IF NOT EXISTS payload(
    id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS position(
    source TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, commit_id INTEGER NOT NULL,
    seal INTEGER NOT NULL, PRIMARY KEY(source, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state(
    processor TEXT PRIMARY KEY, blob BLOB NOT NULL, held TEXT NOT NULL, commit_id INTEGER NOT NULL,
    seal INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger(
    lane INTEGER NOT NULL, source TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL,
    records INTEGER NOT NULL, commit_id INTEGER NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY(lane, source, outcome, reason)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS skip(
    id INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS quarantine(
    id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL, time_ns INTEGER NOT NULL,
    body BLOB NOT NULL);
"""


SMALL = {
    "lane": "id, name, cursor, orphaned_ns",
    "route": "id, lanes",
    "position": "source, key, value",
    "state": "processor, blob, held",
    "ledger": "lane, source, outcome, reason, records",
}
"""The small tables. Each row also carries the number of the commit that wrote it, and a seal over all of it."""

COLUMNS = "id, route, signal, source, records, bytes, first_time_ns, origin_key, origin_start, origin_end, seal"
"""A header row of ``batch``, its seal last."""


def seal(*fields: object) -> int:
    """A CRC-32 over the fields of a row: SQLite does not notice a flipped bit inside a cell."""
    return zlib.crc32(repr(fields).encode("utf-8", "surrogateescape"))
