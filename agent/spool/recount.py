"""This file counts again what the ledger claims, from the rows themselves and not from what the agent remembers.

    ledger rows (each with its seal)    read, delivered, rejected, dropped   by lane and source
    batch rows beyond a lane's cursor   waiting                              by lane and source
    processor states                    waiting{held}                        by lane and source

The agent counts what waits from an index; here it is the table, so that the two check each other.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from msgspec import Struct

from agent.spool import ledger as law
from agent.spool.inspection import Small, one_moment, read_small
from agent.spool.ledger import Balance
from agent.spool.records import DELIVERED, DROPPED, READ, REJECTED, Lane, Waiting
from agent.spool.schema import COLUMNS, seal

LAST_ID: Final = (1 << 63) - 1
PAGE_ROWS: Final = 4096


class Line(Struct, frozen=True):
    """The law's two sides for one source of one lane."""

    source: str
    read: int
    delivered: int
    rejected: int
    dropped: int
    waiting: int

    @property
    def missing(self) -> int:
        """Records unaccounted for; negative where more became of them than was ever read."""
        return self.read - self.delivered - self.rejected - self.dropped - self.waiting


class Account(Struct, frozen=True):
    """One lane: its balance, the same by source, and what waits by the index that the agent counts with."""

    balance: Balance
    sources: tuple[Line, ...]
    waiting_by_index: int

    @property
    def holds(self) -> bool:
        """Whether the law holds for the lane and for each source, however it is counted."""
        return not self.balance.missing and self.waiting_by_index == self.balance.waiting and not self.broken_sources

    @property
    def broken_sources(self) -> tuple[Line, ...]:
        """The sources for which the law does not hold; their differences may cancel out in the lane."""
        return tuple(line for line in self.sources if line.missing)


class Recount(Struct, frozen=True):
    """What one moment of the spool says; ``strays`` counts the batches that belong to no lane there is."""

    accounts: tuple[Account, ...]
    unrouted: dict[str, int]
    strays: int

    @property
    def holds(self) -> bool:
        """Whether the law holds for every lane."""
        return not self.strays and all(account.holds for account in self.accounts)


def standing(connection: sqlite3.Connection) -> tuple[list[Balance], dict[str, int]]:
    """The balances as the agent itself counts them, and what is unrouted, in one read transaction."""
    with one_moment(connection):
        small = read_small(connection)
        waits = [(lane, law.waiting(connection, lane)) for lane in small.lanes.values()]
    return [law.balance(lane, small.ledger, stands) for lane, stands in waits], law.unrouted(small.ledger)


def recount(connection: sqlite3.Connection) -> Recount:
    """Counts everything again in one read transaction. Raises SpoolDamaged where a row cannot be trusted."""
    with one_moment(connection):
        small = read_small(connection)
        indexed = {lane.id: law.waiting(connection, lane) for lane in small.lanes.values()}
        ranges = list(_by_range(connection, small))
    accounts = tuple(
        _account(lane, small, _waiting(lane, small, ranges), indexed[lane.id].records + indexed[lane.id].held)
        for lane in small.lanes.values()
    )
    strays = sum(batches for _, route, _, _, batches in ranges if not _known(small, route))
    return Recount(accounts, law.unrouted(small.ledger), strays)


def untrusted_headers(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with each header row that does not match its seal; a page of rows a read transaction."""
    after = 0
    query = f"SELECT {COLUMNS} FROM batch NOT INDEXED WHERE id > ? ORDER BY id LIMIT {PAGE_ROWS}"  # noqa: S608 - constants
    while page := connection.execute(query, (after,)).fetchall():
        for *fields, sealed in page:
            if seal(*fields) != sealed:
                yield f"batch {fields[0]} does not match its seal"
        after = page[-1][0]


def _by_range(connection: sqlite3.Connection, small: Small) -> Iterator[tuple[int, int, str, int, int]]:
    """(from beyond which id, route, source, records, batches): the table is read once, cut at the cursors."""
    cursors = sorted({lane.cursor for lane in small.lanes.values()} or {0})
    for low, high in pairwise([*cursors, LAST_ID]):
        for found in connection.execute(
            "SELECT route, source, sum(records), count(*) FROM batch NOT INDEXED WHERE id > ? AND id <= ? "
            "GROUP BY route, source",
            (low, high),
        ):
            yield (low, *found)


def _waiting(lane: Lane, small: Small, ranges: list[tuple[int, int, str, int, int]]) -> Counter[str]:
    waits: Counter[str] = Counter()
    for low, route, source, records, _ in ranges:
        if low >= lane.cursor and lane.id in small.routes.get(route, ()):
            waits[source] += records
    for source, _, lanes, records in small.held:
        if lane.id in lanes:
            waits[source] += records
    return waits


def _account(lane: Lane, small: Small, waits: Counter[str], indexed: int) -> Account:
    sums: dict[str, Counter[str]] = {outcome: Counter() for outcome in (READ, DELIVERED, REJECTED, DROPPED)}
    for (lane_id, source, outcome, _), records in small.ledger.items():
        if lane_id == lane.id and outcome in sums:
            sums[outcome][source] += records
    sources = sorted({*waits, *(source for each in sums.values() for source in each)})
    lines = tuple(
        Line(s, sums[READ][s], sums[DELIVERED][s], sums[REJECTED][s], sums[DROPPED][s], waits[s]) for s in sources
    )
    stands = Waiting(records=sum(waits.values()))
    return Account(law.balance(lane, small.ledger, stands), lines, indexed)


def _known(small: Small, route: int) -> bool:
    return any(lane in small.lanes for lane in small.routes.get(route, ()))
