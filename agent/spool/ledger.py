"""This file is the law: for every lane, read = delivered + rejected + dropped + waiting.

The counts stand in the ledger table, each row sealed; waiting is counted from the batch rows and never by
subtraction, or else the check could not fail.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from agent.spool.records import DELIVERED, DROPPED, NO_LANE, READ, REJECTED, UNROUTED, Lane, Ledger, Waiting

OUTCOMES = (READ, DELIVERED, REJECTED, DROPPED, UNROUTED)


class Balance(Struct, frozen=True):
    """One side of the law for one lane."""

    lane: str
    read: int
    delivered: int
    rejected: Mapping[str, int]
    dropped: Mapping[str, int]
    waiting: int
    orphaned: bool = False

    @property
    def missing(self) -> int:
        """Records unaccounted for; 0 while the law holds."""
        return self.read - self.delivered - sum(self.rejected.values()) - sum(self.dropped.values()) - self.waiting

    def document(self) -> dict[str, object]:
        """The shape ``ledger --json`` prints."""
        return {
            "read": self.read,
            "delivered": self.delivered,
            "rejected": dict(self.rejected),
            "dropped": dict(self.dropped),
            "waiting": self.waiting,
        }


def waiting(connection: sqlite3.Connection, lane: Lane) -> Waiting:
    """What ``lane`` has yet to pass, counted from the rows and from what processors hold."""
    records = size = batches = 0
    oldest_id = None
    for route in routes_of(connection, lane.id):
        n, count, total, first = connection.execute(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(bytes), 0), min(id) FROM batch "
            "INDEXED BY batch_by_route WHERE route = ? AND id > ?",
            (route, lane.cursor),
        ).fetchone()
        batches, records, size = batches + n, records + count, size + total
        if first is not None:
            oldest_id = first if oldest_id is None else min(first, oldest_id)
    oldest = 0
    if oldest_id is not None:
        row = connection.execute("SELECT first_time_ns FROM batch WHERE id = ?", (oldest_id,)).fetchone()
        oldest = row[0] if row else 0
    return Waiting(records, size, batches, oldest, held(connection, lane.id))


def routes_of(connection: sqlite3.Connection, lane: int) -> list[int]:
    """The ids of the routes that name the lane."""
    return [
        route for route, lanes in connection.execute("SELECT id, lanes FROM route") if str(lane) in lanes.split(",")
    ]


def held(connection: sqlite3.Connection, lane: int) -> int:
    """Records that processors hold for the lane."""
    total = 0
    for (packed,) in connection.execute("SELECT held FROM state"):
        total += sum(records for _, _, lanes, records in decode_held(packed) if lane in lanes)
    return total


_HELD = msgspec.json.Decoder(tuple[tuple[str, str, tuple[int, ...], int], ...])


def decode_held(packed: str) -> tuple[tuple[str, str, tuple[int, ...], int], ...]:
    """(source, signal, lanes, records) of what one processor holds."""
    return _HELD.decode(packed)


def balance(lane: Lane, counts: Ledger, stands: Waiting) -> Balance:
    """The law's two sides for one lane."""
    rejected: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for (lane_id, _, outcome, reason), records in counts.items():
        if lane_id != lane.id:
            continue
        if outcome == REJECTED:
            rejected[reason] += records
        elif outcome == DROPPED:
            dropped[reason] += records
        else:
            sums[outcome] += records
    return Balance(
        lane.name,
        sums[READ],
        sums[DELIVERED],
        rejected,
        dropped,
        stands.records + stands.held,
        lane.orphaned_ns is not None,
    )


def unrouted(counts: Ledger) -> dict[str, int]:
    """Records no lane takes, by ``source/signal``."""
    return {
        f"{source}/{signal}": records
        for (lane, source, outcome, signal), records in counts.items()
        if lane == NO_LANE and outcome == UNROUTED
    }


def missing_by_source(connection: sqlite3.Connection, lane: Lane, counts: Ledger) -> dict[str, int]:
    """Records unaccounted for in one lane, by source; negative where more stands than was ever read."""
    missing: Counter[str] = Counter()
    for (lane_id, source, outcome, _), records in counts.items():
        if lane_id == lane.id:
            missing[source] += records if outcome == READ else -records
    for route in routes_of(connection, lane.id):
        for source, records in connection.execute(
            "SELECT source, sum(records) FROM batch WHERE route = ? AND id > ? GROUP BY source", (route, lane.cursor)
        ):
            missing[source] -= records
    for (packed,) in connection.execute("SELECT held FROM state"):
        for source, _, lanes, records in decode_held(packed):
            if lane.id in lanes:
                missing[source] -= records
    return {source: records for source, records in missing.items() if records}
