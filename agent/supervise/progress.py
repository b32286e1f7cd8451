"""This file tells what stands still though nothing keeps it: the watchdog and the health endpoint ask it.

what is asked      it moves when                            it may stand still while
a lane             a request begins or ends, its cursor     it has nothing to send; backs off, breaker open, held; the
                   moves                                    spool cannot commit its acknowledgements
the spool          a commit ends                            nothing is pending; it says what keeps it (a full disk);
                                                            a damaged file is being replaced

A dead backend and a full disk are no standstill. A request, a commit or a lane that hangs is, after STUCK_SECONDS;
a request after its destination's timeout_seconds more.
"""

from __future__ import annotations

from agent.clock import Clock
from agent.export.drain import Drain
from agent.spool.spool import Spool
from agent.supervise.pipeline import Pipeline

STUCK_SECONDS = 60.0

Mark = tuple[object, ...]
"""What changes whenever something moves."""


class Progress:
    """What was seen to move when. Each look remembers, so that somebody has to look now and then."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._seen: dict[str, tuple[Mark, float]] = {}

    def stuck(self) -> list[str]:
        """A sentence for each that has stood still for too long."""
        pipeline = self._pipeline
        marks = {name: _lane_mark(name, drain, pipeline.spool) for name, drain in pipeline.drains.items()}
        marks["the spool's commit"] = _commit_mark(pipeline.spool)
        timeouts = {name: drain.state.timeout_seconds for name, drain in pipeline.drains.items()}
        now_seconds = self._clock.monotonic_seconds()
        return [
            f"{name} has not moved for {seconds:.0f} s"
            for name, mark in marks.items()
            if (seconds := self._still_seconds(name, mark, now_seconds)) > STUCK_SECONDS + timeouts.get(name, 0.0)
        ]

    def _still_seconds(self, name: str, mark: Mark | None, now_seconds: float) -> float:
        if mark is None:
            self._seen.pop(name, None)
            return 0.0
        seen, since_seconds = self._seen.get(name, (None, now_seconds))
        if mark != seen:
            self._seen[name] = mark, now_seconds
            return 0.0
        return now_seconds - since_seconds


def _lane_mark(name: str, drain: Drain, spool: Spool) -> Mark | None:
    """None while the lane is right to stand still."""
    state = drain.state
    if state.doing in ("backoff", "open", "held"):
        return None
    if state.doing == "idle" and (_excused(spool) or not spool.store.waiting_bytes[spool.lane_id(name)]):
        return None
    return state.doing, state.progress_seconds, spool.cursor(name)


def _commit_mark(spool: Spool) -> Mark | None:
    """None while there is nothing to commit, or it is known why there is no commit."""
    return None if _excused(spool) or not spool.pending_bytes else (spool.last_commit_seconds,)


def _excused(spool: Spool) -> bool:
    return spool.trouble is not None or spool.replacing
