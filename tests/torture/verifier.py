"""This file judges what arrived: every record, unchanged, at its time, in order.

A record that is not there must be one that the ledger calls rejected or dropped; one that is there twice must be the
same in every byte, and have the same time, unless positions were lost with a damaged spool.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.lines import poisonous, told_by

Line = tuple[str, int]
FOLDED = str.maketrans("\n", "\x1f")
"""How a record of several lines stands in one line of the journal."""

UNFOLDED = str.maketrans("\x1f", "\n")


@dataclass
class Verdict:
    """What was found. ``changed`` came again with another time or other bytes; ``strange`` was never written.

    ``unordered`` came once and went back in the time of its stream, which Loki may refuse, or shares one; ``turned``
    came once and after a later line of its writer, as the rest of a file may that was rotated away while nobody
    looked; ``untimely`` has another time than it says. ``resent`` counts how often something began to come again.
    """

    written: int = 0
    seen: int = 0
    repeats: int = 0
    resent: int = 0
    missing: list[Line] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    unordered: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    untimely: list[str] = field(default_factory=list)
    poison: int = 0
    poison_seen: int = 0

    @property
    def lost(self) -> list[Line]:
        """Lines that are missing and are no poison."""
        return [line for line in self.missing if not (self.poison and poisonous(*line))]

    def __str__(self) -> str:
        return (
            f"{self.written:,} lines written, {self.seen:,} at the receiver, {len(self.lost):,} missing, "
            f"{self.poison:,} refused by design, {self.repeats:,} repeats in {self.resent} goes, "
            f"{len(self.changed):,} of them changed, {len(self.strange)} strange, {len(self.unordered)} out of order, "
            f"{len(self.turned)} turned, {len(self.untimely)} untimely"
        )


class Times:
    """Whether times of streams are as they have to be: rising where it is the time of reading, else only distinct."""

    def __init__(self, shape: str) -> None:
        self._rising = shape == "plain"
        self._newest: Counter[str] = Counter()
        self._taken: dict[str, set[int]] = {}

    def allows(self, stream: str, time_ns: int) -> bool:
        if self._rising:
            allowed = time_ns > self._newest[stream]
            self._newest[stream] = max(self._newest[stream], time_ns)
            return allowed
        taken = self._taken.setdefault(stream, set())
        allowed = time_ns not in taken
        taken.add(time_ns)
        return allowed


MOST_MOVED_NS = 50_000_000
"""A record is moved by nanoseconds where others have its time; it says its own in milliseconds."""


def entries(journal: Path) -> Iterator[tuple[str, int, str]]:
    """Stream, time and record of each entry."""
    with journal.open(newline="\n", encoding="utf-8") as lines:
        for line in lines:
            stream, time_ns, text = line.rstrip("\n").split("\t", 2)
            yield stream, int(time_ns), text.translate(UNFOLDED)


def arrivals(journal: Path, written: dict[str, int], shape: str) -> dict[str, bytearray]:
    """How often each record came: 0, 1 or 2 for more."""
    often = {name: bytearray(count) for name, count in written.items()}
    for _, _, text in entries(journal):
        told = told_by(shape, text)
        if told is not None and told[1] < written[told[0]]:
            often[told[0]][told[1]] = min(2, often[told[0]][told[1]] + 1)
    return often


def verdict(journal: Path, written: dict[str, int], shape: str = "plain", *, poison: bool = True) -> Verdict:
    """What became of the records, by the receiver's journal, which refuses those that are ``poison`` or takes all.

    Of each record eight bytes are kept, for an hour of them has to fit.
    """
    found = Verdict(written=sum(written.values()))
    first = {name: array("q", bytes(8 * count)) for name, count in written.items()}
    often = arrivals(journal, written, shape)
    times, numbers, again = Times(shape), dict[tuple[str, str], int](), False
    for stream, time_ns, text in entries(journal):
        told = told_by(shape, text)
        if told is None or told[1] >= written[told[0]]:
            found.strange.append(text[:200])
            continue
        name, number, at = told
        arrived, before = hash((stream, time_ns, text)) or 1, first[name][number]
        if before:
            found.repeats += 1
            found.resent += not again
            again = True
            if before != arrived:
                found.changed.append(f"{stream} {time_ns} {text[:60]}")
            continue
        again = False
        first[name][number] = arrived
        found.seen += 1
        found.poison_seen += poison and poisonous(name, number)
        if shape != "plain" and abs(time_ns - at * 1e9) > MOST_MOVED_NS:
            found.untimely.append(f"{text[:60]} in {stream} at {time_ns}")
        if often[name][number] > 1:
            continue  # a held lane sends a record ahead of its turn, and with its batch again
        if not times.allows(stream, time_ns):
            found.unordered.append(f"{text[:60]} in {stream} at {time_ns}")
        if numbers.get((stream, name), -1) > number:
            found.turned.append(f"{text[:60]} in {stream} after {numbers[stream, name]}")
        numbers[stream, name] = number
    for name, count in written.items():
        found.missing += [(name, number) for number in range(count) if not first[name][number]]
        found.poison += poison and sum(poisonous(name, number) for number in range(count))
    return found
