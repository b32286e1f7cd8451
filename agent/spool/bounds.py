"""This file decides what gives when a lane is full: its sources wait, or its oldest records go and are counted.

lane's own when_full         → that
metrics, or a lossy source   → drop_oldest   (a sample is soon stale; a datagram cannot wait)
the route has one lane       → block         (nothing is lost)
the route has several        → drop_oldest   (one dead backend never silences another)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

OVERHEAD_BYTES = 12 << 20
"""Write-ahead log and small tables, taken off the spool's bound before the lanes share it."""

FILL_RATIO = 0.85
"""How much of the pages in use holds payload, as a rule; where it is less, the whole file is over its bound first."""


class LaneBound(Struct, frozen=True):
    """What the configuration says of one lane; ``takes_entries`` if it sends logs as agent.wire.entries has them."""

    max_bytes: int | None = None
    when_full: Literal["block", "drop_oldest"] | None = None
    takes_entries: bool = False


class Bounds(Struct):
    """Bytes and policy of every lane by id; an orphaned lane has a share and drops."""

    max_bytes: dict[int, int] = field(default_factory=dict)
    policies: dict[int, Literal["block", "drop_oldest"] | None] = field(default_factory=dict)
    lossy_sources: frozenset[str] = frozenset()

    def drops_oldest(self, lane: int, route: Sequence[int], signal: str, source: str) -> bool:
        """Whether the lane lets its oldest records go rather than pause the source."""
        policy = self.policies.get(lane)
        if policy is not None:
            return policy == "drop_oldest"
        return signal == "metrics" or source in self.lossy_sources or len(route) != 1

    def blocked(
        self, route: Sequence[int], signal: str, source: str, waiting_bytes: Mapping[int, int], *, over: bool = False
    ) -> bool:
        """Whether a batch of this flow has to wait for room in a lane of its route, or in the file as a whole."""
        return any(
            (over or waiting_bytes[lane] >= self.max_bytes[lane]) and not self.drops_oldest(lane, route, signal, source)
            for lane in route
        )


def pages_bound(spool_bytes: int) -> int:
    """Most bytes that the pages in use may take of a spool of ``spool_bytes``."""
    return max(spool_bytes - OVERHEAD_BYTES, 1 << 20)


def share(
    configured: Mapping[int, LaneBound], orphaned: Sequence[int], spool_bytes: int, lossy_sources: frozenset[str]
) -> Bounds:
    """The bounds of all lanes: their own, or an equal share; scaled down where their sum exceeds the spool's."""
    usable = int(pages_bound(spool_bytes) * FILL_RATIO)
    lanes = {**dict.fromkeys(orphaned, LaneBound(None, "drop_oldest")), **configured}
    equal = usable // max(len(lanes), 1)
    wanted = {lane: equal if bound.max_bytes is None else bound.max_bytes for lane, bound in lanes.items()}
    scale = min(1.0, usable / max(sum(wanted.values()), 1))
    return Bounds(
        {lane: int(size * scale) for lane, size in wanted.items()},
        {lane: bound.when_full for lane, bound in lanes.items()},
        lossy_sources,
    )
