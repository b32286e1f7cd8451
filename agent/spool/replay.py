"""This file is what an operator may do to the spool: send the refused again, take in an export, let a lane go.

Each is one transaction on the spool's thread, and each is in the ledger.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.spool import keeping
from agent.spool.draft import Draft
from agent.spool.records import READ
from agent.wire import spooled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.batch import Batch
    from agent.spool.store import Store

REPLAY = "replay"
"""The source of what comes back out of quarantine or out of a file."""


def retire_named(store: Store, name: str) -> int:
    """Passes everything of a lane that is no longer configured; returns how many records were let go."""
    lane = next((lane for lane in store.lanes.values() if lane.name == name), None)
    if lane is None:
        known = ", ".join(sorted(lane.name for lane in store.lanes.values())) or "none"
        raise AgentError(f"there is no lane {name!r}; the spool knows {known}")
    if lane.orphaned_ns is None:
        raise AgentError(f"lane {name!r} is configured; only a lane that left the configuration can be retired")
    records = store.waiting(lane.id).records
    keeping.retire(store, [lane.id])
    return records


def from_quarantine(store: Store, lane: str | None = None) -> int:
    """Puts refused records back in front of the lanes that were refused; returns how many."""
    wanted = [each.id for each in store.lanes.values() if lane is None or each.name == lane]
    with store.reading() as connection:
        rows = list(_quarantined(connection, wanted))
    _insert(store, [(lane_id, batch) for _, lane_id, batch in rows], [row for row, _, _ in rows])
    return sum(batch.count for _, _, batch in rows)


def take_in(store: Store, batches: Iterable[Batch], lane: str | None = None) -> int:
    """Takes batches in for ``lane``, or for every lane that wants them; returns how many records."""
    taken = 0
    for batch in batches:
        replayed = replace(batch, source=REPLAY)
        lanes = store.router((REPLAY, batch.signal))
        named = [each.id for each in store.lanes.values() if each.name == lane]
        if lane is not None and not named:
            raise AgentError(f"there is no lane {lane!r}")
        _insert(store, [(each, replayed) for each in (named or lanes)], [])
        taken += batch.count
    return taken


def _insert(store: Store, wanted: Sequence[tuple[int, Batch]], leaving: Sequence[int]) -> None:
    draft = Draft(store)
    with store.transaction() as connection:
        draft.write_batches(
            connection, [draft.prepared(replace(batch, source=REPLAY), (lane,)) for lane, batch in wanted]
        )
        for lane, batch in wanted:
            draft.counts[lane, REPLAY, READ, ""] += batch.count
        connection.executemany("DELETE FROM quarantine WHERE id = ?", [(row,) for row in leaving])
        draft.write_small(connection, store.last_time_ns)
    draft.keep()


def _quarantined(connection: sqlite3.Connection, lanes: Sequence[int]) -> Iterator[tuple[int, int, Batch]]:
    for row, lane, body in connection.execute("SELECT id, lane, body FROM quarantine ORDER BY id"):
        if lane in lanes:
            try:
                yield row, lane, spooled.decode(body)
            except ValueError:  # damaged in quarantine: it stays there to be looked at
                continue
