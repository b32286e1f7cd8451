"""This file is what the spool looks like from outside, as of the last commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from agent.spool import ledger as law
from agent.spool.ledger import Balance
from agent.spool.records import Waiting

if TYPE_CHECKING:
    from agent.spool.store import Store


class Picture(Struct, frozen=True):
    """The law's two sides and what waits, by lane name; bytes and batches of the whole file."""

    balances: tuple[Balance, ...] = ()
    waiting: dict[str, Waiting] = field(default_factory=dict)
    unrouted: dict[str, int] = field(default_factory=dict)
    used_bytes: int = 0
    batches: int = 0
    quarantined_records: int = 0


def picture_of(store: Store) -> Picture:
    """Counts everything once. Raises SpoolFull or SpoolDamaged."""
    waiting = {lane.name: store.waiting(lane.id) for lane in store.lanes.values()}
    with store.reading() as connection:
        (batches,) = connection.execute("SELECT count(*) FROM batch").fetchone()
        (quarantined,) = connection.execute("SELECT coalesce(sum(records), 0) FROM quarantine").fetchone()
    return Picture(
        tuple(law.balance(lane, store.ledger, waiting[lane.name]) for lane in store.lanes.values()),
        waiting,
        law.unrouted(store.ledger),
        store.used_bytes,
        batches,
        quarantined,
    )
