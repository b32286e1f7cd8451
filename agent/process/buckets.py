"""This file is how much each key may still take: a bucket that fills at a rate, up to what may come at once.

A full bucket says nothing and is forgotten. Where max_keys others are not full, a new key shares one with all that
came after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct

from agent.clock import NANOSECONDS

OTHER: Final = "other"
"""What keys are called that came on top of max_keys."""
TIDY_NS: Final = NANOSECONDS
"""Full buckets are looked for at most that often."""


class Bucket(Struct, frozen=True, array_like=True, gc=False):
    """What was left of records and bytes at a moment."""

    at_ns: int
    records: float
    bytes: float


class Buckets:
    """The buckets by key. ``records_per_second`` and ``bytes_per_second`` may be infinite."""

    def __init__(self, records_per_second: float, bytes_per_second: float, burst_seconds: float, max_keys: int) -> None:
        self._records_per_second = records_per_second
        self._bytes_per_second = bytes_per_second
        self._most_records = max(1.0, records_per_second * burst_seconds)
        self._most_bytes = max(1.0, bytes_per_second * burst_seconds)
        self._max_keys = max_keys
        self._buckets: dict[str, Bucket] = {}
        self._tidied_ns = 0

    def __getitem__(self, key: str) -> Bucket:
        return self._buckets[key]

    def of(self, key: str, now_ns: int) -> Bucket:
        """What a key may take now."""
        known = self._buckets.get(key)
        if known is None:
            return Bucket(now_ns, self._most_records, self._most_bytes)
        passed = max(0, now_ns - known.at_ns) / NANOSECONDS
        return Bucket(
            now_ns,
            min(self._most_records, known.records + passed * self._records_per_second),
            min(self._most_bytes, known.bytes + passed * self._bytes_per_second),
        )

    def shared(self, keys: Collection[str], now_ns: int) -> dict[str, str]:
        """For each of different keys the one by which it is counted: its own where there is room."""
        if len(self._buckets) + sum(key not in self._buckets for key in keys) > self._max_keys:
            self._tidy(now_ns)
        room = self._max_keys - len(self._buckets)
        found: dict[str, str] = {}
        for key in keys:
            if key in self._buckets or room > 0:
                room -= key not in self._buckets
                found[key] = key
            else:
                found[key] = OTHER
        return found

    def put(self, changed: Mapping[str, Bucket]) -> None:
        """What keys have left."""
        self._buckets.update(changed)

    def _tidy(self, now_ns: int) -> None:
        """Forgets full buckets, if that was not done just now."""
        if now_ns - self._tidied_ns >= TIDY_NS or now_ns < self._tidied_ns:
            self._tidied_ns = now_ns
            self._buckets = {each: kept for each, kept in self._buckets.items() if not self._full(each, now_ns)}

    def _full(self, key: str, now_ns: int) -> bool:
        now = self.of(key, now_ns)
        return now.records >= self._most_records and now.bytes >= self._most_bytes
