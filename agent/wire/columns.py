"""This file is columns of values with gaps: taking them out of records and putting them back in place, in C."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate, compress
from operator import and_, mul, not_
from typing import Any, Final

from agent.wire.format import Moment
from agent.wire.timestamps import epoch_ns, epochs_of, layout_of, time_of, times_of

_NUMBERS: Final = ({int}, {float}, {int, float})


def spread(values: Sequence[Any], places: Sequence[bool], missing: Any) -> list[Any]:
    """A column with one of ``values`` in order wherever ``places`` is true, and ``missing`` elsewhere."""
    if len(values) == len(places):
        return list(values)
    return list(map([missing, *values].__getitem__, map(mul, accumulate(map(int, places)), places)))


def moments(values: Sequence[Any], moment: Moment) -> array[int]:
    """The times of values however they are written: texts of one layout or of several, numbers; 0 for what is none."""
    kinds = set(map(type, values))
    if kinds in _NUMBERS:
        return epochs_of(values)
    if kinds in ({str}, {bytes}):
        return _texts(values, moment)
    return array("q", (_one(value, moment) for value in values))


def _texts(values: Any, moment: Moment) -> array[int]:
    """Texts; those that are not written like the first of them are tried once more, a layout at a time."""
    layout = layout_of(next(filter(None, values), ""))
    if layout is None:
        return array("q", (_one(value, moment) for value in values))
    times = times_of(values, layout, moment)
    left = list(map(and_, map(bool, values), map(not_, times))) if 0 in times else []
    if not any(left) or all(left):
        return times
    more = spread(_texts(list(compress(values, left)), moment), left, 0)
    return array("q", map(max, times, more))


def _one(value: Any, moment: Moment) -> int:
    if isinstance(value, str | bytes):
        layout = layout_of(value)
        return 0 if layout is None else time_of(value, layout, moment)
    if isinstance(value, dict):  # {"$date": …}, as MongoDB has it
        return _one(next(iter(value.values()), None), moment)
    return 0 if isinstance(value, bool) or not isinstance(value, int | float) else epoch_ns(value)


def first_of(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Of several columns the first value that says something."""
    if not columns:
        return ()
    found = list(columns[0])
    for column in columns[1:]:
        for at in compress(range(len(found)), list(map(not_, found))):
            found[at] = column[at]
    return found
