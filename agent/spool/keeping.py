"""This file keeps the spool in order between commits: age, retirement, free space, reserve, second copy.

Everything here runs on the spool's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agent.errors import SpoolFull
from agent.host import Host
from agent.spool import sweep
from agent.spool.draft import Draft, Passing
from agent.spool.positions_copy import encode, small_of, write_copy
from agent.spool.records import Group
from agent.spool.reserve import Reserve
from agent.spool.schema import SpoolOptions
from agent.spool.store import Store

AGED, RETIRED = "aged", "retired"
SWEEPS = 64


def copy_path(host: Host) -> Path:
    """Where the second copy of the small tables lies."""
    return host.state_dir / "positions.copy"


def keep_in_order(store: Store, host: Host, reserve: Reserve, options: SpoolOptions, wall_ns: int) -> None:
    """One round of housekeeping. Raises SpoolFull, SpoolDamaged or OSError."""
    let_age(store, wall_ns - int(options.max_age_seconds * 1e9))
    retire_orphans(store, wall_ns - int(options.retire_after_seconds * 1e9))
    store.sweep(SWEEPS)
    with store.reading() as connection:
        sweep.give_back(connection)
    reserve.restore()
    write_copy(copy_path(host), encode(small_of(store)))


def let_age(store: Store, oldest_ns: int) -> None:
    """Passes the records read before ``oldest_ns``, in every lane, and counts them as dropped."""
    due = [lane for lane in store.lanes if store.waiting_bytes[lane] and store.waiting(lane).oldest_time_ns < oldest_ns]
    _let_go(store, due, AGED, lambda row: row.first_time_ns < oldest_ns)


def retire_orphans(store: Store, oldest_ns: int) -> None:
    """Passes everything of the lanes that left the configuration before ``oldest_ns``."""
    due = [lane.id for lane in store.lanes.values() if lane.orphaned_ns is not None and lane.orphaned_ns < oldest_ns]
    retire(store, [lane for lane in due if store.waiting(lane).batches])


def retire(store: Store, lanes: list[int]) -> None:
    """Passes everything of these lanes and counts it as dropped."""
    _let_go(store, lanes, RETIRED, lambda row: True)


def _let_go(store: Store, lanes: list[int], reason: str, going: Callable[[Passing], bool]) -> None:
    if not lanes:
        return
    draft = Draft(store)
    with store.transaction() as connection:
        for lane in lanes:
            draft.let_go(connection, lane, reason, going)
        draft.write_small(connection, store.last_time_ns)
    draft.keep()


def make_room(store: Store, acks: Group, reserve: Reserve) -> bool:
    """Gives the reserve up, commits the acknowledgements alone, sweeps and folds the log; whether that went through."""
    reserve.release()
    try:
        store.commit(acks)
        store.sweep(SWEEPS)
        with store.reading() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except SpoolFull:
        return False
    return True


def worn_out(store: Store) -> bool:
    """Whether nothing is left in the file but rows that cannot be deleted."""
    return bool(store.skips) and not any(store.waiting_bytes.values())


def close(store: Store, host: Host) -> None:
    """Writes the second copy and closes the file."""
    with suppress(OSError):  # the disk may be full: the copy of ten seconds ago stands
        write_copy(copy_path(host), encode(small_of(store)))
    store.close()
