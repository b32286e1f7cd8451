"""This file knows which records have been read, by the records themselves and not by how many there are.

What was read twice makes up for none that was not. A record was read if it is in the receiver's journal, waits in the
spool, or was refused and is kept there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

Line = tuple[str, int]
MOST_DIGITS = 10
CHUNK_BYTES = 16 << 20
BEFORE = {"plain": rb"\t", "json": rb'"msg":"', "java": rb"\[main\] "}
"""What stands in the journal before the name in a record of each shape: a search begins with bytes that are known."""

_WHO = re.compile(rb"([a-e]) (\d+)$")


class Taken:
    """The records of each writer that are known to have been read; of the journal only what is new is looked at."""

    def __init__(self, journal: Path, shape: str) -> None:
        self._journal = journal
        self._find = re.compile(BEFORE[shape] + rb"([a-e]) (\d+) at \d").findall
        self._at = 0
        self._have: dict[str, bytearray] = {}

    def journal(self) -> None:
        """Takes in what the receiver has stored since the last time, in whole lines."""
        with self._journal.open("rb") as file:
            file.seek(self._at)
            while end := (chunk := file.read(CHUNK_BYTES)).rfind(b"\n") + 1:
                self._at += end
                file.seek(self._at)
                self.add((name.decode(), int(number)) for name, number in self._find(chunk, 0, end))

    def add(self, records: Iterable[Line]) -> None:
        for name, number in records:
            have = self._have.setdefault(name, bytearray())
            if number >= len(have):
                have.extend(bytes(number + 1 - len(have)))
            have[number] = 1

    def lacks(self, written: dict[str, int]) -> bool:
        """Whether some of the first so many records of some writer are not known to have been read."""
        return any(self._have.get(name, b"").count(1, 0, count) < count for name, count in written.items())


def said(lines: Iterable[bytes]) -> Iterator[Line]:
    """Writer and number of the record in each of the lines that the spool writes; the first " at " follows them."""
    for line in lines:
        at = line.find(b" at ")
        found = _WHO.search(line[max(0, at - MOST_DIGITS - 2) : at]) if at >= 0 else None
        if found is not None:
            yield found[1].decode(), int(found[2])
