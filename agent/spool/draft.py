"""This file is one commit in the making: what it writes, and what memory will say once it is durable.

Nothing of the store changes before ``keep``: a transaction that fails leaves no trace.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.batch import Batch
from agent.contract import Held
from agent.spool import ledger as law
from agent.spool import small_tables
from agent.spool.records import (
    DELIVERED,
    DROPPED,
    NO_LANE,
    READ,
    REJECTED,
    UNROUTED,
    Group,
    LedgerKey,
    Passed,
    Quarantined,
    Row,
    Taken,
)
from agent.spool.schema import seal
from agent.wire import spooled
from agent.wire.entries import Sendable

if TYPE_CHECKING:
    from agent.spool.store import Store


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch about to be written, and the lanes that want it."""

    batch: Sendable
    lanes: tuple[int, ...]
    route: int
    payload: bytes


class Draft:
    """What one commit will change, beside the store it will change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lanes = dict(store.lanes)
        self.counts: Counter[LedgerKey] = Counter()
        self.added_bytes: Counter[int] = Counter()
        self.new_routes: dict[tuple[int, ...], int] = {}
        self.positions: dict[tuple[str, str], str | None] = {}
        self.states: dict[str, tuple[bytes, str] | None] = {}
        self.written: dict[int, Sendable] = {}
        self.next_id = store.next_id
        self.last_time_ns = store.last_time_ns
        self.commit_id = store.commit_id + 1

    # Intake

    def prepare(self, taken: Iterable[Taken]) -> list[Prepared]:
        """The payloads of everything that is wanted by some lane, compressed before the transaction begins."""
        return [
            self.prepared(batch, lanes)
            for step in taken
            for batch in step.batches
            if batch.count and (lanes := self._store.router((batch.source, batch.signal)))
        ]

    def prepared(self, batch: Batch, lanes: tuple[int, ...]) -> Prepared:
        """A batch and its payload, for these lanes."""
        route = self._route(lanes)
        as_entries = self._store.entry_lanes.issuperset(lanes)
        kept = spooled.to_keep(batch, as_entries)
        return Prepared(kept, lanes, route, spooled.encode(kept, route))

    def _route(self, lanes: tuple[int, ...]) -> int:
        route = self._store.routes.get(lanes) or self.new_routes.get(lanes)
        if route is None:
            route = 1 + max((*self._store.routes.values(), *self.new_routes.values(), 0))
            self.new_routes[lanes] = route
        return route

    def write_batches(self, connection: sqlite3.Connection, prepared: Sequence[Prepared]) -> None:
        """Inserts batches and payloads under ids that were never used before."""
        connection.executemany(
            "INSERT INTO route(id, lanes) VALUES(?, ?)",
            [(route, ",".join(map(str, lanes))) for lanes, route in self.new_routes.items()],
        )
        for item in prepared:
            write_batch(connection, self.next_id, item.route, item.batch, item.payload)
            self.written[self.next_id] = item.batch
            self.next_id += 1
            for lane in item.lanes:
                self.added_bytes[lane] += len(item.payload)

    def write_taken(self, connection: sqlite3.Connection, taken: Iterable[Taken]) -> None:
        """Counts what was read and dropped; moves positions and states."""
        for step in taken:
            for (source, signal), records in step.read.items():
                lanes = self._store.router((source, signal))
                if not lanes:
                    self.counts[NO_LANE, source, UNROUTED, signal] += records
                for lane in lanes:
                    self.counts[lane, source, READ, ""] += records
            for ((source, signal), reason), records in step.dropped.items():
                for lane in self._store.router((source, signal)):
                    self.counts[lane, source, DROPPED, reason] += records
            for source, position in step.positions:
                self.positions[source, position.key] = position.value
            self.states.update(
                {name: None if held is None else self._packed(held) for name, held in step.states.items()}
            )
        moved = [(*key, value) for key, value in self.positions.items() if value is not None]
        forgotten = [key for key, value in self.positions.items() if value is None]
        small_tables.write(connection, "position", self.commit_id, moved)
        connection.executemany("DELETE FROM position WHERE source = ? AND key = ?", forgotten)
        holding = [(name, *state) for name, state in self.states.items() if state is not None]
        empty = [(name,) for name, state in self.states.items() if state is None]
        small_tables.write(connection, "state", self.commit_id, holding)
        connection.executemany("DELETE FROM state WHERE processor = ?", empty)

    def _packed(self, held: Held) -> tuple[bytes, str]:
        records = [
            (source, signal, self._store.router((source, signal)), count)
            for (source, signal), count in held.records.items()
        ]
        return held.blob, msgspec.json.encode(records).decode()

    # Acknowledgement

    def write_acks(self, connection: sqlite3.Connection, group: Group) -> None:
        """Moves cursors and counts what became of each batch. One already let go as dropped is not counted twice."""
        for lane_id, passed in group.acks.items():
            for item in passed:
                self._count_passed(lane_id, item)
            self.move_cursor(connection, lane_id, passed[-1].id)
        if group.quarantined:
            _write_quarantined(connection, group.quarantined, self._store.options.quarantine_bytes)

    def _count_passed(self, lane_id: int, item: Passed) -> None:
        if item.id <= self.lanes[lane_id].cursor:
            return
        delivered = item.records - sum(item.rejected.values()) - sum(item.dropped.values())
        if delivered:
            self.counts[lane_id, item.source, DELIVERED, ""] += delivered
        for reason, records in item.rejected.items():
            self.counts[lane_id, item.source, REJECTED, reason] += records
        for reason, records in item.dropped.items():
            self.counts[lane_id, item.source, DROPPED, reason] += records

    def move_cursor(self, connection: sqlite3.Connection, lane_id: int, cursor: int) -> None:
        """Moves a cursor forward, never back, and takes what it passes off the lane's waiting bytes."""
        lane = self.lanes[lane_id]
        if cursor <= lane.cursor:
            return
        for route in law.routes_of(connection, lane_id):
            (passed,) = connection.execute(
                "SELECT coalesce(sum(bytes), 0) FROM batch INDEXED BY batch_by_route "
                "WHERE route = ? AND id > ? AND id <= ?",
                (route, lane.cursor, cursor),
            ).fetchone()
            self.added_bytes[lane_id] -= passed
        self.lanes[lane_id] = replace(lane, cursor=cursor)

    # Bounds

    def shed(self, connection: sqlite3.Connection) -> None:
        """Passes the oldest rows of every lane over its bound, where the lane would rather drop than block."""
        lanes_of = {route: lanes for lanes, route in (*self._store.routes.items(), *self.new_routes.items())}
        for lane_id, bound in self._store.bounds.max_bytes.items():
            excess = self._store.waiting_bytes[lane_id] + self.added_bytes[lane_id] - bound
            if excess <= 0:
                continue

            def too_many(row: Passing, lane_id: int = lane_id) -> bool:
                nonlocal excess
                going = excess > 0 and self._store.bounds.drops_oldest(
                    lane_id, lanes_of[row.route], row.signal, row.source
                )
                excess -= row.bytes
                return going

            self.let_go(connection, lane_id, "spool_full", too_many)

    def let_go(
        self, connection: sqlite3.Connection, lane_id: int, reason: str, going: Callable[[Passing], bool]
    ) -> None:
        """Passes rows of a lane, oldest first, while ``going`` says so; counts them as dropped."""
        cursor = self.lanes[lane_id].cursor
        for row in rows_after(connection, lane_id, cursor):
            if not going(row):
                break
            self.counts[lane_id, row.source, DROPPED, reason] += row.records
            cursor = row.id
        self.move_cursor(connection, lane_id, cursor)

    # The end

    def write_small(self, connection: sqlite3.Connection, last_time_ns: int) -> None:
        """Writes cursors, counts, the number of this commit and the time of the last record."""
        moved = [lane for key, lane in self.lanes.items() if lane != self._store.lanes.get(key)]
        small_tables.write(connection, "lane", self.commit_id, map(astuple, moved))
        totals = self._store.ledger
        changed = [(*key, totals[key] + records) for key, records in self.counts.items()]
        small_tables.write(connection, "ledger", self.commit_id, changed)
        self.last_time_ns = max(last_time_ns, self.last_time_ns)
        small_tables.write_meta(connection, self.commit_id, self.last_time_ns)

    def keep(self) -> None:
        """Tells the store what is now durable."""
        store = self._store
        store.lanes = self.lanes
        store.recent.keep(self.written, min((lane.cursor for lane in self.lanes.values()), default=0))
        store.routes |= self.new_routes
        store.ledger.update(self.counts)
        store.waiting_bytes.update(self.added_bytes)
        store.next_id = self.next_id
        store.last_time_ns = self.last_time_ns
        store.commit_id = self.commit_id
        for key, value in self.positions.items():
            if value is None:
                store.positions.pop(key, None)
            else:
                store.positions[key] = value
        for processor, state in self.states.items():
            if state is None:
                store.states.pop(processor, None)
            else:
                store.states[processor] = state


