"""This file reads logs by an expression that the operator wrote: its named groups are the fields of a record.

    (?P<time>\\S+ \\S+) (?P<level>\\w+) (?P<message>.*)

An expression that backtracks without end cannot be stopped in Python. So for time and level it sees the beginning of a
record only, and a few records are searched at once.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from itertools import compress, repeat
from operator import is_not, methodcaller
from typing import TYPE_CHECKING, Any, Final

from agent.wire.columns import moments, spread
from agent.wire.format import Columns, Joining, Moment
from agent.wire.records import pieces
from agent.wire.severity import severities_of

if TYPE_CHECKING:
    from agent.batch import Logs

TIMES: Final = ("time", "timestamp")
LEVELS: Final = ("level", "severity")
SEARCHED_BYTES: Final = 16 << 10
AT_ONCE: Final = 256


class Pattern:
    """The format of one expression."""

    joining: Joining | None = None

    def __init__(self, expression: str) -> None:
        self.name = f"regex:{expression}"
        self._pattern = re.compile(expression.encode())
        known = self._pattern.groupindex
        self._time = next((name for name in TIMES if name in known), None)
        self._level = next((name for name in LEVELS if name in known), None)

    def columns(self, batch: Logs, moment: Moment) -> Columns:
        """What the groups for time and level hold; records in which it is not found are not of the format."""
        times = array("q")
        severities: list[bytes] = []
        unparsed = 0
        for records in pieces(batch):
            matches = self._matches(records)
            places = list(map(is_not, matches, repeat(None)))
            found: list[re.Match[bytes]] = list(compress(matches, places))
            unparsed += len(records) - len(found)
            if self._time:
                times.extend(spread(moments(_group(found, self._time), moment), places, 0))
            if self._level:
                severities.append(bytes(spread(severities_of(_group(found, self._level)), places, 0)))
        return Columns(times if self._time else None, b"".join(severities) if self._level else None, unparsed)

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        """The named groups as texts, None for those that took no part."""
        found = self._pattern.search(record)
        if found is None:
            return None
        return {name: _text(value) for name, value in found.groupdict().items()}

    def matches(self, record: bytes) -> bool:
        """Whether the expression is found in it."""
        return self._pattern.search(record, 0, SEARCHED_BYTES) is not None

    def _matches(self, records: Sequence[bytes]) -> list[Any]:
        matches: list[Any] = []
        for start in range(0, len(records), AT_ONCE):
            some = records[start : start + AT_ONCE]
            matches += map(self._pattern.search, some, repeat(0), repeat(SEARCHED_BYTES))
        return matches


def format_of(expression: str) -> Pattern:
    """The format of that expression. Raises re.error for what is none."""
    return Pattern(expression)


def _group(found: Sequence[re.Match[bytes]], name: str) -> list[bytes]:
    """What one group holds in each, empty where it took no part."""
    values: list[Any] = list(map(methodcaller("group", name), found))
    return [value or b"" for value in values] if None in values else values


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
