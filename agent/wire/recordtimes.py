"""This file gives each record of a stream a time of its own, as near to the one it says as can be.

Loki keeps one of two records that have the same labels, the same time and the same text. Times in logs are whole
seconds or milliseconds, and the same text twice within one is common; so of records that say one time only the first
keeps it. What decides is where they lie in the stream:

    says            1000 1000 1000 2000 2000 1000
    of its own      1000 1001 1002 2000 2001 1000 + 100 µs and more

- In order: a record that says no earlier time than all before it comes a nanosecond after the last one given, or at
  its own time, whichever is later. Whoever follows keeps their place.
- Out of order (servers note when a request began): it may share its time with any record before, so it is moved by
  100 µs, and by up to 0.52 ms that come of its number in the stream. Two share that only where they are 524,287
  records apart or a multiple of that, and then they must say the same time and text to be taken for one.
- Where a part is read again, or what was given before is not known for other reasons, all that is said for the next
  minute counts as out of order. Where its block begins then stands for the number of its first record: every 16 bytes
  count one, and no record with a time of its own is shorter. At the beginning of a stream nothing was given before.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, compress, islice
from operator import add, ge, getitem, le, lt, sub
from typing import Final

from msgspec import Struct

APART_NS: Final = 100_000
BLOCK_PARTS: Final = 524_287
"""A prime, so that lines of equal length do not meet after it."""
RECORD_BYTES: Final = 16
AT_ONCE: Final = 4096
"""Records that are looked at in one call: under 1 ms of work."""
SETTLING_NS: Final = 60 * 1_000_000_000
MOST_AHEAD_NS: Final = 3600 * 1_000_000_000
"""A time that was further ahead of what follows was a mistake, and nobody waits for it."""


class Given(Struct, frozen=True):
    """What is known of the times a stream was given: the latest said, the latest given, and the number of the next
    record, which counts ``records`` at least."""

    said_ns: int
    given_ns: int
    records: int = 0


BEGINNING: Final = Given(-(1 << 62), -(1 << 62))
"""Nothing lies before."""


def filled(times: array[int]) -> array[int] | None:
    """Times with the one before in place of each 0, and the first known one where none is before; None for no times."""
    if 0 not in times:
        return times
    pieces = [times[start : start + AT_ONCE] for start in range(0, len(times), AT_ONCE)]
    before = next((known for known in (next(filter(None, some), 0) for some in pieces) if known), 0)
    if not before:
        return None
    whole = array("q")
    for some in pieces:
        known = [before, *compress(some, some)]
        whole.extend(map(known.__getitem__, accumulate(map(bool, some))))
        before = known[-1]
    return whole


def distinct(times: array[int], start: int, last: Given | None) -> tuple[array[int], Given]:
    """The times of records of a block that begins at ``start`` of its stream, and what to hand on to the next block.

    ``last`` is what the block before handed on, None where that is not known. ``times`` is not empty.
    """
    if last is None:
        last = Given(max(times) + SETTLING_NS, 0, start // RECORD_BYTES) if start else BEGINNING
    if len(times) <= AT_ONCE:
        return _distinct(times, last)
    whole = array("q")
    for at in range(0, len(times), AT_ONCE):
        some, last = _distinct(times[at : at + AT_ONCE], last)
        whole.extend(some)
    return whole, last


def _distinct(column: array[int], last: Given) -> tuple[array[int], Given]:
    times = column.tolist()
    records = last.records + len(times)
    if times[0] > last.given_ns and times[0] >= last.said_ns and all(map(lt, times, islice(times, 1, None))):
        return column, Given(times[-1], times[-1], records)
    if times[0] >= last.said_ns and all(map(le, times, islice(times, 1, None))):
        own = _in_order(times, last.given_ns)
        return own, Given(times[-1], own[-1], records)
    tops = list(accumulate(chain((last.said_ns,), times), max))
    in_order = list(map(ge, times, tops))
    own = _rising(list(compress(times, in_order)), last.given_ns)
    if len(own) < len(times):
        moved_ns = APART_NS + last.records % BLOCK_PARTS
        moved = map(add, times, range(moved_ns, moved_ns + len(times)))
        placed = map([0, *own].__getitem__, accumulate(map(int, in_order)))
        own = array("q", map(getitem, zip(moved, placed, strict=True), in_order))
    if len(set(own)) < len(own):
        own = _apart(own)
        records += len(times)  # they may have come that far
    said_ns, given_ns = max(times), max(own)
    if tops[-1] - said_ns > MOST_AHEAD_NS:
        return own, Given(said_ns, given_ns, records)
    return own, Given(tops[-1], max(last.given_ns, given_ns), records)


def _in_order(times: list[int], given_ns: int) -> array[int]:
    """As ``_rising``, of times that never fall: in most logs those that are equal can be counted and nobody is late."""
    early = bisect_right(times, given_ns)
    rest = times[early:]
    first = dict(zip(reversed(rest), range(len(rest) - 1, -1, -1), strict=True))
    rest = list(map(add, rest, map(sub, range(len(rest)), map(first.__getitem__, rest))))
    own = [*range(given_ns + 1, given_ns + 1 + early), *rest]
    return array("q", own) if all(map(lt, own, islice(own, 1, None))) else _rising(times, given_ns)


def _apart(times: Iterable[int]) -> array[int]:
    """Each a nanosecond later for as long as another has that time: what says times that differ by so much may meet."""
    taken: dict[int, None] = {}
    for time_ns in times:
        while time_ns in taken:
            time_ns += 1  # noqa: PLW2901 - the same time, later
        taken[time_ns] = None
    return array("q", taken)


def _rising(times: Sequence[int], given_ns: int) -> array[int]:
    """Each at its own time, or a nanosecond after the one before where that is later."""
    latest = accumulate(chain((given_ns + 1,), map(sub, times, range(len(times)))), max)
    return array("q", map(add, islice(latest, 1, None), range(len(times))))
