"""This file appends to the agent's own log files, and rotates them: at local midnight and by size, seven days of them.

Its calls block, and one thread makes them all. A line is never written over or cut out again: what a full disk or a
power cut left of one ends with a line break of its own before the next line.

A file may grow to a sixteenth of the bound. Over the bound, the oldest file goes of the kind that takes most: a flood
of application lines costs application lines, and never the audit.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from agent.ownlogs.files import KINDS, Kind, Rotated, current, rotated_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agent.clock import Clock

FILES_IN_BOUND: Final = 16
MODE: Final = 0o640
DIRECTORY_MODE: Final = 0o750


class LogFiles:
    """The files of ``directory``, of at most ``max_bytes`` together, kept for ``days`` days, today included."""

    def __init__(self, directory: Path, clock: Clock, *, days: int, max_bytes: int, zone: tzinfo | None = None) -> None:
        self.directory = directory
        self.trouble: OSError | None = None
        """Why files of an earlier day could not be rotated or let go of."""
        self.file_bytes = max_bytes // FILES_IN_BOUND
        self._rotated_bytes = max_bytes - len(KINDS) * self.file_bytes
        self._days = days
        self._clock = clock
        self._zone = zone
        self._today: date | None = None
        self._began: dict[Kind, date] = {}

    def append(self, kind: Kind, lines: Sequence[bytes]) -> int:
        """Writes the first of ``lines``, as many as the file takes; returns how many. Raises OSError where it is none.

        What it has written is in the file whatever becomes of the process; audit lines also outlive a power cut.
        """
        today = self._day(self._clock.wall_ns() / 1e9)
        if today != self._today:
            self._turn_to(today)
        descriptor, size = self._opened(kind)
        try:
            if size and size + len(lines[0]) > self.file_bytes:
                self._rotate(kind)
                self._prune(today)
                os.close(descriptor)
                descriptor, size = -1, 0
                descriptor, size = self._opened(kind)
            written = _append(descriptor, size, lines[: _fitting(lines, self.file_bytes - size)])
            if kind == "audit":
                os.fdatasync(descriptor)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if not size:
            self._began[kind] = today
        return written

    def _turn_to(self, today: date) -> None:
        """Begins a day: what grew on another one is that day's file, and what is too old goes. Where that cannot be,
        lines are written all the same, as far as the bound lets them, and it is tried again with the next."""
        self.trouble = None
        for kind in KINDS:
            with self._tried():
                if (self.directory / current(kind)).stat().st_size and self._day_of(kind) < today:
                    self._rotate(kind)
        with self._tried():
            self._prune(today)
        self._today = None if self.trouble else today

    @contextmanager
    def _tried(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            pass
        except OSError as error:
            self.trouble = error

    def _day_of(self, kind: Kind) -> date:
        """The day of a file's first line; of one that an earlier run left, the day of its last."""
        day = self._began.get(kind) or self._day((self.directory / current(kind)).stat().st_mtime)
        return self._began.setdefault(kind, day)

    def _rotate(self, kind: Kind) -> None:
        day = self._day_of(kind).isoformat()
        taken = [each.number for each in rotated_in(self.directory, kind) if each.day == day]
        name = Rotated(day, max(taken) + 1 if taken else 0, kind).name
        (self.directory / current(kind)).rename(self.directory / name)
        del self._began[kind]

    def _prune(self, today: date) -> None:
        oldest = (today - timedelta(days=self._days - 1)).isoformat()
        kept: list[tuple[Rotated, int]] = []
        for each in rotated_in(self.directory):
            path = self.directory / each.name
            with suppress(FileNotFoundError):
                if each.day < oldest:
                    path.unlink()
                else:
                    kept.append((each, path.stat().st_size))
        taken = Counter[Kind]()
        for each, size in kept:
            taken[each.kind] += size
        while taken.total() > self._rotated_bytes:
            greedy = taken.most_common(1)[0][0]
            each, size = next(entry for entry in kept if entry[0].kind == greedy)
            (self.directory / each.name).unlink(missing_ok=True)
            kept.remove((each, size))
            taken[greedy] -= size

    def _opened(self, kind: Kind) -> tuple[int, int]:
        """A descriptor of the file that grows, and its size."""
        path = self.directory / current(kind)
        try:
            descriptor = _open(path)
        except FileNotFoundError:
            self.directory.mkdir(mode=DIRECTORY_MODE)
            descriptor = _open(path)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a file", str(path))
        return descriptor, found.st_size

    def _day(self, seconds: float) -> date:
        return datetime.fromtimestamp(seconds, self._zone).date()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, MODE)


def _fitting(lines: Sequence[bytes], room_bytes: int) -> int:
    """How many of ``lines`` fit, at least one."""
    for number, line in enumerate(lines):
        room_bytes -= len(line)
        if room_bytes < 0:
            return max(number, 1)
    return len(lines)


def _append(descriptor: int, size: int, lines: Sequence[bytes]) -> int:
    """How many of ``lines`` are in the file as a whole. Raises OSError where it is none."""
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    left = os.write(descriptor, b"".join((b"\n" if torn else b"", *lines))) - torn
    for number, line in enumerate(lines):
        left -= len(line)
        if left < 0:
            if number == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return number
    return len(lines)
