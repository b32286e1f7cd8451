"""This file keeps the times that each label set was given last, beside the positions of what was read.

    times:9f86d081884c7d65      1795192801000000000 1795192801000000003 4711
    label set                   latest said         latest given        records

A file that begins in the millisecond in which the one before ended goes on with its nanoseconds, also when the agent
was killed between the two: a batch carries what it left, so that both are durable at once.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Mapping
from hashlib import blake2b
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from agent.batch import Labels, Position
from agent.clock import NANOSECONDS
from agent.wire.recordtimes import Given, distinct

if TYPE_CHECKING:
    from agent.clock import Time

TIMES: Final = "times:"
"""What stands before the keys of label sets, none of which is the key of a file."""
MOST_LABEL_SETS: Final = 16_384
"""Of so many the last time given is known."""
KEPT_SECONDS: Final = 3600
"""Of a label set that rests for so long while the agent runs, what it was given is known to this run only."""


def positions_only(positions: Mapping[str, str]) -> dict[str, str]:
    """The positions without what is kept here."""
    return {key: value for key, value in positions.items() if not key.startswith(TIMES)}


class GivenTimes:
    """By label set; those that were given none for longest come first. ``_kept`` says since when it rests, in seconds,
    of those that are in the spool."""

    def __init__(self, positions: Mapping[str, str], wall_ns: int) -> None:
        self._given: dict[str, Given] = {}
        self._kept: dict[str, int] = {}
        for key, value in positions.items():
            if key.startswith(TIMES):
                self._load(key, value, wall_ns // NANOSECONDS)

    def distinct(
        self, labels: Labels, times: array[int], start: int, now: Time
    ) -> tuple[array[int], tuple[Position, ...]]:
        """Times of their own for records that begin at ``start`` of their file, and what to commit with them.

        What has the same labels is one stream to those who take equal records for repeats: so does a file after its
        rotation.
        """
        key, seconds = _key_of(labels), now.wall_ns // NANOSECONDS
        own, last = distinct(times, start, self._given.pop(key, None))
        self._kept.pop(key, None)
        self._given[key], self._kept[key] = last, seconds
        value = f"{last.said_ns} {last.given_ns} {last.records}"
        return own, (Position(key, value), *(Position(each, None) for each in self._forget(seconds)))

    def _load(self, key: str, value: str, seconds: int) -> None:
        self._kept[key] = seconds
        with contextlib.suppress(ValueError):  # what cannot be understood is not known, and forgotten with time
            said_ns, given_ns, records = map(int, value.split())
            self._given[key] = Given(said_ns, given_ns, records)

    def _forget(self, seconds: int) -> list[str]:
        """Keys that need not be kept in the spool any more; of too many label sets, one is not known any more."""
        forgotten = list(takewhile(lambda key: self._kept[key] < seconds - KEPT_SECONDS, self._kept))
        if len(self._given) > MOST_LABEL_SETS:
            oldest = next(iter(self._given))
            del self._given[oldest]
            forgotten += [oldest] if oldest in self._kept and oldest not in forgotten else []
        for key in forgotten:
            del self._kept[key]
        return forgotten


def _key_of(labels: Labels) -> str:
    return TIMES + blake2b(ascii(labels).encode(), digest_size=8).hexdigest()
