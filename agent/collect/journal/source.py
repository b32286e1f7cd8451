"""This file is the journal source: it follows systemd's journal through a journalctl of its own.

The loop waits for the pipe; a thread of its own starts and ends journalctl and takes blocks apart. One block is read,
handed on whole, and only then the next: while the spool is full journalctl waits, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.batch import Batch, Logs, Origin
from agent.collect.journal.batches import Batches, formats
from agent.collect.journal.following import Following
from agent.collect.journal.own import own_records
from agent.collect.journal.place import KEY, Replaced, position
from agent.wire.journaljson import cursor_of, last_line, time_us_of_cursor, without
from agent.worker import Worker

if TYPE_CHECKING:
    from agent.collect.journal.options import JournalOptions
    from agent.contract import Context

OWN = "telemetry_agent_journal_own_total"
UNCOMMITTED_SECONDS = 60.0
"""A position that moved past nothing but what is left out is committed this often, not each time."""
CLOSE_SECONDS = 5.0


class JournalSource:
    """Reads what one ``[collect.journal]`` table selects."""

    def __init__(self, options: JournalOptions, context: Context, worker: Worker) -> None:
        self._options = options
        self._context = context
        self._clock = context.clock
        self._worker = worker
        self._own = own_records(context.host, context.clock)
        self._own_left_out = 0
        self._batches = Batches(options, context, self._own.fields)
        self._journalctl = Following(options, context, worker, self._batches.fields)
        self._cursor = context.positions.get(KEY)
        self._committed_at = self._clock.monotonic_seconds()

    async def batches(self) -> AsyncGenerator[Batch | Sequence[Batch], None]:
        if self._cursor is None:  # committed at once: what is written from now on is read, whatever happens
            self._cursor = await self._worker.run(self._first)
            yield self._moved(self._cursor)
        while True:
            try:
                block = await self._journalctl.block(self._cursor)
            except Replaced:
                self._cursor = ""
                continue
            batches, cursor = await self._worker.run(self._take, block)
            if batches:
                yield batches
            self._cursor = cursor

    async def reread(self, origin: Origin) -> Logs | None:
        """The records at ``origin`` as they were handed on, or None where the journal no longer has them."""
        from agent.collect.journal.reread import Reread

        again = Reread(self._options, self._context, self._own)
        with Worker(f"collect.{self._context.name}.reread") as worker:  # what is written meanwhile is read beside it
            return await worker.run(again.at, origin)

    def status(self) -> dict[str, Any]:
        """What /status shows: which journalctl runs, how often it was restarted, how far the journal was read."""
        time_us = time_us_of_cursor(self._cursor or "")
        return {
            "journalctl": self._journalctl.version or None,
            "pid": self._journalctl.pid,
            "restarts": self._journalctl.restarts,
            "read_to": datetime.fromtimestamp(time_us / 1e6, UTC).isoformat() if time_us else None,
            "own_records": self._own.shown,
            "own_records_left_out": self._own_left_out,
            "label_sets": len(self._batches.streams),
            "formats": formats(self._batches.streams),
        }

    def close(self) -> None:
        """Ends journalctl; runs where everything runs that may block."""
        self._journalctl.close()

    def _first(self) -> str:
        """Where to begin: behind the newest entry, or before the oldest."""
        return self._journalctl.newest() if self._options.start_at == "end" else ""

    def _take(self, block: bytes) -> tuple[list[Logs], str]:
        """The batches of a block and the cursor behind it, which the last of them carries for all."""
        before = self._cursor or ""
        cursor = cursor_of(last_line(block)) or before
        block, own = without(block, self._own.members, self._own.since_us)
        if own:
            self._own_left_out += own
            self._context.meter.add(OWN, own, (self._context.name,))
        batches = self._batches.of(block, (before, cursor)) if block else []
        if batches:
            batches[-1] = replace(batches[-1], positions=(position(cursor),))
            self._committed_at = self._clock.monotonic_seconds()
        elif self._clock.monotonic_seconds() - self._committed_at >= UNCOMMITTED_SECONDS:
            batches = [self._moved(cursor)]
        return batches, cursor

    def _moved(self, cursor: str) -> Logs:
        """A batch of no records that moves the position."""
        self._committed_at = self._clock.monotonic_seconds()
        return Logs(self._context.name, (), b"", 0, positions=(position(cursor),))


@asynccontextmanager
async def open_journal(options: JournalOptions, context: Context) -> AsyncIterator[JournalSource]:
    """Starts nothing yet; leaving it ends journalctl, which is waited for."""
    with Worker(f"collect.{context.name}") as worker:
        source = await worker.run(JournalSource, options, context, worker)
        try:
            yield source
        finally:
            await worker.finish(source.close, CLOSE_SECONDS)
