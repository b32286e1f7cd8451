"""This file tells the format of a file by its first lines.

Each line that looks as if it began a record has a vote for every format it is surely of. The format that a great
majority is of wins; where two have as many votes, the one that stands first in the catalogue does. Formats that join
lines need fewer votes: what goes on a record before may look like anything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from agent.wire.formats import FORMATS, format_of
from agent.wire.joining import GOES_ON

SAMPLE_LINES: Final = 100
SAMPLE_BYTES: Final = 64 << 10
MAJORITY: Final = 0.8
MAJORITY_JOINING: Final = 0.5
NONE: Final = "none"

_goes_on: Final = re.compile(GOES_ON + rb"|$").match


def first_lines(data: bytes, start: int, end: int, most: int = SAMPLE_LINES) -> list[bytes]:
    """At most ``most`` of the first lines of ``data[start:end]`` that look as if a record began there."""
    lines = data[start : min(end, start + SAMPLE_BYTES)].split(b"\n", 4 * most)
    del lines[-1]  # cut, or empty behind the last newline
    return [line for line in lines if _goes_on(line) is None][:most]


class Votes:
    """Which formats the lines seen so far are of."""

    __slots__ = ("by_name", "lines")

    def __init__(self) -> None:
        self.lines = 0
        self.by_name: Counter[str] = Counter()

    @property
    def enough(self) -> bool:
        return self.lines >= SAMPLE_LINES

    def add(self, lines: Sequence[bytes]) -> None:
        """Lets so many more lines vote."""
        self.lines += len(lines)
        for name in FORMATS:
            self.by_name[name] += sum(map(format_of(name).matches, lines))

    def with_(self, lines: Sequence[bytes]) -> Votes:
        """As if these lines had voted too."""
        votes = Votes()
        votes.lines, votes.by_name = self.lines, self.by_name.copy()
        votes.add(lines)
        return votes

    def winner(self) -> str:
        """The name of the format, or ``none``."""
        best = max(FORMATS, key=lambda name: self.by_name[name])
        majority = MAJORITY if format_of(best).joining is None else MAJORITY_JOINING
        return best if self.lines and self.by_name[best] >= majority * self.lines else NONE
