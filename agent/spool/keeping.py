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


def keep_in_order(
    store: Store, host: Host, reserve: Reserve, options: SpoolOptions, wall_ns: int, *, thorough: bool = True
) -> bool:
    """One round of housekeeping; True where the file should be replaced. Raises SpoolFull, SpoolDamaged or OSError.

    Only a ``thorough`` one checks the books, looks at what lies beside the spool, and copies what else than a position
    or a state has changed: older counts and cursors cause repeats.
    """
    try:
        if thorough:
            store.recount()
            bound_what_is_set_aside(host.spool_dir, options, store.used_bytes)
        _tidy(store, options, wall_ns)
    except SpoolFull as error:
        if is_of_the_disk(error):
            make_room(store, Group(), reserve)
        raise
    finally:
        with suppress(OSError):  # what cannot be written there is said of the second copy
            reserve.restore()
    if store.copied_commit_id < (store.commit_id if thorough else store.moved_commit_id):
        write_second_copy(store, host)
    return worn_out(store)


def _tidy(store: Store, options: SpoolOptions, wall_ns: int) -> None:
    let_age(store, wall_ns - int(options.max_age_seconds * 1e9))
    retire_orphans(store, wall_ns - int(options.retire_after_seconds * 1e9))
    if store.over_bytes:
        store.commit(Group())
    store.sweep(SWEEPS)
    with store.reading() as connection:
        sweep.give_back(connection)
    if store.log_bytes > PINNED_LOG_BYTES:
        store.fold_log(cut=True)


def write_second_copy(store: Store, host: Host) -> None:
    """Writes the small tables to the file beside the spool. Raises OSError."""
    write_copy(copy_path(host), encode(small_of(store)))
    store.copied_commit_id = store.commit_id


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


def is_of_the_disk(error: SpoolFull) -> bool:
    """Whether it is the disk that has no room, and not another program or the memory that keeps the spool."""
    return str(error).startswith("disk")


def make_room(store: Store, group: Group, reserve: Reserve) -> bool:
    """Commits what ``group`` acknowledges and gives space back to the file system. True where the reserve is held
    afterwards: what is free beyond it is for intake. Raises SpoolDamaged.

    The reserve is given up for what frees space and for nothing else: spent on intake while a backend is dead, it
    would be gone when there is something to acknowledge. And it is given up only once that has answered full: the
    write-ahead log mostly still has room, for the blocks that a commit took which found no more of them stay its own.
    """
    freeing = bool(group.acks) or _has_passed(store)
    while True:
        try:
            _acknowledge(store, group)
            free_what_can_be_freed(store)
        except SpoolFull as error:
            if freeing and is_of_the_disk(error) and reserve.release():
                continue
        break
    with suppress(OSError):
        reserve.restore()
    return reserve.held()


def _acknowledge(store: Store, group: Group) -> None:
    """Commits what ``group`` acknowledges; where deleting as well does not fit, without that."""
    acks = Group([], group.acks, group.quarantined, group.last_time_ns)
    try:
        store.commit(acks)
    except SpoolFull as error:
        if not is_of_the_disk(error):
            raise
        store.commit(acks, sweeping=False)
    group.acks, group.quarantined = {}, []


def _has_passed(store: Store) -> bool:
    try:
        return store.has_passed()
    except SpoolFull:
        return False


def free_what_can_be_freed(store: Store) -> None:
    """Deletes what is passed and returns its pages to the file system, in steps as small as it takes. Raises
    SpoolFull."""
    store.sweep(SWEEPS)
    store.fold_log()
    step_pages = sweep.SCARCE_STEP_PAGES
    for _ in range(SWEEPS):
        try:
            with store.reading() as connection:
                if not sweep.give_back(connection, scarce_pages=step_pages):
                    return
            step_pages = min(2 * step_pages, sweep.SCARCE_STEP_PAGES)
        except SpoolFull:  # moving pages writes as many to the log, and frees some only when that is folded
            if step_pages == 1:
                raise
            step_pages = max(step_pages // 4, 1)
        store.fold_log()


def worn_out(store: Store) -> bool:
    """Whether every lane has passed the rows that cannot be deleted, and little else is left to take over."""
    waiting = [lane for lane in store.lanes.values() if store.waiting_bytes[lane.id]]
    if not store.skips or sum(store.waiting_bytes.values()) > WORN_OUT_BYTES:
        return False
    return all(lane.cursor >= max(store.skips) for lane in waiting)


def close(store: Store, host: Host) -> None:
    """Writes the second copy and closes the file."""
    with suppress(OSError):  # the disk may be full: the last copy stands
        write_second_copy(store, host)
    store.close()
