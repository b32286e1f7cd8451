"""This file makes records that prove themselves, counts a spool with SQL of its own, and drains it like a lane does.

A record is ``source number crc``: what is read back says itself where it belongs and whether it was altered.
"""

from __future__ import annotations

import random
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.batch import Batch, Logs, Origin, Position
from agent.errors import SpoolDamaged
from agent.spool import fetch, keeping
from agent.spool.bounds import LaneBound, share
from agent.spool.positions_copy import small_of
from agent.spool.records import Group, Passed, Stored, Taken
from agent.spool.salvage import Report, replace_store
from agent.spool.schema import SpoolOptions
from agent.spool.store import Router, Store
from agent.wire.entries import Entries, opened

OPTIONS = SpoolOptions(max_bytes=1 << 30)
TIME_NS = 1_700_000_000_000_000_000
MOST_REPLACEMENTS = 4


def record(source: str, number: int, padding: int = 0) -> bytes:
    """One record; a padded one does not compress."""
    text = f"{source} {number} {random.Random(number).randbytes(padding).hex()}".encode()
    return b"%s %08x" % (text, zlib.crc32(text))


def proven(line: bytes) -> tuple[str, int]:
    """Whose record it is, and which. Raises AssertionError where it was altered."""
    text, _, crc = line.rpartition(b" ")
    assert int(crc, 16) == zlib.crc32(text), f"altered: {line!r}"
    source, number, _ = text.split(b" ")
    return source.decode(), int(number)


def batch(source: str, first: int, count: int, *, padding: int = 0, origin: bool = True) -> Logs:
    """Records ``first`` to ``first + count``; where they come from is counted in records."""
    lines = [record(source, number, padding) for number in range(first, first + count)]
    return Logs(
        source=source,
        labels=(("source", source),),
        block=b"".join(line + b"\n" for line in lines),
        count=count,
        first_time_ns=TIME_NS + zlib.crc32(source.encode()) % 1000 * 1_000_000 + first,
        origin=Origin(source, first, first + count) if origin else None,
    )


def taken(*batches: Batch, dropped: int = 0) -> Taken:
    """What intake makes of batches of one source: counted, with the position behind the last."""
    reads: Counter[tuple[str, str]] = Counter()
    for each in batches:
        reads[each.source, each.signal] += each.count
    positions = tuple(
        (each.source, Position(each.source, str(each.origin.end))) for each in batches if each.origin is not None
    )
    return Taken(batches, reads, {}, positions)


@dataclass
class Routes:
    """Which lanes want a source, by name; every lane when nothing is said of it."""

    wanted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unwanted: frozenset[str] = frozenset()

    def router(self, ids: dict[str, int]) -> Router:
        def route(flow: tuple[str, str]) -> tuple[int, ...]:
            if flow[0] in self.unwanted:
                return ()
            return tuple(sorted(ids[name] for name in self.wanted.get(flow[0], tuple(ids)) if name in ids))

        return route


def configure(store: Store, names: Sequence[str], routes: Routes, bounds: dict[str, LaneBound] | None = None) -> None:
    """What the loop's side does when it is configured."""
    ids = store.configure(names, TIME_NS)
    store.router = routes.router(ids)
    known = {ids[name]: (bounds or {}).get(name, LaneBound()) for name in names}
    orphaned = [lane for lane in store.lanes if lane not in known]
    store.bounds = share(known, orphaned, store.options.max_bytes, frozenset())
    store.kept_until = {}
    store.rebook_held()


# The law, counted by other means than the agent's


def unbalanced(store: Store) -> dict[tuple[str, str], int]:
    """What is unaccounted for, by lane and source: the table rows, one by one, against the ledger."""
    connection = store.connection
    routes = {row[0]: set(map(int, row[1].split(","))) for row in connection.execute("SELECT id, lanes FROM route")}
    rows = connection.execute("SELECT id, route, source, records FROM batch NOT INDEXED").fetchall()
    counted = connection.execute("SELECT lane, source, outcome, records FROM ledger").fetchall()
    held = [
        each
        for (packed,) in connection.execute("SELECT held FROM state")
        for each in msgspec.json.decode(packed.encode())
    ]
    missing: Counter[tuple[str, str]] = Counter()
    for lane, name, cursor in connection.execute("SELECT id, name, cursor FROM lane"):
        for lane_id, source, outcome, records in counted:
            if lane_id == lane:
                missing[name, source] += records if outcome == "read" else -records
        for row, route, source, records in rows:
            if row > cursor and lane in routes.get(route, ()):
                missing[name, source] -= records
        for source, _, lanes, records in held:
            if lane in lanes:
                missing[name, source] -= records
    return {key: records for key, records in missing.items() if records}


