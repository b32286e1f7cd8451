"""This file is one metric that is made of log records: which records, which series, and their numbers so far.

What a batch changes is worked out first and taken over as a whole, so that a batch that fails changes nothing. Numbers
are never changed where they stand, so that who looks from another thread sees each series as it was at some moment.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, compress, repeat
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

from agent.batch import Family
from agent.process.conditions.masks import Conditions
from agent.process.fields.values import number_of, text_of
from agent.process.selection import counted
from agent.wire.series import series

if TYPE_CHECKING:
    from agent.batch import Kind
    from agent.process.conditions.options import ConditionOptions
    from agent.process.fields.reader import Table

Key = tuple[str, ...]
"""The values of a series's labels, in the order in which they are declared."""
Numbers = tuple[float, ...]
"""What a series has: a counter or gauge one number; a histogram one for each bucket and their sum."""

OTHER: Final = "other"
MOST_CHARACTERS: Final = 1024
"""A label value is cut there."""

_KEEPING: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "last": lambda numbers: numbers[-1],
    "min": min,
    "max": max,
    "sum": math.fsum,
}


class Definition(Struct, frozen=True):
    """What a metric is. ``value`` is the field of its number, None where records are counted."""

    kind: Kind
    name: str
    help: str
    labels: Mapping[str, str]
    value: str | None = None
    keep: str = "last"
    buckets: tuple[float, ...] = ()

    @property
    def identity(self) -> str:
        """What must be the same for numbers of an earlier start to go on."""
        return repr((self.kind, self.name, tuple(self.labels), self.keep, self.buckets))


class Change(Struct):
    """What one batch does to a metric: the new numbers of some series, and what could not be taken as it is."""

    numbers: dict[Key, Numbers] = field(default_factory=dict)
    new: int = 0
    overflow: int = 0
    unread: int = 0


class Metric:
    """A metric and its series."""

    def __init__(self, definition: Definition, when: Sequence[ConditionOptions], match: str, max_series: int) -> None:
        self.definition = definition
        self._conditions = Conditions(when, match)
        self._max_series = max_series
        self._sources = tuple(definition.labels.values())
        self.fields = [*self._conditions.fields, *self._sources, *([definition.value] if definition.value else [])]
        self.series: dict[Key, Numbers] = {}
        self._names: dict[Key, tuple[bytes, ...]] = {}

    @property
    def lasts(self) -> bool:
        """Whether what was told goes on from there, and not anew in each interval."""
        return self.definition.kind != "gauge" or self.definition.keep == "last"

    def change(self, table: Table) -> Change:
        """What the records of a batch change."""
        mask = self._conditions.mask(table)
        change = Change()
        if 1 not in mask:
            return change
        keys = _Keys(self._sources, table)
        if self.definition.value is None:
            found: dict[Key, Numbers] = {key: (float(many),) for key, many in keys.counted(mask).items()}
            records = {key: int(numbers[0]) for key, numbers in found.items()}
        else:
            numbers_of, change.unread = keys.numbers(mask, self.definition.value, self.definition.kind == "counter")
            found = {key: self._numbers(numbers) for key, numbers in numbers_of.items()}
            records = {key: len(numbers) for key, numbers in numbers_of.items()}
        for key, numbers in found.items():
            at = self._place(key, change)
            change.new += at not in self.series and at not in change.numbers
            if at != key:
                change.overflow += records[key]
            before = change.numbers.get(at) or self.series.get(at)
            change.numbers[at] = numbers if before is None else self._added(before, numbers)
        return change

    def families(self) -> Family:
        """The metric as it is now."""
        kept = self.series
        names = tuple(name for key in kept for name in self._series(key))
        values = tuple(value for numbers in kept.values() for value in self._told(numbers))
        return Family(self.definition.name, self.definition.kind, self.definition.help, names, values)

    def _place(self, key: Key, change: Change) -> Key:
        """The series that a key counts in."""
        known = self.series
        if key in known or key in change.numbers or not key:
            return key
        return key if len(known) + change.new < self._max_series else (OTHER,) * len(key)

    def _numbers(self, numbers: Sequence[float]) -> Numbers:
        """What some records have in one series."""
        definition = self.definition
        if definition.kind == "histogram":
            places = counted(map(bisect_left, repeat(definition.buckets), numbers))
            return (*(float(places[place]) for place in range(len(definition.buckets) + 1)), math.fsum(numbers))
        return (_KEEPING["sum" if definition.kind == "counter" else definition.keep](numbers),)

    def _added(self, before: Numbers, numbers: Numbers) -> Numbers:
        if self.definition.kind == "gauge":
            return (_KEEPING[self.definition.keep]((*before, *numbers)),)
        return tuple(map(math.fsum, zip(before, numbers, strict=True)))

    def _told(self, numbers: Numbers) -> Iterable[float]:
        if self.definition.kind != "histogram":
            return numbers
        counts = list(accumulate(numbers[:-1]))
        return (*counts, numbers[-1], counts[-1])

    def _series(self, key: Key) -> tuple[bytes, ...]:
        """The names of the series of a key; of a histogram those of its buckets, its sum and its count."""
        found = self._names.get(key)
        if found is None:
            name, pairs = self.definition.name, list(zip(self.definition.labels, key, strict=True))
            if self.definition.kind == "histogram":
                bounds = [*(text_of(bound) for bound in self.definition.buckets), "+Inf"]
                buckets = (series(f"{name}_bucket", [*pairs, ("le", bound)]) for bound in bounds)
                found = (*buckets, series(f"{name}_sum", pairs), series(f"{name}_count", pairs))
            else:
                found = (series(name, pairs),)
            if len(self._names) > 2 * self._max_series:
                self._names.clear()
            self._names[key] = found
        return found


class _Keys:
    """The label values of the records of a batch."""

    def __init__(self, sources: Sequence[str], table: Table) -> None:
        self._table = table
        self._same = all(table.same_everywhere(source) for source in sources)
        self._one = tuple(_label(table.label(source)) for source in sources) if self._same else ()
        self._columns = [] if self._same else [table.column(source) for source in sources]

    def counted(self, mask: bytes) -> dict[Key, int]:
        """How many of the records with 1 in ``mask`` have each key."""
        if self._same:
            return {self._one: mask.count(1)}
        found: Counter[Key] = Counter()
        for values, many in counted(compress(zip(*self._columns, strict=True), mask)).items():
            found[tuple(map(_label, values))] += many
        return found

    def numbers(self, mask: bytes, name: str, rising: bool) -> tuple[dict[Key, list[float]], int]:
        """The numbers of each key in order, and how many records have none; ``rising`` ones are not below 0."""
        found: dict[tuple[Any, ...], list[float]] = {}
        unread = 0
        rows = repeat(()) if self._same else zip(*self._columns, strict=True)
        for row, value in compress(zip(rows, self._table.column(name)), mask):  # noqa: B905 - the first may be endless
            number = number_of(value)
            if number is None or not math.isfinite(number) or (rising and number < 0):
                unread += 1
            else:
                found.setdefault(row, []).append(number)
        if self._same:
            return {self._one: found[()]} if found else {}, unread
        merged: dict[Key, list[float]] = {}
        for row, numbers in found.items():
            merged.setdefault(tuple(map(_label, row)), []).extend(numbers)
        return merged, unread


def _label(value: Any) -> str:
    return text_of(value)[:MOST_CHARACTERS]
