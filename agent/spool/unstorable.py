"""This file commits a group that cannot be committed as a whole, although nothing is wrong with the file: part by part.

A part that is refused alone holds something that no row can hold (text that is no Unicode, a number beyond 64 bits).
It must not stop everybody else for ever: its batches are let go and counted, its positions move.
"""

from __future__ import annotations

import logging
from collections import Counter

from msgspec.structs import replace

from agent.errors import SpoolDamaged, SpoolFull
from agent.spool.records import Group, Taken
from agent.spool.store import Store

log = logging.getLogger("telemetry_agent.spool")

UNSTORABLE = "unstorable"


def commit_apart(store: Store, group: Group) -> None:
    """Commits each part of the group alone, and takes it out of the group. Raises SpoolFull, and SpoolDamaged where
    the store does not even take nothing at all."""
    while group.taken:
        taken = group.taken[0]
        choices = [Group([each]) for each in (taken, _without_batches(taken), _counts_alone(taken), Taken())]
        _first_that_works(store, group.last_time_ns, choices)
        group.taken.pop(0)
    choices = [Group([], group.acks, group.quarantined), Group([], group.acks), Group()]
    _first_that_works(store, group.last_time_ns, choices)
    group.clear()


def _first_that_works(store: Store, last_time_ns: int, choices: list[Group]) -> None:
    for choice in choices:
        choice.last_time_ns = last_time_ns
        try:
            return store.commit(choice)
        except SpoolFull:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the part's own fault
            log.error("records cannot be stored and are let go: %s: %s", type(error).__name__, error)
    raise SpoolDamaged("not even an empty commit is taken")


def _without_batches(taken: Taken) -> Taken:
    dropped = Counter(taken.dropped)
    for batch in taken.batches:
        dropped[(batch.source, batch.signal), UNSTORABLE] += batch.count
    return replace(taken, batches=(), dropped=dropped)


def _counts_alone(taken: Taken) -> Taken:
    return replace(_without_batches(taken), positions=(), states={})
