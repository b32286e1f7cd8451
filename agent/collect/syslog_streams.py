"""This file keeps what is known of each label set of syslog: its labels, and which times its records were given."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import islice
from operator import add, le

from msgspec import Struct

from agent.batch import Labels
from agent.clock import NANOSECONDS
from agent.wire.recordtimes import BEGINNING, BLOCK_PARTS, Given, distinct

FORGOTTEN_AFTER_SECONDS = 3600.0
_ROOM_NS = NANOSECONDS // 2

Key = tuple[str, ...]
"""The values of the fields that become labels, in their order."""


class Stream(Struct, eq=False):
    """One label set."""

    labels: Labels
    seen_seconds: float = 0.0
    given: Given | None = None

    def times(self, times_ns: array[int], now_ns: int, *, timed: bool) -> array[int]:
        """The times of the next records, no two alike; what says none is of ``now_ns``.

        What was given before a restart is not known: a whole second may well have been, a fraction of one has not.
        """
        if not timed and times_ns.count(0):
            times_ns = array("q", [time_ns or now_ns for time_ns in times_ns])
        if self.given is None:
            self.given = _first(times_ns[0], now_ns)
        own, self.given = _in_order(times_ns, self.given) or distinct(times_ns, 0, self.given)
        return own


def _first(said_ns: int, now_ns: int) -> Given:
    """What a stream begins with. A second has room for some of it before a restart and some of it after."""
    return BEGINNING if said_ns % NANOSECONDS else Given(said_ns, said_ns + now_ns // 1000 % BLOCK_PARTS)


def _in_order(times_ns: array[int], given: Given) -> tuple[array[int], Given] | None:
    """Whole seconds that do not run back, as RFC 3164 has them: each record comes a nanosecond after the one before it.
    None for other times."""
    first_ns, last_ns = times_ns[0], times_ns[-1]
    after_ns = max(0, given.given_ns + 1 - first_ns)
    if first_ns % NANOSECONDS or last_ns % NANOSECONDS or first_ns < given.said_ns or after_ns >= _ROOM_NS:
        return None
    if not all(map(le, times_ns, islice(times_ns, 1, None))):
        return None
    own = array("q", map(add, times_ns, range(after_ns, after_ns + len(times_ns))))
    return own, Given(last_ns, own[-1])


class Streams:
    """At most ``most`` label sets; those not seen for an hour make room for others."""

    def __init__(self, most: int, labels_of: Callable[[Key], Labels]) -> None:
        self._most = most
        self._labels_of = labels_of
        self._streams: dict[Key, Stream] = {}
        self.rest = Stream(labels_of(()))
        """What has no room in a label set of its own."""

    def __len__(self) -> int:
        return len(self._streams)

    def of(self, key: Key, now_seconds: float) -> Stream | None:
        """The label set of a key, or None where there is no room for one more."""
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= self._most:
                self._forget(now_seconds - FORGOTTEN_AFTER_SECONDS)
            if len(self._streams) >= self._most:
                return None
            stream = self._streams[key] = Stream(self._labels_of(key))
        stream.seen_seconds = now_seconds
        return stream

    def _forget(self, before_seconds: float) -> None:
        self._streams = {key: each for key, each in self._streams.items() if each.seen_seconds > before_seconds}
