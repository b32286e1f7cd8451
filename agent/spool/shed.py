"""This file lets records go that no lane has delivered, and counts them: too many, too old, or nobody's any more.

A lane lets go of its oldest rows by moving its cursor. Where a row stands in front whose source would rather wait
(``block``), what is behind it and may go is taken out one by one: its route loses the lane, and a row without a lane
is deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.spool import fetch
from agent.spool.rows import Passing, delete_rows, rows_after, write_route

if TYPE_CHECKING:
    from agent.spool.draft import Draft

FULL = "spool_full"


def shed(draft: Draft, connection: sqlite3.Connection) -> None:
    """Brings every lane that would rather drop than block under its bound."""
    for lane_id, excess in _excess(draft).items():
        if excess > 0:
            _shed_lane(draft, connection, lane_id, excess)


def let_go(
    draft: Draft, connection: sqlite3.Connection, lane_id: int, reason: str, going: Callable[[Passing], bool]
) -> None:
    """Passes rows of a lane, oldest first, while ``going`` says so; counts them as dropped."""
    lane = draft.lanes[lane_id]
    cursor = lane.cursor
    for row in rows_after(connection, lane_id, cursor):
        if not going(row):
            break
        draft.count_dropped(lane_id, row, reason)
        cursor = row.id
    draft.lanes[lane_id] = replace(lane, cursor=cursor)


def _excess(draft: Draft) -> dict[int, int]:
    """Bytes over its bound, by lane; what the file as a whole is over counts against the lane that holds most."""
    store = draft.store
    held = {lane: store.waiting_bytes[lane] + draft.added_bytes[lane] for lane in store.bounds.max_bytes}
    excess = {lane: held[lane] - bound for lane, bound in store.bounds.max_bytes.items()}
    if store.over_bytes and held:
        largest = max(held, key=held.__getitem__)
        excess[largest] = max(excess[largest], store.over_bytes)
    return excess


def _shed_lane(draft: Draft, connection: sqlite3.Connection, lane_id: int, excess: int) -> None:
    bounds, lanes_of = draft.store.bounds, draft.lanes_of()
    lane = draft.lanes[lane_id]
    start = max(lane.cursor, draft.store.kept_until.get(lane_id, 0))
    going: list[Passing] = []
    first_kept = start if start > lane.cursor else None
    last = start
    for row in rows_after(connection, lane_id, start):
        if excess <= 0:
            break
        last = row.id
        if bounds.drops_oldest(lane_id, lanes_of[row.route], row.signal, row.source):
            going.append(row)
            excess -= row.bytes
        elif first_kept is None:
            first_kept = row.id
    for row in going:
        draft.count_dropped(lane_id, row, FULL)
        if first_kept is not None and row.id > first_kept:
            _withdraw(draft, connection, lane_id, row)
        else:
            draft.lanes[lane_id] = replace(lane, cursor=row.id)
    if first_kept is not None:
        draft.kept_until[lane_id] = last


def _withdraw(draft: Draft, connection: sqlite3.Connection, lane_id: int, passing: Passing) -> None:
    rest = tuple(lane for lane in draft.lanes_of()[passing.route] if lane != lane_id)
    if not rest:
        delete_rows(connection, [passing.id])
        return
    row = replace(fetch.header(connection, passing.id), route=draft.route(rest))
    draft.write_routes(connection)
    write_route(connection, row)
