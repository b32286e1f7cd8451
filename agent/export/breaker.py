"""This file is the breaker of a lane: it keeps a dead backend from being asked over and over.

closed     → open       half or more of the last requests failed, at least 3 of at most 8 within 10 s; a request still
                        unanswered after 5 s counts as a failure, and as another one for each second it goes on
open       → half_open  30 s later, or when somebody asks for it: one request is let through
half_open  → closed     it was answered
half_open  → open       it was not

No more than 8 count because a lane that sent a hundred requests a second would otherwise need a hundred failures, and
between failures it waits ever longer.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

WINDOW_SECONDS = 10.0
LEAST_REQUESTS = 3
MOST_REQUESTS = 8
FAILING_RATIO = 0.5
OPEN_SECONDS = 30.0
SLOW_SECONDS = 5.0
SLOW_AGAIN_SECONDS = 1.0
"""The patience with a request that follows a failed one."""

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Told what happened and when (monotonic seconds); answers whether a request may go."""

    def __init__(self) -> None:
        self.state: State = "closed"
        self.opened_seconds = 0.0
        self._results: deque[tuple[float, bool]] = deque(maxlen=MOST_REQUESTS)

    def succeeded(self, now_seconds: float) -> None:
        """A request was answered in a way that shows the backend alive."""
        if self.state != "closed":
            self.state = "closed"
            self._results.clear()
        self._note(now_seconds, failed=False)

    def failed(self, now_seconds: float) -> None:
        """A request failed, or goes unanswered for SLOW_SECONDS and another second since."""
        self._note(now_seconds, failed=True)
        failures = sum(failed for _, failed in self._results)
        enough = len(self._results) >= LEAST_REQUESTS and failures >= FAILING_RATIO * len(self._results)
        if self.state == "half_open" or (self.state == "closed" and enough):
            self.state = "open"
            self.opened_seconds = now_seconds

    @property
    def patience_seconds(self) -> float:
        """How long a request may go unanswered before it counts as failing."""
        return SLOW_AGAIN_SECONDS if self._results and self._results[-1][1] else SLOW_SECONDS

    def wait_seconds(self, now_seconds: float) -> float:
        """Seconds until a request may go: 0 while closed or when it is time to try one."""
        if self.state == "closed":
            return 0.0
        return max(0.0, self.opened_seconds + OPEN_SECONDS - now_seconds)

    def admit(self) -> None:
        """A request goes out now; one sent while open is the half-open probe."""
        if self.state == "open":
            self.state = "half_open"

    def _note(self, now_seconds: float, *, failed: bool) -> None:
        self._results.append((now_seconds, failed))
        while self._results[0][0] <= now_seconds - WINDOW_SECONDS:
            self._results.popleft()
