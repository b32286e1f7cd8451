"""This file is one commit in the making: what it writes, and what memory will say once it is durable.

Nothing of the store changes before ``keep``: a transaction that fails leaves no trace.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from agent.contract import Held
from agent.spool import ledger as law
from agent.spool import small_tables
from agent.spool.records import DELIVERED, DROPPED, NO_LANE, READ, REJECTED, UNROUTED, Group, LedgerKey, Passed, Taken
from agent.spool.refused import write_quarantined
from agent.spool.rows import Passing, rows_after, write_batch
from agent.wire import spooled
from agent.wire.entries import Sendable

if TYPE_CHECKING:
    from agent.batch import Batch, Signal
    from agent.spool.store import Store

K = TypeVar("K")
V = TypeVar("V")

REROUTED, SKIPPED = "rerouted", "skipped"
"""Why records are dropped: their lane no longer wants what is held; a later batch was acknowledged, and not theirs."""


class Prepared(Struct, frozen=True):
    """A batch about to be written under ``id``, and the lanes that want it."""

    id: int
    batch: Sendable
    lanes: tuple[int, ...]
    route: int
    payload: bytes


class Draft:
    """What one commit will change, beside the store it will change."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lanes = dict(store.lanes)
        self.counts: Counter[LedgerKey] = Counter()
        self.added_bytes: Counter[int] = Counter()
        self.new_routes: dict[tuple[int, ...], int] = {}
        self.positions: dict[tuple[str, str], str | None] = {}
        self.states: dict[str, tuple[bytes, str] | None] = {}
        self.kept_until: dict[int, int] = {}
        self.written: dict[int, Sendable] = {}
        self.next_id = store.next_id
        self.last_time_ns = store.last_time_ns
        self.commit_id = store.commit_id + 1

    # Routes

    def route(self, lanes: tuple[int, ...]) -> int:
        """The id of the route of these lanes, a new one where there is none."""
        route = self.store.routes.get(lanes) or self.new_routes.get(lanes)
        if route is None:
            route = 1 + max((*self.store.routes.values(), *self.new_routes.values(), 0))
            self.new_routes[lanes] = route
        return route

    def lanes_of(self) -> dict[int, tuple[int, ...]]:
        """The lanes of every route."""
        return {route: lanes for lanes, route in (*self.store.routes.items(), *self.new_routes.items())}

    def write_routes(self, connection: sqlite3.Connection) -> None:
        """Writes the routes that are new."""
        rows = [(route, ",".join(map(str, lanes))) for lanes, route in self.new_routes.items()]
        small_tables.write(connection, "route", self.commit_id, rows)

    # Intake

    def prepare(self, taken: Iterable[Taken]) -> list[Prepared]:
        """The payloads of everything that is wanted by some lane, compressed before the transaction begins."""
        return [
            self.prepared(batch, lanes)
            for step in taken
            for batch in step.batches
            if batch.count and (lanes := self.store.router((batch.source, batch.signal)))
        ]

    def prepared(self, batch: Batch, lanes: tuple[int, ...]) -> Prepared:
        """A batch and its payload for these lanes, under an id that was never used before."""
        route, row_id = self.route(lanes), self.next_id
        self.next_id += 1
        kept = spooled.to_keep(batch, self.store.entry_lanes.issuperset(lanes))
        return Prepared(row_id, kept, lanes, route, spooled.encode(kept, route, row_id))

    def write_batches(self, connection: sqlite3.Connection, prepared: Sequence[Prepared]) -> None:
        """Inserts batches and payloads."""
        self.write_routes(connection)
        for item in prepared:
            write_batch(connection, item.id, item.route, item.batch, item.payload)
            self.written[item.id] = item.batch
            for lane in item.lanes:
                self.added_bytes[lane] += len(item.payload)

    def write_taken(self, connection: sqlite3.Connection, taken: Iterable[Taken]) -> None:
        """Counts what was read and dropped; moves positions and states."""
        for step in taken:
            for (source, signal), records in step.read.items():
                lanes = self.store.router((source, signal))
                if not lanes:
                    self.counts[NO_LANE, source, UNROUTED, signal] += records
                for lane in lanes:
                    self.counts[lane, source, READ, ""] += records
            for ((source, signal), reason), records in step.dropped.items():
                for lane in self.store.router((source, signal)):
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
            (source, signal, self.store.router((source, signal)), count)
            for (source, signal), count in held.records.items()
        ]
        return held.blob, msgspec.json.encode(records).decode()

    def rebook_held(self, connection: sqlite3.Connection) -> None:
        """Counts what processors hold for the lanes that want it now, after the lanes have changed."""
        for processor, (blob, packed) in self.store.states.items():
            wanted = []
            for source, signal, before, records in law.decode_held(packed):
                after = self.store.router((source, cast("Signal", signal)))
                self.counts.update({(lane, source, READ, ""): records for lane in after if lane not in before})
                self.counts.update({(lane, source, DROPPED, REROUTED): records for lane in before if lane not in after})
                wanted.append((source, signal, after, records))
            self.states[processor] = blob, msgspec.json.encode(wanted).decode()
        holding = [(name, *state) for name, state in self.states.items() if state is not None]
        small_tables.write(connection, "state", self.commit_id, holding)

    # Acknowledgement

    def write_acks(self, connection: sqlite3.Connection, group: Group) -> None:
        """Counts what became of batches, and moves cursors behind them."""
        for lane_id, passed in group.acks.items():
            if passed and lane_id in self.lanes:
                self._pass(connection, lane_id, passed)
        if group.quarantined:
            write_quarantined(connection, group.quarantined, self.store.options.quarantine_bound)

    def _pass(self, connection: sqlite3.Connection, lane_id: int, passed: Sequence[Passed]) -> None:
        """A row that no longer stands for the lane was counted when it went; one that nothing was said of is not lost
        from the count either."""
        said = {item.id: item for item in passed}
        lane = self.lanes[lane_id]
        last = min(passed[-1].id, self.next_id - 1)
        for row in rows_after(connection, lane_id, lane.cursor, last):
            if row.id in said:
                self._count_passed(lane_id, row, said[row.id])
            else:
                self.count_dropped(lane_id, row, SKIPPED)
        if last > lane.cursor:
            self.lanes[lane_id] = replace(lane, cursor=last)

    def _count_passed(self, lane_id: int, row: Passing, item: Passed) -> None:
        left = row.records
        for outcome, reasons in ((REJECTED, item.rejected), (DROPPED, item.dropped)):
            for reason, records in reasons.items():
                self.counts[lane_id, row.source, outcome, reason] += min(records, left)
                left -= min(records, left)
        if left:
            self.counts[lane_id, row.source, DELIVERED, ""] += left
        self.added_bytes[lane_id] -= row.bytes

    def count_dropped(self, lane_id: int, row: Passing, reason: str) -> None:
        """Counts a row that the lane lets go."""
        self.counts[lane_id, row.source, DROPPED, reason] += row.records
        self.added_bytes[lane_id] -= row.bytes

    # The end

    def write_small(self, connection: sqlite3.Connection, last_time_ns: int) -> None:
        """Writes cursors, counts, the number of this commit, the time of the last record and the next id."""
        moved = [lane for key, lane in self.lanes.items() if lane != self.store.lanes.get(key)]
        small_tables.write(connection, "lane", self.commit_id, map(astuple, moved))
        totals = self.store.ledger
        changed = [(*key, totals[key] + records) for key, records in self.counts.items()]
        small_tables.write(connection, "ledger", self.commit_id, changed)
        self.last_time_ns = max(last_time_ns, self.last_time_ns)
        small_tables.write_meta(
            connection, commit_id=self.commit_id, last_time_ns=self.last_time_ns, next_id=self.next_id
        )

    def keep(self) -> None:
        """Tells the store what is now durable."""
        store = self.store
        store.lanes = self.lanes
        store.recent.keep(self.written, min((lane.cursor for lane in self.lanes.values()), default=0))
        store.routes |= self.new_routes
        store.ledger.update(self.counts)
        store.waiting_bytes.update(self.added_bytes)
        store.kept_until |= self.kept_until
        store.next_id = self.next_id
        store.last_time_ns = self.last_time_ns
        store.commit_id = self.commit_id
        if self.positions or self.states:
            store.moved_commit_id = self.commit_id
        _merge(store.positions, self.positions)
        store.sources.update(source for source, _ in self.positions)
        _merge(store.states, self.states)


def _merge(into: dict[K, V], changes: dict[K, V | None]) -> None:
    for key, value in changes.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value
