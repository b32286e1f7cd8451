"""This file is what an operator may do to the spool: send the refused again, take in an export, let a lane go.

Each step is one transaction on the spool's thread, and each is in the ledger: what comes back in is ``read`` from
source ``replay``. A record keeps the time at which it happened, and is read anew: else it would be let go as too old
the moment it is back.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Batch, Logs, Signal
from agent.errors import AgentError
from agent.spool import keeping
from agent.spool.draft import Draft
from agent.spool.records import READ, Lane
from agent.wire import spooled

if TYPE_CHECKING:
    from agent.clock import RecordTimes
    from agent.contract import Flow
    from agent.spool.store import Router, Store

REPLAY = "replay"
"""The source of what comes back out of quarantine or out of a file."""

STEP_BYTES = 1 << 20
"""Refused records taken back in one transaction, compressed: other commits wait no longer than for their own."""


class Step(Struct, frozen=True):
    """What one step took back: ``last_id`` is where the next begins, None when there is no next."""

    records: int = 0
    damaged: int = 0
    last_id: int | None = None


def retire_named(store: Store, name: str) -> int:
    """Passes everything of a lane that is no longer configured; returns how many records were let go."""
    lane = _named(store, name)
    if lane.orphaned_ns is None:
        raise AgentError(
            f"lane {name!r} was configured when the agent last started; only a lane that left the configuration can be "
            "retired: remove its destination, restart the agent, and ask again"
        )
    records = store.waiting(lane.id).records
    keeping.retire(store, [lane.id])
    return records


def from_quarantine(store: Store, times: RecordTimes, lane: str | None = None, after: int = 0) -> Step:
    """Puts refused records back in front of the lane that was refused them, the oldest beyond id ``after`` first.

    Records refused to a lane that has left the configuration stay where they are, and so do damaged ones.
    """
    wanted = [_usable(store, lane).id] if lane else [each.id for each in _configured(store)]
    damaged = 0
    with store.reading() as connection:
        page = _page(connection, wanted, after)
    found: list[tuple[int, tuple[int, ...], Batch]] = []
    for row, lane_id, body in page:
        try:
            found.append((row, (lane_id,), spooled.decode(body)))
        except (ValueError, msgspec.MsgspecError):
            damaged += 1
    _insert(store, times, [(lanes, batch) for _, lanes, batch in found], [row for row, _, _ in found])
    return Step(sum(batch.count for *_, batch in found), damaged, page[-1][0] if page else None)


def take_in(store: Store, times: RecordTimes, batches: Sequence[Batch], lane: str | None = None) -> int:
    """Takes batches in for ``lane``, or for every lane that wants them, all or none; returns how many records.

    Raises AgentError where no lane takes one of them, or has no room for it.
    """
    _insert(store, times, [(_takers(store, batch.signal, lane), batch) for batch in batches], [])
    return sum(batch.count for batch in batches)


def by_name(store: Store) -> Router:
    """A router for a spool that no configuration is at hand for: every lane of the signal that was not orphaned."""

    def route(flow: Flow) -> tuple[int, ...]:
        return tuple(sorted(each.id for each in _configured(store) if _signal_of(each) == flow[1]))

    return route


# Which lanes


def _configured(store: Store) -> list[Lane]:
    return [each for each in store.lanes.values() if each.orphaned_ns is None]


def _named(store: Store, name: str) -> Lane:
    lane = next((each for each in store.lanes.values() if each.name == name), None)
    if lane is None:
        known = ", ".join(sorted(each.name for each in store.lanes.values())) or "none"
        raise AgentError(f"there is no lane {name!r}; the spool knows {known}")
    return lane


def _usable(store: Store, name: str) -> Lane:
    lane = _named(store, name)
    if lane.orphaned_ns is not None:
        raise AgentError(f"lane {name!r} has left the configuration, so that nothing would send what it is given")
    return lane


def _signal_of(lane: Lane) -> str:
    return lane.name.rpartition("/")[2]


def _takers(store: Store, signal: Signal, name: str | None) -> tuple[int, ...]:
    if name is None:
        lanes = store.router((REPLAY, signal))
        if not lanes:
            raise AgentError(
                f"no destination takes {signal} from every source; name the lane with --lane "
                f"({', '.join(each.name for each in _configured(store)) or 'there is none'})"
            )
        return lanes
    lane = _usable(store, name)
    if _signal_of(lane) != signal:
        raise AgentError(f"lane {name!r} takes {_signal_of(lane)}, and these are {signal}")
    return (lane.id,)


# Taking in


def _insert(
    store: Store, times: RecordTimes, wanted: Sequence[tuple[tuple[int, ...], Batch]], leaving: Sequence[int]
) -> None:
    """Writes batches for their lanes and takes ``leaving`` out of quarantine, in one transaction."""
    if not wanted and not leaving:
        return
    _must_have_room(store, {lane for lanes, _ in wanted for lane in lanes})
    draft = Draft(store)
    prepared = [draft.prepared(_again(batch, times), lanes) for lanes, batch in wanted if batch.count]
    with store.transaction() as connection:
        draft.write_batches(connection, prepared)
        for item in prepared:
            for lane in item.lanes:
                draft.counts[lane, REPLAY, READ, ""] += item.batch.count
        connection.executemany("DELETE FROM quarantine WHERE id = ?", [(row,) for row in leaving])
        draft.write_small(connection, max(times.last_ns, store.last_time_ns))
    draft.keep()


def _again(batch: Batch, times: RecordTimes) -> Batch:
    """The batch as it is read anew: from ``replay``, with no place to read it from once more."""
    if not isinstance(batch, Logs):
        return replace(batch, source=REPLAY, origin=None, positions=())
    happened = batch.times_ns
    if happened is None:
        happened = array("q", range(batch.first_time_ns, batch.first_time_ns + batch.count))
    return replace(
        batch,
        source=REPLAY,
        origin=None,
        positions=(),
        times_ns=happened,
        first_time_ns=times.allocate(batch.count),
    )


def _must_have_room(store: Store, lanes: set[int]) -> None:
    """Raises AgentError where a lane or the whole spool is full: replaying never lets go of anything newer."""
    for lane in lanes:
        waits, most = store.waiting_bytes[lane], store.bounds.max_bytes.get(lane)
        if most is not None and waits >= most:
            raise AgentError(
                f"lane {store.lanes[lane].name!r} is full: {waits:,} of {most:,} bytes wait; "
                "replay the rest when it has sent some"
            )
    if store.used_bytes >= store.options.max_bytes:
        raise AgentError(
            f"the spool is full: {store.used_bytes:,} of {store.options.max_bytes:,} bytes; "
            "replay the rest when it has sent some"
        )


def _page(connection: sqlite3.Connection, lanes: Sequence[int], after: int) -> list[tuple[int, int, bytes]]:
    """(id, lane, body) of refused records beyond ``after``: at least one if there is any, then up to STEP_BYTES."""
    named = ",".join(map(str, lanes))
    query = f"SELECT id, lane, body FROM quarantine WHERE id > ? AND lane IN ({named}) ORDER BY id"  # noqa: S608 - integers of our own
    page: list[tuple[int, int, bytes]] = []
    size = 0
    with closing(connection.execute(query, (after,))) as rows:
        for row, lane, body in rows:
            size += len(body)
            if page and size > STEP_BYTES:
                break
            page.append((row, lane, body))
    return page
