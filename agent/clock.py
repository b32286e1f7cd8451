"""This file is the only place that asks what time it is; everything else is handed a clock.

The record times of the whole process come from one allocator, so that no two records of a stream share a
time and a repeat after a crash carries the time that was committed with the batch.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    import asyncio

NANOSECONDS = 1_000_000_000
MOST_AHEAD_NS = NANOSECONDS


class Time(Struct, frozen=True):
    """One moment on both clocks: ``wall_ns`` since the Unix epoch, ``monotonic_seconds`` since an arbitrary start."""

    wall_ns: int
    monotonic_seconds: float


class Clock(Protocol):
    """Wall time, monotonic time and sleep."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch; it may be set back."""
        ...

    def monotonic_seconds(self) -> float:
        """Seconds since an arbitrary start; it never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after so many seconds of the monotonic clock."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Returns once the event is set, and after ``seconds`` at the latest."""
        ...


class SystemClock:
    """The clock of this machine."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_seconds(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # commands that answer at once declare components and never run a loop

        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        import asyncio

        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await event.wait()


def now(clock: Clock) -> Time:
    """This moment on both clocks."""
    return Time(clock.wall_ns(), clock.monotonic_seconds())


class RecordTimes:
    """Gives each record of the process a nanosecond of its own, rising, at most a second ahead of the wall clock.

    After the wall clock was set back by more than that second, times follow it back: a record that claims to
    come from the future would be refused by every backend.
    """

    def __init__(self, clock: Clock, last_ns: int = 0) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.last_ns = last_ns

    def allocate(self, count: int) -> int:
        """The time of the first of ``count`` records; record ``i`` has that time plus ``i`` nanoseconds."""
        with self._lock:
            wall_ns = self._clock.wall_ns()
            first_ns = max(wall_ns, self.last_ns + 1)
            if first_ns > wall_ns + MOST_AHEAD_NS:
                first_ns = wall_ns
            self.last_ns = first_ns + max(count, 1) - 1
            return first_ns
