"""This file is how much memory a process and its children have to themselves, as the kernel counts it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

_anonymous = re.compile(r"^Anonymous: +(\d+) kB", re.MULTILINE).search


def family(pid: int) -> list[int]:
    """The process and those that come from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def anonymous_kib(pid: int) -> int:
    """Memory that no file stands behind, of all of them together."""
    total = 0
    for each in family(pid):
        found = _anonymous(Path(f"/proc/{each}/smaps_rollup").read_text())
        total += int(found[1]) if found else 0
    return total


@dataclass
class Curve:
    """What was seen, in seconds since the beginning and KiB."""

    began: float = field(default_factory=time.monotonic)
    seen: list[tuple[float, int]] = field(default_factory=list)

    def look(self, pid: int) -> None:
        """Adds what is there now."""
        self.seen.append((time.monotonic() - self.began, anonymous_kib(pid)))

    @property
    def seconds(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self.began

    def middle_kib(self, start: float, end: float) -> int:
        """The median between two moments: one request more or less under way is no growth."""
        there = sorted(kib for at, kib in self.seen if start <= at < end)
        assert there, f"nothing was looked at between {start:g} and {end:g} s"
        return there[len(there) // 2]

    def __str__(self) -> str:
        """Minute by minute: the median, and the most."""
        minutes: dict[int, list[int]] = {}
        for at, kib in self.seen:
            minutes.setdefault(int(at // 60), []).append(kib)
        shown = (f"{minute} min {sorted(each)[len(each) // 2]} {max(each)}" for minute, each in minutes.items())
        return "median and most KiB: " + " · ".join(shown)