class Passing(NamedTuple):
    """A row a lane might let go."""

    id: int
    route: int
    signal: str
    source: str
    records: int
    bytes: int
    first_time_ns: int


def rows_after(connection: sqlite3.Connection, lane_id: int, cursor: int) -> Iterator[Passing]:
    """A lane's rows after ``cursor``, by id."""
    routes = ",".join(map(str, law.routes_of(connection, lane_id)))
    query = f"SELECT {', '.join(Passing._fields)} FROM batch WHERE id > ? AND route IN ({routes}) ORDER BY id"  # noqa: S608 - integers of our own
    yield from map(Passing._make, connection.execute(query, (cursor,)))


def write_batch(connection: sqlite3.Connection, row_id: int, route: int, batch: Sendable, payload: bytes) -> None:
    """Inserts a batch."""
    origin = batch.origin
    write_row(
        connection,
        Row(row_id, route, batch.signal, batch.source, batch.count, len(payload), batch.first_time_ns, origin),
    )
    connection.execute("INSERT INTO payload(id, body) VALUES(?, ?)", (row_id, payload))


def write_row(connection: sqlite3.Connection, row: Row) -> None:
    """Inserts a header row alone."""
    origin = (None, None, None) if row.origin is None else astuple(row.origin)
    fields = (row.id, row.route, row.signal, row.source, row.records, row.bytes, row.first_time_ns, *origin)
    connection.execute("INSERT INTO batch VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*fields, seal(*fields)))


def _write_quarantined(connection: sqlite3.Connection, refused: Iterable[Quarantined], bound_bytes: int) -> None:
    for item in refused:
        payload = spooled.encode(item.batch, 0)
        connection.execute(
            "INSERT INTO quarantine(lane, source, reason, detail, records, bytes, time_ns, body) "
            "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            (
                item.lane,
                item.batch.source,
                item.reason,
                item.detail,
                item.batch.count,
                len(payload),
                item.batch.first_time_ns,
                payload,
            ),
        )
    (total,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM quarantine").fetchone()
    for row_id, size in connection.execute("SELECT id, bytes FROM quarantine ORDER BY id").fetchall():
        if total <= bound_bytes:
            break
        connection.execute("DELETE FROM quarantine WHERE id = ?", (row_id,))
        total -= size
