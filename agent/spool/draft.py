"""This file is one commit in the making: what it writes, and what memory will say once it is durable.

Nothing of the store changes before ``keep``: a transaction that fails leaves no trace.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.batch import Batch
from agent.contract import Held
from agent.spool import ledger as law
from agent.spool.records import (
    DELIVERED,
    DROPPED,
    NO_LANE,
    READ,
    REJECTED,
    UNROUTED,
    Group,
    Lane,
    LedgerKey,
    Passed,
    Quarantined,
    Taken,
)
from agent.spool.schema import seal
from agent.wire import spooled

if TYPE_CHECKING:
    from agent.spool.store import Store


@dataclass(frozen=True, slots=True)
class _Prepared:
    batch: Batch
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
        self.states: dict[str, Held | None] = {}
        self.next_id = store.next_id
        self.last_time_ns = store.last_time_ns

    # Intake

    def prepare(self, taken: Iterable[Taken]) -> list[_Prepared]:
        """The payloads of everything that is wanted by some lane, compressed before the transaction begins."""
        return [
            _Prepared(batch, lanes, route, spooled.encode(batch, route))
            for step in taken
            for batch in step.batches
            if batch.count and (lanes := self._store.router((batch.source, batch.signal)))
            for route in (self._route(lanes),)
        ]

    def _route(self, lanes: tuple[int, ...]) -> int:
        route = self._store.routes.get(lanes) or self.new_routes.get(lanes)
        if route is None:
            route = 1 + max((*self._store.routes.values(), *self.new_routes.values(), 0))
            self.new_routes[lanes] = route
        return route

    def write_batches(self, connection: sqlite3.Connection, prepared: Sequence[_Prepared]) -> None:
        """Inserts batches and payloads under ids that were never used before."""
        connection.executemany(
            "INSERT INTO route(id, lanes) VALUES(?, ?)",
            [(route, ",".join(map(str, lanes))) for lanes, route in self.new_routes.items()],
        )
        for item in prepared:
            write_batch(connection, self.next_id, item.route, item.batch, item.payload)
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
            self.states.update(step.states)
        write_positions(connection, self.positions)
        self._write_states(connection)

    def _write_states(self, connection: sqlite3.Connection) -> None:
        for processor, held in self.states.items():
            if held is None:
                connection.execute("DELETE FROM state WHERE processor = ?", (processor,))
                continue
            packed = msgspec.json.encode(
                [
                    (source, signal, self._store.router((source, signal)), records)
                    for (source, signal), records in held.records.items()
                ]
            ).decode()
            connection.execute(
                "INSERT OR REPLACE INTO state(processor, blob, held, seal) VALUES(?, ?, ?, ?)",
                (processor, held.blob, packed, seal(processor, held.blob, packed)),
            )

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
        for lane_id, bound in self._store.max_bytes.items():
            excess = self._store.waiting_bytes[lane_id] + self.added_bytes[lane_id] - bound
            if excess <= 0:
                continue

            def too_many(row: Passing, lane_id: int = lane_id) -> bool:
                nonlocal excess
                going = excess > 0 and self._store.drops_oldest(lane_id, lanes_of[row.route], row.signal)
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
        """Writes cursors, counts and the time of the last record."""
        write_lanes(connection, [lane for key, lane in self.lanes.items() if lane != self._store.lanes[key]])
        totals = self._store.ledger.copy()
        totals.update(self.counts)
        law.store(connection, totals, self.counts)
        if last_time_ns > self.last_time_ns:
            connection.execute("INSERT OR REPLACE INTO meta(key, value) VALUES('last_time_ns', ?)", (last_time_ns,))
            self.last_time_ns = last_time_ns

    def keep(self) -> None:
        """Tells the store what is now durable."""
        store = self._store
        store.lanes = self.lanes
        store.routes |= self.new_routes
        store.ledger.update(self.counts)
        store.waiting_bytes.update(self.added_bytes)
        store.next_id = self.next_id
        store.last_time_ns = self.last_time_ns
        for key, value in self.positions.items():
            if value is None:
                store.positions.pop(key, None)
            else:
                store.positions[key] = value
        for processor, held in self.states.items():
            if held is None:
                store.states.pop(processor, None)
            else:
                store.states[processor] = held.blob


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


def write_batch(connection: sqlite3.Connection, row_id: int, route: int, batch: Batch, payload: bytes | None) -> None:
    """Inserts one batch; without a payload it is one whose bytes must be read again from their source."""
    origin = batch.origin
    size = 0 if payload is None else len(payload)
    fields = (
        row_id,
        route,
        batch.signal,
        batch.source,
        batch.count,
        size,
        batch.first_time_ns,
        None if origin is None else origin.key,
        None if origin is None else origin.start,
        None if origin is None else origin.end,
        0 if payload is None else spooled.checksum(payload),
    )
    connection.execute("INSERT INTO batch VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*fields, seal(*fields)))
    if payload is not None:
        connection.execute("INSERT INTO payload(id, body) VALUES(?, ?)", (row_id, payload))


def write_lanes(connection: sqlite3.Connection, lanes: Iterable[Lane]) -> None:
    """Writes lanes as they are given."""
    connection.executemany(
        "INSERT OR REPLACE INTO lane(id, name, cursor, orphaned_ns, seal) VALUES(?, ?, ?, ?, ?)",
        [
            (lane.id, lane.name, lane.cursor, lane.orphaned_ns, seal(lane.id, lane.name, lane.cursor, lane.orphaned_ns))
            for lane in lanes
        ],
    )


def write_positions(connection: sqlite3.Connection, positions: Mapping[tuple[str, str], str | None]) -> None:
    """Writes positions; None forgets one."""
    connection.executemany(
        "INSERT OR REPLACE INTO position(source, key, value, seal) VALUES(?, ?, ?, ?)",
        [
            (source, key, value, seal(source, key, value))
            for (source, key), value in positions.items()
            if value is not None
        ],
    )
    connection.executemany(
        "DELETE FROM position WHERE source = ? AND key = ?", [key for key, value in positions.items() if value is None]
    )


def _write_quarantined(connection: sqlite3.Connection, refused: Iterable[Quarantined], bound_bytes: int) -> None:
    for item in refused:
        payload = spooled.encode(item.batch, 0)
        connection.execute(
            "INSERT INTO quarantine(lane, source, reason, detail, records, bytes, time_ns, crc, body) "
            "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                item.lane,
                item.batch.source,
                item.reason,
                item.detail,
                item.batch.count,
                len(payload),
                item.batch.first_time_ns,
                spooled.checksum(payload),
                payload,
            ),
        )
    (total,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM quarantine").fetchone()
    for row_id, size in connection.execute("SELECT id, bytes FROM quarantine ORDER BY id").fetchall():
        if total <= bound_bytes:
            break
        connection.execute("DELETE FROM quarantine WHERE id = ?", (row_id,))
        total -= size
