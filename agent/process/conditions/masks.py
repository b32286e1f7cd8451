"""This file tells of which records conditions hold: columns in, a mask out.

A comparison is made once for each different value, and not for each record. Of a field that is not there no comparison
holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from agent.process.conditions.pattern import Pattern, ends_of
from agent.process.fields.values import LEVEL, number_of, text_of
from agent.process.selection import ALL, INVERTED, NONE, both, counted, either, in_parts
from agent.wire.severity import LEVELS, level_of

if TYPE_CHECKING:
    from agent.process.conditions.options import ConditionOptions
    from agent.process.fields.reader import Table

Test = Callable[[Any], bool]
Mask = Callable[["Table"], bytes]


class Conditions:
    """Conditions that must hold together, or one of which must."""

    def __init__(self, options: Sequence[ConditionOptions], match: str) -> None:
        wanted = sorted(
            options, key=lambda each: each.field is not None and each.field != LEVEL
        )  # the cheap ones first
        self._masks = [_condition(each) for each in wanted]
        self._match = match
        self.fields = [each.field for each in options if each.field is not None]

    def mask(self, table: Table) -> bytes:
        """For each record 1 where they hold; where there are none they hold of everything."""
        count = table.batch.count
        if not self._masks:
            return ALL * count
        joined, decided = (both, NONE) if self._match == "all" else (either, ALL)
        found = self._masks[0](table)
        for mask in self._masks[1:]:
            if found == decided * count:
                return found
            found = joined(found, mask(table))
        return found


def _condition(options: ConditionOptions) -> Mask:
    name = options.field
    masks: list[Mask] = []
    if name is None:
        if options.contains is not None:
            masks.append(_containing(options.contains.encode()))
        if options.matches is not None:
            masks.append(Pattern(options.matches).mask)
    else:
        masks.append(_of_column(name, list(_tests(options))))

    def mask(table: Table) -> bytes:
        found = reduce(both, (each(table) for each in masks))
        return found.translate(INVERTED) if options.not_ else found

    return mask


def _of_column(name: str, tests: Sequence[Test]) -> Mask:
    by_severity = bytes(all(test(level_of(severity) or None) for test in tests) for severity in range(256))

    def mask(table: Table) -> bytes:
        if table.same_everywhere(name):
            value = table.label(name)
            return (ALL if all(test(value) for test in tests) else NONE) * table.batch.count
        severities = table.batch.severities
        if name == LEVEL and severities is not None and 0 not in severities:
            return severities.translate(by_severity)
        values = table.column(name)
        verdicts = {value: all(test(value) for test in tests) for value in counted(values)}
        return b"".join(bytes(map(verdicts.__getitem__, some)) for some in in_parts(values))

    return mask


def _containing(text: bytes) -> Mask:
    def mask(table: Table) -> bytes:
        ends = ends_of(table.batch.block, text)
        if ends == []:
            return bytes(table.batch.count)
        return b"".join(bytes([text in record for record in some]) for some in in_parts(table.records))

    return mask


def _tests(options: ConditionOptions) -> Iterator[Test]:
    """What each comparison of a condition asks of one value."""
    if options.exists is not None:
        wanted = options.exists
        yield lambda value: (value is not None) is wanted
    if options.equals is not None:
        yield _one_of((options.equals,))
    if options.in_ is not None:
        yield _one_of(options.in_)
    if options.contains is not None:
        text = options.contains
        yield lambda value: value is not None and text in text_of(value)
    if options.matches is not None:
        search = Pattern(options.matches).search
        yield lambda value: value is not None and search(text_of(value)) is not None
    rank = _level if options.field == LEVEL else number_of
    if options.at_least is not None:
        least = rank(options.at_least)
        yield lambda value: (found := rank(value)) is not None and least is not None and found >= least
    if options.below is not None:
        limit = rank(options.below)
        yield lambda value: (found := rank(value)) is not None and limit is not None and found < limit


def _one_of(wanted: Sequence[str | float | bool]) -> Test:
    """Numbers are compared as numbers, also where the record has them as text; everything else as text."""
    numbers: Final = {float(each) for each in wanted if not isinstance(each, str | bool)}
    words = {each if isinstance(each, str) else str(each).lower() for each in wanted if isinstance(each, str | bool)}

    def test(value: Any) -> bool:
        if value is None:
            return False
        return text_of(value) in words or (bool(numbers) and number_of(value) in numbers)

    return test


_RANKS: Final = {name: float(place) for place, name in enumerate(LEVELS)}


def _level(value: Any) -> float | None:
    return _RANKS.get(value) if isinstance(value, str) else number_of(value)
