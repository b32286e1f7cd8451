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
from agent.spool.draft import Draft
from agent.spool.files import bound_what_is_set_aside
from agent.spool.positions_copy import encode, small_of, write_copy
from agent.spool.records import Group
from agent.spool.reserve import Reserve
from agent.spool.rows import Passing
from agent.spool.schema import SpoolOptions
from agent.spool.shed import let_go
from agent.spool.store import Store

AGED, RETIRED = "aged", "retired"
SWEEPS = 64
WORN_OUT_BYTES = 8 << 20
PINNED_LOG_BYTES = 32 << 20
"""A log that has grown past this is held up by another program's read transaction; intake waits for its end."""


def copy_path(host: Host) -> Path:
    """Where the second copy of the small tables lies."""
    return host.state_dir / "positions.copy"


def keep_in_order(store: Store, host: Host, reserve: Reserve, options: SpoolOptions, wall_ns: int) -> None:
    """One round of housekeeping. Raises SpoolFull, SpoolDamaged or OSError."""
    store.recount()
    let_age(store, wall_ns - int(options.max_age_seconds * 1e9))
    retire_orphans(store, wall_ns - int(options.retire_after_seconds * 1e9))
    if store.over_bytes:
        store.commit(Group())
    store.sweep(SWEEPS)
    with store.reading() as connection:
        sweep.give_back(connection)
    if store.log_bytes > PINNED_LOG_BYTES:
        store.fold_log(cut=True)
    bound_what_is_set_aside(host.spool_dir, options, store.used_bytes)
    reserve.restore()
    write_second_copy(store, host)


def write_second_copy(store: Store, host: Host) -> None:
    """Writes the small tables to the file beside the spool. Raises OSError."""
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
            let_go(draft, connection, lane, reason, going)
        draft.write_small(connection, store.last_time_ns)
    draft.keep()


def make_room(store: Store, group: Group, reserve: Reserve) -> bool:
    """Commits what ``group`` acknowledges and gives space back to the file system. True where the reserve is held
    afterwards: what is free beyond it is for intake.

    The reserve is given up for what frees space and for nothing else: spent on intake while a backend is dead, it
    would be gone when there is something to acknowledge.
    """
    if group.acks or store.has_passed():
        reserve.release()
    with suppress(SpoolFull):
        store.commit(Group([], group.acks, group.quarantined, group.last_time_ns))
        group.acks, group.quarantined = {}, []
        free_what_can_be_freed(store)
    with suppress(OSError):
        reserve.restore(spare_bytes=0)
    return reserve.held()


def free_what_can_be_freed(store: Store) -> None:
    """Deletes what is passed and returns its pages to the file system. Raises SpoolFull."""
    store.sweep(SWEEPS)
    store.fold_log()
    for _ in range(SWEEPS):
        with store.reading() as connection:
            if not sweep.give_back(connection, scarce=True):
                return
        store.fold_log()


def worn_out(store: Store) -> bool:
    """Whether every lane has passed the rows that cannot be deleted, and little else is left to take over."""
    waiting = [lane for lane in store.lanes.values() if store.waiting_bytes[lane.id]]
    if not store.skips or sum(store.waiting_bytes.values()) > WORN_OUT_BYTES:
        return False
    return all(lane.cursor >= max(store.skips) for lane in waiting)


def close(store: Store, host: Host) -> None:
    """Writes the second copy and closes the file."""
    with suppress(OSError):  # the disk may be full: the copy of ten seconds ago stands
        write_second_copy(store, host)
    store.close()
