"""This file judges what arrived: every line, unchanged, at its time, in order.

A line that is not there must be one that the ledger calls rejected or dropped; a line that is there twice must be the
same in every byte, and have the same time, unless positions were lost with a damaged spool.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.writer import pad_of, poisonous

_line = re.compile(r"([a-z]+) (\d+) at (\d+\.\d+) (.*)", re.S).fullmatch

Line = tuple[str, int]


@dataclass
class Verdict:
    """What was found. ``changed`` came again with another time or other bytes; ``strange`` was never written.

    ``unordered`` went back in the time of its stream, which Loki may refuse; ``turned`` came after a later line of its
    writer, as the rest of a file may that was rotated away while nobody looked.
    """

    written: int = 0
    seen: int = 0
    repeats: int = 0
    missing: list[Line] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    unordered: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    poison: int = 0
    poison_seen: int = 0

    @property
    def lost(self) -> list[Line]:
        """Lines that are missing and are no poison."""
        return [line for line in self.missing if not poisonous(*line)]

    def __str__(self) -> str:
        return (
            f"{self.written:,} lines written, {self.seen:,} at the receiver, {len(self.lost):,} missing, "
            f"{self.poison:,} refused by design, {self.repeats:,} repeats, {len(self.changed):,} of them changed, "
            f"{len(self.strange)} strange, {len(self.unordered)} out of order, {len(self.turned)} turned"
        )


def verdict(journal: Path, written: dict[str, int]) -> Verdict:
    """What became of the lines, by the receiver's journal."""
    found = Verdict(written=sum(written.values()))
    first: dict[Line, tuple[str, int, str]] = {}
    newest: Counter[str] = Counter()
    numbers: dict[tuple[str, str], int] = {}
    with journal.open(newline="\n", encoding="utf-8") as entries:
        for entry in entries:
            stream, time_ns, text = entry.rstrip("\n").split("\t", 2)
            match = _line(text)
            if match is None or match[4] != pad_of(match[1], int(match[2])) or int(match[2]) >= written[match[1]]:
                found.strange.append(text[:200])
                continue
            line = match[1], int(match[2])
            arrived = stream, int(time_ns), text
            if line in first:
                found.repeats += 1
                if first[line] != arrived:
                    found.changed.append(f"{first[line][:2]} {arrived[:2]} {text[:60]}")
                continue
            first[line] = arrived
            if arrived[1] <= newest[stream]:
                found.unordered.append(f"time of {text[:60]} in {stream}: {arrived[1]} after {newest[stream]}")
            newest[stream] = max(newest[stream], arrived[1])
            if numbers.get((stream, line[0]), -1) > line[1]:
                found.turned.append(f"{text[:60]} in {stream} after {numbers[stream, line[0]]}")
            numbers[stream, line[0]] = line[1]
    found.seen = len(first)
    for name, count in written.items():
        found.missing += [(name, number) for number in range(count) if (name, number) not in first]
        found.poison += sum(poisonous(name, number) for number in range(count))
    found.poison_seen = sum(poisonous(*line) for line in first)
    return found
