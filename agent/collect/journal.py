"""This file is the journal source: it follows systemd's journal through a journalctl of its own.

The loop waits for the pipe; a thread of its own starts and ends journalctl and takes blocks apart. One block is read,
handed on whole, and only then the next: while the spool is full journalctl waits, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.batch import Batch, Logs, Origin
from agent.collect import journal_command
from agent.collect.journal_batches import LOST, Batches
from agent.collect.journal_child import PIPE_BYTES, Child, output_of
from agent.collect.journal_lines import Lines
from agent.collect.journal_own import own_records
from agent.collect.journal_place import KEY, Replaced, Resumed, position
from agent.errors import AgentError
from agent.ownlogs import Repeating
from agent.wire.journaljson import boot_of_cursor, cursor_of, last_line, time_us_of_cursor, without
from agent.worker import Worker

if TYPE_CHECKING:
    from agent.collect.journal_options import JournalOptions
    from agent.contract import Context

log = logging.getLogger("telemetry_agent.collect")

RESTARTS = "telemetry_agent_journal_restarts_total"
OWN = "telemetry_agent_journal_own_total"

GATHER_SECONDS = 0.1
"""How long entries are let come together after the first of them."""
BUSY_SECONDS = 0.01
BUSY_BYTES = 64 << 10
ENTRY_FACTOR = 8
"""An entry as JSON may take so many times max_line_bytes: a byte that is not text takes up to four."""
LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.5, 30.0
UNCOMMITTED_SECONDS = 60.0
"""A position that moved past nothing but what is left out is committed this often, not each time."""
NEWEST_WITHIN_SECONDS = 30.0
CLOSE_SECONDS = 5.0


class JournalSource:
    """Reads what one ``[collect.journal]`` table selects."""

    def __init__(self, options: JournalOptions, context: Context, worker: Worker) -> None:
        self._options = options
        self._context = context
        self._clock = context.clock
        self._worker = worker
        self._environ = journal_command.environment(context.host)
        self._own = own_records(context.host, context.clock)
        self._boot_id = journal_command.boot_id_of(context.host)
        self._batches = Batches(options, context, self._own.fields)
        self._cursor = context.positions.get(KEY)
        self._committed_at = self._clock.monotonic_seconds()
        self._child: Child | None = None
        self._lines = self._new_lines()
        self._caught_up = options.directory is not None
        self._following = False
        self._partly = False
        self._resumed = self._new_resumed("", shown=False)
        self._busy = False
        self._failures = 0
        self._restarts = 0
        self._own_left_out = 0
        self._version = ""
        self._troubles = Repeating(log, self._clock.monotonic_seconds)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        if self._cursor is None:  # committed at once: what is written from now on is read, whatever happens
            self._cursor = await self._worker.run(self._first)
            yield self._nothing()
        while True:
            block = await self._block()
            try:
                batches, cursor = await self._worker.run(self._take, block)
            except Replaced:
                await self._worker.run(self.close)
                self._from_oldest()
                continue
            for batch in batches:
                yield batch
            self._cursor = cursor

    async def reread(self, origin: Origin) -> Logs | None:
        """The records at ``origin`` as they were handed on, or None where the journal no longer has them."""
        from agent.collect.journal_reread import Reread

        again = Reread(self._options, self._context, self._own, self._boot_id, self._environ)
        with Worker(f"collect.{self._context.name}.reread") as worker:  # what is written meanwhile is read beside it
            return await worker.run(again.at, origin)

    def status(self) -> dict[str, Any]:
        """What /status shows: which journalctl runs, how often it was restarted, how far the journal was read."""
        time_us = time_us_of_cursor(self._cursor or "")
        return {
            "journalctl": self._version or None,
            "pid": self._child.pid if self._child is not None else None,
            "restarts": self._restarts,
            "read_to": datetime.fromtimestamp(time_us / 1e6, UTC).isoformat() if time_us else None,
            "own_records": self._own.shown,
            "own_records_left_out": self._own_left_out,
            "label_sets": len(self._batches.streams),
        }

    def close(self) -> None:
        """Ends journalctl; runs where everything runs that may block."""
        if self._child is not None:
            self._child.end()
            self._child = None

    # Where to begin

    def _first(self) -> str:
        """The cursor of the newest entry, or an empty one: from the oldest on."""
        if self._options.start_at == "beginning":
            return ""
        command = journal_command.newest(self._options)
        try:
            status, output, stderr = output_of(command, self._environ, NEWEST_WITHIN_SECONDS)
        except OSError as error:
            raise self._cannot_start(error) from error
        if status:
            raise AgentError(f"{self._options.journalctl} {journal_command.ended(status, stderr)}")
        return cursor_of(last_line(output))

    def _nothing(self) -> Logs:
        """A batch of no records that moves the position."""
        self._committed_at = self._clock.monotonic_seconds()
        return Logs(self._context.name, (), b"", 0, positions=(position(self._cursor or ""),))

    # What journalctl prints

    async def _block(self) -> bytes:
        """The next whole lines; starts journalctl where it does not run."""
        while True:
            child = self._child
            if child is None:
                child = await self._worker.run(self._start)
            await child.readable()
            await self._gather(child)
            data = child.read(self._options.block_bytes)
            if data is None:
                await self._ended(child)
                continue
            self._running(child)
            if whole := self._lines.feed(data):
                return whole

    async def _gather(self, child: Child) -> None:
        """Lets more entries come in, so that a journal in which much is written makes few batches."""
        enough = min(self._options.block_bytes, PIPE_BYTES) // 2
        pause = BUSY_SECONDS if self._busy else GATHER_SECONDS
        waited, before = 0.0, 0
        while before < (now := child.waiting_bytes) < enough and waited < GATHER_SECONDS:
            before = now
            await self._clock.sleep(pause)
            waited += pause
        self._busy = child.waiting_bytes >= BUSY_BYTES

    def _start(self) -> Child:
        cursor = self._cursor or ""
        of_this_boot = bool(self._boot_id) and boot_of_cursor(cursor) == self._boot_id
        self._following = self._caught_up or of_this_boot
        command = journal_command.printing(
            self._options, self._batches.fields, cursor, self._boot_id, following=self._following
        )
        child = Child(command, self._environ)
        try:
            if not self._version:
                self._version = self._ask_version()
            child.start()
        except OSError as error:
            raise self._cannot_start(error) from error
        shown = of_this_boot or not self._following or self._options.directory is not None
        self._child, self._lines, self._resumed = child, self._new_lines(), self._new_resumed(cursor, shown=shown)
        return child

    def _ask_version(self) -> str:
        _, output, _ = output_of([self._options.journalctl, "--version"], self._environ, NEWEST_WITHIN_SECONDS)
        return output.decode(errors="replace").partition("\n")[0][:200]

    def _cannot_start(self, error: OSError) -> AgentError:
        why = (error.strerror or str(error)).lower()
        return AgentError(
            f"{self._options.journalctl} cannot be started: {why}; [collect.{self._context.name}] needs systemd's "
            "journalctl, which the option journalctl names"
        )

    def _running(self, child: Child) -> None:
        self._failures = 0
        if not self._partly and journal_command.forbidden(child.stderr):
            self._partly = self._resumed.partly = True
            message = "only a part of the journal may be read: %s"
            log.warning(message, journal_command.JOIN_GROUP, extra={"context": {"source": self._context.name}})
        if self._troubles.failing:
            self._troubles.recovered("the journal is read again", source=self._context.name)

    async def _ended(self, child: Child) -> None:
        """journalctl is gone: says why, and waits a while before it is started again after what was handed on last."""
        self._child = None
        await self._worker.run(_buried, child)
        stderr = child.stderr
        self._count_too_long()
        if child.status == 0 and not self._following:  # it has printed what there was, of earlier boots too
            self._caught_up = True
            return
        self._restarts += 1
        self._context.meter.add(RESTARTS, 1, (self._context.name,))
        if self._cursor and journal_command.refuses_cursor(stderr):
            log.warning(
                "journalctl does not know the position %s: %s; the journal is read from its oldest entry on",
                self._cursor,
                " ".join(stderr.split()),
                extra={"context": {"source": self._context.name}},
            )
            self._from_oldest()
            return
        how = journal_command.ended(child.status, stderr)
        self._troubles.failed(how, f"journalctl {how}; it is started again", source=self._context.name)
        pause = min(LEAST_PAUSE_SECONDS * 2**self._failures, MOST_PAUSE_SECONDS)
        self._failures += 1
        await self._clock.sleep(pause)

    def _from_oldest(self) -> None:
        self._cursor, self._caught_up = "", self._options.directory is not None

    # What becomes of a block

    def _take(self, block: bytes) -> tuple[list[Logs], str]:
        """The batches of a block and the cursor behind it, which only the last of them carries."""
        cursor = cursor_of(last_line(block)) or self._cursor or ""
        block, own = without(self._resumed.rest(block), self._own.members, self._own.since_us)
        if own:
            self._own_left_out += own
            self._context.meter.add(OWN, own, (self._context.name,))
        self._count_too_long()
        batches = self._batches.of(block, (self._cursor or "", cursor)) if block else []
        now = self._clock.monotonic_seconds()
        if not batches and now - self._committed_at >= UNCOMMITTED_SECONDS:
            batches = [Logs(self._context.name, (), b"", 0)]
        if batches:
            batches[-1] = replace(batches[-1], positions=(position(cursor),))
            self._committed_at = now
        return batches, cursor

    def _count_too_long(self) -> None:
        if self._lines.too_long:
            message = "%d entries of the journal were larger than %d bytes and left out; raise max_line_bytes"
            most = self._options.max_line_bytes * ENTRY_FACTOR
            log.error(message, self._lines.too_long, most, extra={"context": {"source": self._context.name}})
            self._context.meter.add(LOST, self._lines.too_long, (self._context.name, "too_long"))
            self._lines.too_long = 0

    def _new_lines(self) -> Lines:
        return Lines(self._options.max_line_bytes * ENTRY_FACTOR)

    def _new_resumed(self, cursor: str, *, shown: bool) -> Resumed:
        one_journal = self._options.namespace is None and self._options.directory is None
        whole = not journal_command.selects(self._options) and self._options.namespace is None
        return Resumed(
            cursor,
            self._context.name,
            self._context.meter,
            whole=whole,
            shown=shown,
            partly=self._partly,
            one_journal=one_journal,
        )


def _buried(child: Child) -> None:
    child.wait()
    child.end()


@asynccontextmanager
async def open_journal(options: JournalOptions, context: Context) -> AsyncIterator[JournalSource]:
    """Starts nothing yet; leaving it ends journalctl, which is waited for."""
    with Worker(f"collect.{context.name}") as worker:
        source = await worker.run(JournalSource, options, context, worker)
        try:
            yield source
        finally:
            closing = asyncio.ensure_future(worker.run(source.close))
            await asyncio.wait([closing], timeout=CLOSE_SECONDS)
            closing.cancel()
