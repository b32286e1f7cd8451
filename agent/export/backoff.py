"""This file is backoff as a value: it is told what happened and answers how long to wait; it never sleeps.

Exponential with full jitter (a delay anywhere between nothing and the bound), so that many agents whose backend
returns do not all call at once. What the server asked for is the least, up to RETRY_AFTER_MOST_SECONDS.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0
RETRY_AFTER_MOST_SECONDS = 300.0


class Backoff(Struct, frozen=True):
    """How many tries in a row have failed."""

    failures: int = 0

    def failed(self) -> Backoff:
        """One more failure."""
        return replace(self, failures=self.failures + 1)

    def delay_seconds(self, jitter: Callable[[], float], retry_after_seconds: float | None = None) -> float:
        """Seconds until the next try; ``jitter`` gives a number in [0, 1)."""
        bound = min(MOST_SECONDS, FIRST_SECONDS * (1 << min(max(self.failures - 1, 0), 16)))
        asked = min(retry_after_seconds or 0.0, RETRY_AFTER_MOST_SECONDS)
        return max(jitter() * bound, asked)
