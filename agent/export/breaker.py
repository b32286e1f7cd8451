"""This file is the breaker of a lane: it keeps a dead backend from being asked over and over.

closed     → open       half or more of at least 3 requests failed within 10 s; a request still unanswered after
                        5 s counts as a failure, and as another one for each second it goes on
open       → half_open  30 s later: one request is let through
half_open  → closed     it was answered
half_open  → open       it was not
"""

from __future__ import annotations

from collections import deque
from typing import Literal

WINDOW_SECONDS = 10.0
LEAST_REQUESTS = 3
FAILING_RATIO = 0.5
OPEN_SECONDS = 30.0
SLOW_SECONDS = 5.0

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Told what happened and when (monotonic seconds); answers whether a request may go."""

    def __init__(self) -> None:
        self.state: State = "closed"
        self.opened_seconds = 0.0
        self._results: deque[tuple[float, bool]] = deque()

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
