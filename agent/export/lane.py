"""This file is the state of one lane that operators see: what it is doing, since when, and why it does not."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from agent.export.backoff import Backoff
from agent.export.breaker import Breaker

Doing = Literal["idle", "sending", "backoff", "open", "held"]

FIRST_REFUSALS = 3
REFUSALS_IN_A_ROW = 20


class LaneState(Struct):
    """One destination and one signal.

    ``refused`` counts requests refused whole since one was last accepted. ``progress_seconds`` is when the lane last
    began or ended something (monotonic): one that is neither waiting nor making progress is stuck, except while a
    request takes the ``timeout_seconds`` it was given.
    """

    name: str
    doing: Doing = "idle"
    breaker: Breaker = field(default_factory=Breaker)
    backoff: Backoff = field(default_factory=Backoff)
    accepted_any: bool = False
    refused: int = 0
    last_error: str | None = None
    hold_reason: str | None = None
    retry_at_seconds: float | None = None
    progress_seconds: float = 0.0
    timeout_seconds: float = 0.0

    def does(self, doing: Doing, now_seconds: float) -> None:
        """Begins something else."""
        self.doing, self.progress_seconds = doing, now_seconds

    def accepted(self, now_seconds: float) -> None:
        """A request was confirmed."""
        self.breaker.succeeded(now_seconds)
        self.backoff = Backoff()
        self.accepted_any = True
        self.refused = 0
        self.last_error = self.hold_reason = None
        self.progress_seconds = now_seconds

    def refused_whole(self) -> bool:
        """A request was refused whole; True when that is no longer the records' fault."""
        self.refused += 1
        return self.refused >= (REFUSALS_IN_A_ROW if self.accepted_any else FIRST_REFUSALS)
