"""This file makes cycles of the metrics that a processor makes itself, one an interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agent.batch import Family, Metrics, cycle_of, labels_of
from agent.clock import NANOSECONDS

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context

JOB: Final = "logs"
"""What these metrics are of, whatever processor makes them."""
LOOKS: Final = 15
"""How often in an interval a processor is asked; a cycle is late by one part in so many at most."""


class OwnCycles:
    """When the last cycle was made, and what was in it."""

    def __init__(self, context: Context, interval_seconds: float) -> None:
        self.sent_ns = 0
        self.due_seconds = max(1.0, interval_seconds / LOOKS)
        self._interval_seconds = interval_seconds
        self._source = f"process.{context.name}"
        self._labels = labels_of({"job": JOB, "instance": context.host.hostname}, context.labels)
        self._last: Metrics | None = None

    def due(self, now: Time) -> bool:
        """Whether an interval has passed."""
        return passed(self.sent_ns, self._interval_seconds, now)

    def made(self, families: Sequence[Family], now: Time) -> Metrics:
        """The families as the cycle of this moment."""
        self._last = cycle_of(self._source, self._labels, families, self._last)
        self.sent_ns = now.wall_ns
        return self._last


def passed(since_ns: int, seconds: float, now: Time) -> bool:
    """Whether it is that long ago; so it is as well where the clock was set back."""
    return not 0 <= now.wall_ns - since_ns < seconds * NANOSECONDS
