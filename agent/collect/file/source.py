"""This file is the file source: it follows log files through rotation, truncation, deletion and restarts.

One thread of its own does all that touches the disk, one step at a time: look for what changed, read one block.
The loop only waits: for inotify, or for the next look that is due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.batch import Batch, Labels, Logs, Origin, Position, labels_of
from agent.clock import now as time_now
from agent.collect.file.faults import Faults, printable
from agent.collect.file.follow import Followed
from agent.collect.file.parse import formats, parser_of, positions_of_files, stream_again
from agent.collect.file.reread import origin_of, parse_key, read_again
from agent.collect.file.rotation import SpoolGuard
from agent.collect.file.scan import Scan
from agent.collect.file.tail import Piece, Tail
from agent.collect.file.turns import Turns
from agent.collect.file.watch import Watch, next_step, open_watch
from agent.wire.encoding import encoding_of
from agent.wire.lines import NEWLINE
from agent.worker import Worker

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.collect.file.options import FileOptions
    from agent.collect.file.parse import Reading
    from agent.contract import Context

log = logging.getLogger("telemetry_agent.collect")

WAKE_GAP_SECONDS = 0.1
"""Least time between two wakes by inotify: what is written in between is read together."""
RESCAN_SHARE = 20
POLL_SHARE = 50
WATCHED_SHARE = 500
"""A look at all files may take one part in so many of the time: when names change, without and with inotify."""
CLOSE_SECONDS = 1.0


class FileSource:
    """Reads the files of one ``[collect.file]`` table. ``step`` does the work; ``batches`` calls it on the worker."""

    def __init__(
        self,
        options: FileOptions,
        context: Context,
        worker: Worker,
        watch: Watch | None,
        reading: Reading | None = None,
    ) -> None:
        self._options = options
        self._context = context
        self._clock = context.clock
        self._worker = worker
        self._watch = watch
        self._watch_fault = ""
        self._guard = SpoolGuard(context.host.spool_dir, context.host.written)
        self._faults = Faults(context.name, context.meter)
        self._followed = Followed(options, self._guard, self._faults)
        self._reading = reading
        self._parser = reading or parser_of(options, context)
        known = positions_of_files(self._parser, context.positions)
        self._scan = Scan(options, self._followed, known, first_start=context.first_start)
        found = None if reading is None else reading.labels
        self._turns = Turns(options, self._followed, self._faults, self._parser, found)
        self._next_scan = self._soonest_scan = self._woken = self._clock.monotonic_seconds()
        self._labels = reading.labels if reading is not None else lru_cache(maxsize=1024)(self._labels_of_path)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        while True:
            batch = await self._worker.run(self.step)
            if batch is not None:
                yield batch
            else:
                await self._rest()

    async def reread(self, origin: Origin) -> Logs | None:
        """The lines at ``origin`` as they were handed on, or None where they no longer exist."""
        return await self._worker.run(self._again, origin)

    def _again(self, origin: Origin) -> Logs | None:
        self._scan.load()
        encoding = encoding_of(self._options.encoding)
        block = read_again(origin, sorted(self._followed.directories), self._guard, encoding)
        if block is None:
            return None
        key = parse_key(origin.key)[0]
        labels = self._labels(self._followed.path_of(key))
        logs = Logs(self._context.name, labels, block, block.count(NEWLINE), origin=origin)
        tail = next((tail for tail in self._followed.tails.values() if tail.key == key), None)
        before = tail.stream if tail is not None else None
        reading = self._reading
        stream = reading.again() if reading is not None else stream_again(self._options, self._context, before)
        return logs if stream is None else replace(stream.read(logs, time_now(self._clock)), positions=())

    def status(self) -> dict[str, Any]:
        """What /status shows: how many files, how far behind, what cannot be read."""
        tails = list(self._followed.tails.values())
        return {
            "files": len(tails),
            "files_open": len(self._followed.open_files),
            "files_left_out": self._followed.files_left_out,
            "files_left_alone": self._followed.files_left_alone,
            "archives_waiting": len(self._followed.archives),
            "files_unreadable": self._faults.shown(),
            "behind_bytes": sum(tail.unread_bytes for tail in tails),
            "directories": len(self._followed.directories),
            **formats(tails),
            "watching": "inotify" if self._watched else "polling",
        }

    def step(self) -> Logs | None:
        """Takes note of what happened, scans when a scan is due, reads one block; None when there is nothing."""
        self._notice()
        if self._clock.monotonic_seconds() >= self._next_scan:
            self._look()
        now = time_now(self._clock)
        turn = self._turns.next(now)
        if self._followed.rescan:
            self._next_scan = min(self._next_scan, self._soonest_scan)
        pending = self._followed.pending
        if turn is None:
            return self._batch(Logs(self._context.name, self._labels(""), b"", 0)) if pending else None
        return self._batch(self._logs(*turn, now), turn[0])

    def close(self) -> None:
        """Closes every descriptor; runs where ``step`` runs."""
        self._followed.open_files.close_all()
        self._followed.archives.close()
        if self._watch is not None:
            self._watch.close()

    @property
    def _watched(self) -> bool:
        return self._watch is not None and self._watch.missing is None

    def _notice(self) -> None:
        if self._watch is None:
            return
        changes = self._watch.drain()
        if changes.overflowed:
            self._faults.overflowed()
        self._followed.written(changes.written)
        if self._scan.wanted(changes.renamed) or changes.directories or changes.overflowed:
            self._next_scan = min(self._next_scan, self._soonest_scan)

    def _look(self) -> None:
        """Looks at all files; once more where a directory was not watched before, for what came in between."""
        started = self._clock.monotonic_seconds()
        self._scan.run(time_now(self._clock))
        if self._watch is not None and self._watch.cover(self._followed.directories):
            started = self._clock.monotonic_seconds()  # the first one also takes in what it finds: that is no measure
            self._scan.run(time_now(self._clock))
            self._watch.cover(self._followed.directories)
        self._say_watch()
        ended = self._clock.monotonic_seconds()
        cost = ended - started
        share = WATCHED_SHARE if self._watched else POLL_SHARE
        self._next_scan = ended + max(self._options.poll_seconds, cost * share)
        self._soonest_scan = ended + max(WAKE_GAP_SECONDS, cost * RESCAN_SHARE)
        files = len(self._followed.tails)
        self._context.meter.set("telemetry_agent_files_open", files, (self._context.name,))

    def _say_watch(self) -> None:
        missing = self._watch.missing if self._watch is not None else None
        fault = "" if missing is None else f"{missing.strerror or type(missing).__name__}; {next_step(missing)}"
        if missing is not None and fault != self._watch_fault:
            log.warning(
                "cannot watch %s: %s. Until then all files are looked at every %g s",
                printable(missing.filename or "every directory"),
                fault,
                self._options.poll_seconds,
                extra={"context": {"source": self._context.name}},
            )
        self._watch_fault = fault

    async def _rest(self) -> None:
        """Waits until something happened or a look is due."""
        clock = self._clock
        soonest = min(self._next_scan, self._turns.due_seconds())
        waits = [asyncio.ensure_future(clock.sleep(max(0.0, soonest - clock.monotonic_seconds())))]
        if self._watch is not None:
            waits.append(asyncio.ensure_future(self._watch.stirred()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        gap = self._woken + WAKE_GAP_SECONDS - clock.monotonic_seconds()
        if gap > 0 and clock.monotonic_seconds() < soonest:
            await clock.sleep(gap)
        self._woken = clock.monotonic_seconds()

    def _logs(self, tail: Tail, piece: Piece, now: Time) -> Logs:
        cut = {0: (("cut_bytes", str(piece.cut_bytes)),)} if piece.lines_cut else {}
        origin = origin_of(tail, piece) if piece.count else None
        labels = self._labels(tail.path)
        logs = Logs(self._context.name, labels, piece.block, piece.count, metadata=cut, origin=origin)
        return logs if tail.stream is None else tail.stream.read(logs, now)

    def _batch(self, logs: Logs, tail: Tail | None = None) -> Logs:
        """The batch with every position that has changed."""
        pending = self._followed.pending
        if tail is not None:
            pending[tail.key] = tail.cursor().encode()
        positions = tuple(Position(key, value) for key, value in pending.items())
        pending.clear()
        return replace(logs, positions=(*logs.positions, *positions))

    def _labels_of_path(self, path: str) -> Labels:
        context = self._context
        ours = {"source": context.name, "filename": printable(path), "host": context.host.hostname}
        return labels_of(context.labels, self._options.labels, ours)


def watch_of(options: FileOptions, context: Context) -> Watch | None:
    """What tells of changes; None, which is said, where the kernel gives none."""
    try:
        return open_watch()
    except OSError as error:
        log.warning(
            "no inotify: %s; %s. All files are looked at every %g s",
            error.strerror,
            next_step(error),
            options.poll_seconds,
            extra={"context": {"source": context.name}},
        )
        return None


@asynccontextmanager
async def open_file(options: FileOptions, context: Context) -> AsyncIterator[FileSource]:
    """Opens nothing of the files yet; leaving it closes them all. Without inotify it polls, and says so."""
    watch = watch_of(options, context)
    with Worker(f"collect.{context.name}") as worker:
        source = FileSource(options, context, worker, watch)
        try:
            yield source
        finally:
            await worker.finish(source.close, CLOSE_SECONDS)
