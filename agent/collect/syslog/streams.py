"""This file keeps what is known of each label set of syslog: its labels, and which times its records were given."""

from __future__ import annotations

from array import array
from itertools import islice
from operator import add, le

from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Labels
from agent.clock import NANOSECONDS
from agent.wire.recordtimes import BEGINNING, BLOCK_PARTS, Given, distinct

_ROOM_NS = NANOSECONDS // 2


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
    part = now_ns // 1000 % BLOCK_PARTS
    return replace(BEGINNING, records=part) if said_ns % NANOSECONDS else Given(said_ns, said_ns + part, part)


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
    return own, Given(last_ns, own[-1], given.records + len(own))
