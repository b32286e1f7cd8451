"""This file writes the agent's own lines to its log files, on a thread of its own: nobody waits for a slow disk.

What the thread does not take in time, or the disk not at all, is counted by file, said once on standard error, and
written about in the files when they can be written again. Loaded only where ``[agent] log_files`` is set.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from agent.ownlogs.files import KINDS, Kind, current
from agent.ownlogs.lines import Repeating
from agent.ownlogs.rotation import LogFiles
from agent.wire.ownline import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from agent.clock import Clock
    from agent.host import Host
    from agent.options import AgentOptions
    from agent.ownlogs.lines import OwnLogs
    from agent.ownmetrics import Meter

log = logging.getLogger("telemetry_agent.ownlogs")

MOST_WAITING_BYTES: Final = 1 << 20
STEP_BYTES: Final = 256 << 10
AGAIN_SECONDS: Final = 10.0
CLOSING_SECONDS: Final = 1.0
OF_A_COMPONENT: Final[Mapping[str, tuple[Kind, ...]]] = {"audit": ("audit",), "performance": ("performance",)}
OF_A_LEVEL: Final[Mapping[str, tuple[Kind, ...]]] = dict.fromkeys(("error", "critical"), ("application", "errors"))
OF_THE_REST: Final[tuple[Kind, ...]] = ("application",)
NEXT_STEP: Final = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "its user's quota is used up",
    errno.ENOENT: "create the directory for the agent's user",
    errno.EACCES: "let the agent's user write there",
    errno.EPERM: "let the agent's user write there",
    errno.EROFS: "it is mounted read-only; under systemd set LogsDirectory= or ReadWritePaths= in the unit",
}


class Writer:
    """The thread, and what waits for it. ``take`` may be called from anywhere and never blocks."""

    def __init__(self, files: LogFiles, clock: Clock, meter: Meter) -> None:
        self._files = files
        self._clock = clock
        self._meter = meter
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._lines: SimpleQueue[tuple[Kind, bytes] | None] = SimpleQueue()
        self._failing, self._rotating = (Repeating(log, clock.monotonic_seconds) for _ in range(2))
        self._again: dict[Kind, float] = {}
        self._lost: Counter[Kind] = Counter()
        self._told_seconds = float("-inf")
        self._over = False
        self._thread = threading.Thread(target=self._turn, name="own logs", daemon=True)
        self._thread.start()

    def take(self, entry: Mapping[str, Any]) -> None:
        """Hands a line, in the form of agent.wire.ownline, to the files it belongs in."""
        line = as_json(entry).encode("utf-8", "replace") + b"\n"
        for kind in OF_A_COMPONENT.get(entry["component"]) or OF_A_LEVEL.get(entry["level"], OF_THE_REST):
            with self._lock:
                fits = len(line) <= min(MOST_WAITING_BYTES - self._waiting_bytes, self._files.file_bytes)
                self._waiting_bytes += len(line) if fits else 0
            if fits:
                self._lines.put((kind, line))
            else:
                self._lose(kind, 1)

    def close(self) -> None:
        """Writes what waits, and ends the thread; a disk that hangs holds it up for CLOSING_SECONDS."""
        self._lines.put(None)
        self._thread.join(CLOSING_SECONDS)

    def _turn(self) -> None:
        while not self._over:
            for kind, lines in self._step().items():
                self._write(kind, lines)
            self._tell()

    def _step(self) -> dict[Kind, list[bytes]]:
        """Some of the lines that wait, by file; waits for the first."""
        step: defaultdict[Kind, list[bytes]] = defaultdict(list)
        size = 0
        item = self._lines.get()
        while item is not None:
            step[item[0]].append(item[1])
            size += len(item[1])
            if size > STEP_BYTES:
                break
            try:
                item = self._lines.get_nowait()
            except Empty:
                break
        else:
            self._over = True
        with self._lock:
            self._waiting_bytes -= size
        return step

    def _write(self, kind: Kind, lines: list[bytes]) -> None:
        if self._clock.monotonic_seconds() < self._again.get(kind, 0.0):
            self._lose(kind, len(lines))
            return
        done = 0
        try:
            while done < len(lines):
                done += self._files.append(kind, lines[done:])
        except OSError as error:
            self._lose(kind, len(lines) - done)
            self._fail(kind, error)
        else:
            self._again.pop(kind, None)
            self._mind_rotation()

    def _mind_rotation(self) -> None:
        error = self._files.trouble
        if error is None:
            self._rotating.recovered("the log files are rotated again")
            return
        why = (error.strerror or str(error)).lower()
        self._rotating.failed(why, f"{error.filename}: {why}; log files of another day could not be rotated")

    def _fail(self, kind: Kind, error: OSError) -> None:
        self._again[kind] = self._clock.monotonic_seconds() + AGAIN_SECONDS
        why = (error.strerror or str(error)).lower()
        step = NEXT_STEP.get(error.errno or 0, "see that the agent's user can write there")
        self._failing.failed(
            why,
            f"the log files in {self._files.directory} cannot be written ({why}): {step}; lines are counted, are on "
            f"standard error as ever, and it is tried again every {AGAIN_SECONDS:g} s",
        )

    def _tell(self) -> None:
        """Says in the files what they miss."""
        now = self._clock.monotonic_seconds()
        if self._again or not self._lost or now - self._told_seconds < AGAIN_SECONDS:
            return
        self._told_seconds = now
        with self._lock:
            lost, self._lost = self._lost, Counter()
        missing = ", ".join(f"{current(kind)} {lines}" for kind, lines in sorted(lost.items()))
        if not self._failing.recovered(f"the log files are written again; lines they miss: {missing}"):
            log.warning("the disk is too slow for the log files; lines they miss: %s", missing)

    def _lose(self, kind: Kind, lines: int) -> None:
        with self._lock:
            self._lost[kind] += lines
        self._meter.add("telemetry_agent_log_files_lost_total", lines, (kind,))


@contextmanager
def writing(
    logs: OwnLogs, directory: Path, options: AgentOptions, host: Host, clock: Clock, meter: Meter
) -> Iterator[Writer]:
    """Writes everything that ``logs`` is given to files in ``directory`` as well, until it is left."""
    files = LogFiles(directory, clock, days=options.log_days, max_bytes=options.log_max_bytes)
    own = {os.path.join(os.path.realpath(directory), current(kind)) for kind in KINDS}
    host.written.update(own)
    writer = Writer(files, clock, meter)
    logs.beside = writer.take
    try:
        yield writer
    finally:
        logs.beside = None
        writer.close()
        host.written.difference_update(own)
