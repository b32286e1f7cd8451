"""This file is columns of values with gaps: taking them out of records and putting them back in place, in C."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, compress
from operator import and_, mul, not_
from typing import Any, Final

from agent.wire.format import Moment
from agent.wire.timestamps import Layout, epoch_ns, epochs_of, layout_of, time_of, times_of

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
    """Texts, all read as the first of them is written; those that are not written so, each as it is."""
    layout = layout_of(next(filter(None, values), ""))
    times = array("q", bytes(8 * len(values))) if layout is None else times_of(values, layout, moment)
    if 0 not in times:
        return times
    others: defaultdict[Layout | None, list[int]] = defaultdict(list)
    for at in compress(range(len(values)), list(map(and_, map(bool, values), map(not_, times)))):
        others[layout_of(values[at])].append(at)
    for other, places in others.items():
        if other is None or other == layout:
            continue
        for at, time_ns in zip(places, times_of([values[at] for at in places], other, moment), strict=True):
            times[at] = time_ns
    return times


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
