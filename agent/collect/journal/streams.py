"""This file keeps what is known of each label set: its labels, its last time, where its next record begins.

Within a label set no two records share a time, and times do not run backwards: what has the microsecond of the one
before it comes a nanosecond after it. Where the clock was set back by more than a second, times follow it back.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import repeat
from operator import ge, mul
from typing import TYPE_CHECKING

from msgspec import Struct

from agent.batch import Labels
from agent.clock import NANOSECONDS
from agent.collect.journal.origin import Part
from agent.collect.labelsets import Key

if TYPE_CHECKING:
    from agent.collect.journal.parse import Decision

MOST_BACK_NS = NANOSECONDS


class Stream(Struct):
    """One label set; ``decision`` is what its messages are taken for."""

    key: Key
    labels: Labels
    next_byte: int
    seen_seconds: float = 0.0
    last_ns: int = 0
    decision: Decision | None = None

    def times(self, times_us: Sequence[int]) -> array[int]:
        """The times of the next records, in nanoseconds."""
        times = array("q", map(mul, times_us, repeat(1000)))
        if times[0] <= self.last_ns or any(map(ge, times, times[1:])):
            times = array("q", self._rising(times))
        self.last_ns = times[-1]
        return times

    def part(self, size_bytes: int, count: int, between: tuple[str, str]) -> Part:
        """What the next ``count`` records are a part of."""
        start, self.next_byte = self.next_byte, self.next_byte + size_bytes
        return Part(self.key, start, count, *between)

    def _rising(self, times: Sequence[int]) -> list[int]:
        rising, last_ns = [], self.last_ns
        for time_ns in times:
            last_ns = last_ns + 1 if last_ns - MOST_BACK_NS <= time_ns <= last_ns else time_ns
            rising.append(last_ns)
        return rising
