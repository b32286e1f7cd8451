"""This file tells the format of a file by its first lines.

Each line that looks as if it began a record has a vote for every format it is surely of. The format that a great
majority is of wins; where two have as many votes, the one that stands first in the catalogue does. Formats that join
lines need fewer votes: what goes on a record before may look like anything. Where no format wins, many a program just
writes a time and a level its own way: that is read by the one of ``ALIKE`` that makes most of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Final

from agent.batch import Logs
from agent.wire.format import Moment
from agent.wire.formats import FORMATS, format_of
from agent.wire.joining import GOES_ON, unless_going_on

if TYPE_CHECKING:
    from agent.wire.format import Format

SAMPLE_LINES: Final = 100
SAMPLE_BYTES: Final = 64 << 10
MAJORITY: Final = 0.8
MAJORITY_JOINING: Final = 0.5
NONE: Final = "none"
ALIKE: Final = ("java", "python", "node", "dotnet", "ruby", "syslog")

_BEGINS: Final = unless_going_on().starts
_goes_on: Final = re.compile(GOES_ON + rb"|$").match


def first_lines(data: bytes, start: int, end: int, most: int = SAMPLE_LINES) -> list[bytes]:
    """At most ``most`` of the first lines of ``data[start:end]`` that look as if a record began there."""
    sample = data[start : min(end, start + SAMPLE_BYTES)]
    records = _BEGINS.split(sample[: max(0, sample.rfind(b"\n"))], most)[:most]
    lines = [record.partition(b"\n")[0] for record in records]
    return [line for line in lines if _goes_on(line) is None]


class Votes:
    """Which formats the lines seen so far are of."""

    __slots__ = ("alike", "lines", "sure")

    def __init__(self) -> None:
        self.lines = 0
        self.sure: dict[str, float] = {}
        self.alike: dict[str, float] = {}

    @property
    def enough(self) -> bool:
        return self.lines >= SAMPLE_LINES

    def add(self, lines: Sequence[bytes]) -> None:
        """Lets so many more lines vote."""
        self.lines += len(lines)
        for name in FORMATS:
            _count(self.sure, name, sum(map(format_of(name).matches, lines)))
        if lines and self._best(self.sure) == NONE:
            for name in ALIKE:
                surely = self.sure.get(name, 0) / SAMPLE_LINES
                _count(self.alike, name, _readable(format_of(name), lines) + surely)

    def with_(self, lines: Sequence[bytes]) -> Votes:
        """As if these lines had voted too."""
        votes = Votes()
        votes.lines, votes.sure, votes.alike = self.lines, self.sure.copy(), self.alike.copy()
        votes.add(lines)
        return votes

    def winner(self) -> str:
        """The name of the format, or ``none``."""
        best = self._best(self.sure)
        return best if best != NONE else self._best(self.alike, ALIKE)

    def _best(self, votes: Mapping[str, float], ranked: Iterable[str] = FORMATS) -> str:
        if not votes or not self.lines:
            return NONE
        best = max((name for name in ranked if name in votes), key=votes.__getitem__)
        majority = MAJORITY if format_of(best).joining is None else MAJORITY_JOINING
        return best if votes[best] >= majority * self.lines else NONE


def _count(votes: dict[str, float], name: str, more: float) -> None:
    """Adds votes; only what has some takes memory, for each of thousands of files."""
    if more:
        votes[name] = votes.get(name, 0) + more


def _readable(of: Format, lines: Sequence[bytes]) -> float:
    """Of how many of the lines time or level is read; a level counts for a little more."""
    block = b"".join(line + b"\n" for line in lines)
    columns = of.columns(Logs("", (), block, len(lines)), Moment(0, UTC))
    return len(lines) - columns.unparsed + (sum(map(bool, columns.severities or b"")) / SAMPLE_LINES)
