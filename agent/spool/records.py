"""This file is what the spool takes in and gives out, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:  # commands that only look at the spool start without an event loop
    from agent.batch import Batch, Origin, Position, Signal
    from agent.contract import Flow, Held
    from agent.wire.entries import Sendable

LedgerKey = tuple[int, str, str, str]
"""Lane id (0: no lane), source, outcome, reason."""

READ, DELIVERED, REJECTED, DROPPED, UNROUTED = "read", "delivered", "rejected", "dropped", "unrouted"
NO_LANE = 0


class Taken(Struct, frozen=True):
    """What one step of intake adds, to be made durable together.

    ``read`` counts records that left their source, ``dropped`` those a processor let go by its name, ``positions``
    are by source, ``states`` are what processors hold from now on (None: nothing any more).
    """

    batches: tuple[Batch, ...] = ()
    read: Mapping[Flow, int] = field(default_factory=dict)
    dropped: Mapping[tuple[Flow, str], int] = field(default_factory=dict)
    positions: tuple[tuple[str, Position], ...] = ()
    states: Mapping[str, Held | None] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(batch.size_bytes for batch in self.batches)


class Row(Struct, frozen=True):
    """The header row of a stored batch."""

    id: int
    route: int
    signal: Signal
    source: str
    records: int
    bytes: int
    first_time_ns: int
    origin: Origin | None


class Stored(Struct, frozen=True):
    """A batch read back; ``batch`` is None where the payload is damaged, and ``unreadable`` says that it is there."""

    row: Row
    batch: Sendable | None
    unreadable: bool = False


class Quarantined(Struct, frozen=True):
    """Records a destination will never take, kept for inspection and replay within ``quarantine_bytes``."""

    lane: int
    reason: str
    detail: str
    batch: Batch


class Passed(Struct, frozen=True):
    """What became of one batch of one lane: the records not named here were delivered."""

    id: int
    source: str
    records: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


class Group(Struct):
    """Everything one transaction makes durable."""

    taken: list[Taken] = field(default_factory=list)
    acks: dict[int, list[Passed]] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    last_time_ns: int = 0

    def __bool__(self) -> bool:
        return bool(self.taken or self.acks or self.quarantined)

    def clear(self) -> None:
        """Forgets what is durable now."""
        self.taken, self.acks, self.quarantined = [], {}, []

    def join_acks(self, other: Group) -> None:
        """Takes over what ``other``, which came later, says of batches."""
        for lane, passed in other.acks.items():
            self.acks.setdefault(lane, []).extend(passed)
        self.quarantined.extend(other.quarantined)
        other.acks, other.quarantined = {}, []


class Waiting(Struct, frozen=True):
    """What stands between a lane's cursor and the end, counted from the rows."""

    records: int = 0
    bytes: int = 0
    batches: int = 0
    oldest_time_ns: int = 0
    held: int = 0


class Lane(Struct, frozen=True):
    """A lane as the last commit left it."""

    id: int
    name: str
    cursor: int
    orphaned_ns: int | None


Ledger = Counter[LedgerKey]
