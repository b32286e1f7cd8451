"""This file asks file systems that another machine or process answers for, and does not wait for long.

A server that is gone leaves the caller inside the kernel, where nothing can end it. So the calls are made on a thread
of their own that nobody joins; one that does not come back keeps its thread and is not asked again until it does.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock

REMOTE_TYPES: Final = re.compile(
    r"(9p|afs|beegfs|ceph|cifs|coda|fuse|gfs2|gpfs|lustre|ncpfs|nfs|ocfs2|orangefs|panfs|smb|virtiofs)"
)
"""How the types of such file systems begin: nfs4, fuse.sshfs, smb3."""
DEADLINE_SECONDS: Final = 1.0
MOST_STUCK: Final = 64
"""Threads that may be stuck; further mounts are not asked at all."""

Answers = dict[str, os.statvfs_result | None]


class _Turn:
    """One thread that asks ``paths`` one after the other; what it has found so far is in ``answers``."""

    def __init__(self, paths: list[str], statvfs: Callable[[str], os.statvfs_result]) -> None:
        self.paths = paths
        self.answers: Answers = {}
        self.done = threading.Event()
        self._statvfs = statvfs
        self._given_up = False
        threading.Thread(target=self._run, name="statvfs", daemon=True).start()

    def give_up(self) -> list[str]:
        """The paths it has not answered; it asks no further one but the one it is at."""
        self._given_up = True
        return [path for path in self.paths if path not in self.answers]

    def _run(self) -> None:
        for path in self.paths:
            if self._given_up:
                break
            try:
                self.answers[path] = self._statvfs(path)
            except OSError:
                self.answers[path] = None
        self.done.set()


class RemoteMounts:
    """Remembers which paths are stuck. A call to ``ask`` takes two deadlines at most, whatever has died."""

    def __init__(
        self,
        clock: Clock,
        deadline_seconds: float = DEADLINE_SECONDS,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._statvfs = statvfs
        self._stuck: dict[str, _Turn] = {}

    def ask(self, paths: list[str]) -> Answers:
        """What statvfs gives for each of ``paths``; None where it fails, or does not come back in time."""
        self._stuck = {path: turn for path, turn in self._stuck.items() if not turn.done.is_set()}
        answers: Answers = dict.fromkeys(paths)
        asked = [path for path in answers if path not in self._stuck]
        if not asked:
            return answers
        turn = _Turn(asked, self._statvfs)
        in_time = turn.done.wait(self._deadline_seconds)
        rest = [] if in_time else turn.give_up()
        answers |= turn.answers
        if rest:
            self._stuck[rest[0]] = turn
            answers |= self._each_alone(rest[1:])
        return answers

    def _each_alone(self, paths: list[str]) -> Answers:
        """Answers of those that stood behind a stuck one: each has a thread, so that one waits for no other."""
        answers: Answers = {}
        room = max(MOST_STUCK - len(self._stuck), 0)
        turns = {path: _Turn([path], self._statvfs) for path in paths[:room]}
        ends = self._clock.monotonic_seconds() + self._deadline_seconds
        for path, turn in turns.items():
            if turn.done.wait(max(ends - self._clock.monotonic_seconds(), 0)):
                answers |= turn.answers
            else:
                self._stuck[path] = turn
        return answers