def dropped(store: Store, reason: str | None = None) -> Counter[tuple[str, str]]:
    """Records dropped for a reason, by lane and source."""
    counts: Counter[tuple[str, str]] = Counter()
    for (lane, source, outcome, why), records in store.ledger.items():
        if outcome == "dropped" and reason in (None, why):
            counts[store.lanes[lane].name, source] += records
    return counts


# A lane at work


def records_of(stored: Stored) -> list[tuple[str, int]]:
    """The records of a batch read back, each proven."""
    assert stored.batch is not None
    logs = opened(stored.batch) if isinstance(stored.batch, Entries) else stored.batch
    assert isinstance(logs, Logs)
    assert (logs.source, logs.count) == (stored.row.source, stored.row.records)
    found = [proven(line) for line in logs.records()]
    assert len(found) == stored.row.records
    return found


@dataclass
class Drained:
    """What one lane got: records, and ranges that its source is asked for again."""

    records: list[tuple[str, int]] = field(default_factory=list)
    asked_again: list[tuple[str, int]] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    ids: list[int] = field(default_factory=list)


class Driver:
    """A store in use, replaced when it turns out to be damaged, as the loop's side does it."""

    def __init__(self, store: Store, directory: Path, bind: object = None) -> None:
        self.store = store
        self.directory = directory
        self.reports: list[Report] = []

    def _replace(self, error: SpoolDamaged) -> None:
        assert len(self.reports) < MOST_REPLACEMENTS, f"replaced again and again: {error}"
        old = self.store
        known = small_of(old)
        old.connection.close()
        copy = self.directory / "positions.copy"
        self.store, report = replace_store(self.directory / "spool", copy, old.options, TIME_NS, str(error), known)
        self.store.router, self.store.bounds = old.router, old.bounds
        self.reports.append(report)

    def commit(self, group: Group) -> None:
        """Commits, on a new file where the old one is damaged."""
        while True:
            try:
                return self.store.commit(group)
            except SpoolDamaged as error:
                self._replace(error)

    def fetch(self, lane: int, after: int, max_bytes: int = 1 << 20) -> list[Stored]:
        """A lane's next batches."""
        while True:
            try:
                cursor = self.store.lanes[lane].cursor
                with self.store.reading() as connection:
                    found = fetch.fetch(connection, lane, max(after, cursor), max_bytes, self.store.recent.get)
            except SpoolDamaged as error:
                self._replace(error)
                continue
            bad = {each.row.id for each in found if each.unreadable}
            if bad:
                self.store.avoid(bad)
            return found

    def drain(self, lane: int) -> Drained:
        """Everything a lane has yet to pass, acknowledged page by page."""
        drained, after = Drained(), 0
        while found := self.fetch(lane, after):
            passed = [self._taken_out(drained, each) for each in found]
            after = found[-1].row.id
            assert drained.ids == sorted(set(drained.ids)), "a batch came twice or out of order"
            self.commit(Group(acks={lane: passed}))
        return drained

    def _taken_out(self, drained: Drained, stored: Stored) -> Passed:
        row = stored.row
        drained.ids.append(row.id)
        if stored.batch is not None:
            drained.records += records_of(stored)
            return Passed(row.id, row.source, row.records)
        if row.origin is not None:
            assert row.origin.key == row.source
            drained.asked_again += [(row.source, number) for number in range(row.origin.start, row.origin.end)]
            return Passed(row.id, row.source, row.records)
        drained.lost[row.source] += row.records
        return Passed(row.id, row.source, row.records, dropped={"damaged": row.records})

    def keep(self) -> None:
        """One round of what happens every ten seconds."""
        try:
            self.store.recount()
            self.store.sweep(keeping.SWEEPS)
            if keeping.worn_out(self.store):
                raise SpoolDamaged("worn out")
        except SpoolDamaged as error:
            self._replace(error)


def crash_copy(state: Path, to: Path) -> Path:
    """The state directory as ``kill -9`` leaves it at this moment, the write-ahead log included."""
    shutil.copytree(state, to)
    return to


def numbers(source: str, ranges: Iterable[range]) -> set[tuple[str, int]]:
    """(source, number) of every record in the ranges."""
    return {(source, number) for each in ranges for number in each}
