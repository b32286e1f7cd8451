"""This file keeps a journalctl running and reads what it prints, block by block, from any position on.

start ──▶ prints what there was, of every boot ──▶ ends ──▶ start again, following this boot ──▶ …
  ▲                                                                 │
  └── it died: after a pause · a directory of journals came or went ┘
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.collect.journal import command as journal_command
from agent.collect.journal.child import PIPE_BYTES, Child, output_of
from agent.collect.journal.directories import PLACES, directories
from agent.collect.journal.lines import Lines
from agent.collect.journal.place import Replaced, Resumed
from agent.errors import AgentError
from agent.ownlogs.lines import Repeating
from agent.wire.journaljson import boot_of_cursor, cursor_of, last_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.collect.journal.options import JournalOptions
    from agent.contract import Context
    from agent.worker import Worker

log = logging.getLogger("telemetry_agent.collect")

RESTARTS = "telemetry_agent_journal_restarts_total"
LOST = "telemetry_agent_source_lost_total"

GATHER_SECONDS = 0.1
"""How long entries are let come together after the first of them."""
BUSY_SECONDS = 0.01
BUSY_BYTES = 64 << 10
MORE_SECONDS = 0.3
ENTRY_FACTOR = 8
"""An entry as JSON may take so many times max_line_bytes: a byte that is not text takes up to four."""
LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.5, 30.0
LOOK_SECONDS = 5.0
"""How often is looked whether directories of journals came or went."""
NEWEST_WITHIN_SECONDS = 30.0


class Following:
    """The journalctl of one source. ``newest`` and ``close`` may block."""

    def __init__(self, options: JournalOptions, context: Context, worker: Worker, fields: Sequence[str]) -> None:
        self._options = options
        self._clock = context.clock
        self._meter = context.meter
        self._name = context.name
        self._extra = {"context": {"source": context.name}}
        self._worker = worker
        self._fields = fields
        self._environ = journal_command.environment(context.host)
        self._boot_id = journal_command.boot_id_of(context.host)
        self._places = PLACES if options.directory is None else (options.directory,)
        self._directories: frozenset[tuple[str, int]] = frozenset()
        self._looked_at = self._clock.monotonic_seconds()
        self._child: Child | None = None
        self._lines = Lines(options.max_line_bytes * ENTRY_FACTOR)
        self._resumed = Resumed("", context.name, context.meter)
        self._caught_up = self._prints_all_boots
        self._follows = False
        self._partly = False
        self._busy = False
        self._failures = 0
        self._troubles = Repeating(log, self._clock.monotonic_seconds)
        self.restarts = 0
        self.version = ""

    @property
    def pid(self) -> int | None:
        """The number of the process, where it runs."""
        return self._child.pid if self._child is not None else None

    @property
    def _prints_all_boots(self) -> bool:
        """Whether it prints all boots when it follows."""
        return self._options.directory is not None

    def newest(self) -> str:
        """The cursor of the newest entry, or an empty one. Raises AgentError."""
        try:
            status, output, stderr = output_of(
                journal_command.newest(self._options), self._environ, NEWEST_WITHIN_SECONDS
            )
        except OSError as error:
            raise self._cannot_start(error) from error
        if status != 0:
            raise AgentError(f"{self._options.journalctl} {journal_command.ended(status, stderr)}")
        return cursor_of(last_line(output))

    async def block(self, cursor: str) -> bytes:
        """The next whole lines behind the entry at ``cursor``, which is the last that was printed before.

        Raises Replaced where it is no position in this journal, AgentError where there is no journalctl.
        """
        while True:
            child = self._child
            if child is None:
                child = await self._worker.run(self._start, cursor)
            if not await self._readable(child):
                await self._worker.run(self.close)
                self._caught_up = self._prints_all_boots
                continue
            await self._gather(child)
            data = child.read(self._options.block_bytes)
            if data is None:
                await self._ended(child, cursor)
                continue
            if (printed := self._lines.feed(data)) and (block := await self._behind(child, printed)):
                return await self._with_more(child, block)

    def close(self) -> None:
        """Ends it."""
        if self._child is not None:
            self._child.end()
            self._child = None

    # While it runs

    async def _readable(self, child: Child) -> bool:
        """Waits for something to read. False when there are journals meanwhile that it does not see."""
        while True:
            readable = False
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await child.readable()
                    readable = True
            now = self._clock.monotonic_seconds()
            if now - self._looked_at >= LOOK_SECONDS:
                self._looked_at = now
                if await self._worker.run(directories, self._places) != self._directories:
                    message = "a directory of journals came or went; journalctl is started again to see it"
                    log.info(message, extra=self._extra)
                    return False
            if readable:
                return True

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

    async def _with_more(self, child: Child, block: bytes) -> bytes:
        """The block with what is printed right behind it, up to block_bytes: few large blocks cost less than many."""
        blocks, size = [block], len(block)
        waited = 0.0
        while self._busy and size < self._options.block_bytes and waited < MORE_SECONDS:
            await self._clock.sleep(BUSY_SECONDS)
            waited += BUSY_SECONDS
            if child.waiting_bytes < BUSY_BYTES:  # at its end, perhaps; that is for the next block to see
                break
            blocks.append(self._lines.feed(child.read(self._options.block_bytes - size) or b""))
            size += len(blocks[-1])
        return b"".join(blocks) if len(blocks) > 1 else block

    async def _behind(self, child: Child, printed: bytes) -> bytes:
        """What is new of what was printed. Raises Replaced."""
        self._say_too_long()
        if not self._partly and journal_command.forbidden(child.stderr):
            self._partly = self._resumed.partly = True
            log.warning("only a part of the journal may be read: %s", journal_command.JOIN_GROUP, extra=self._extra)
        try:
            block = self._resumed.rest(printed)
        except Replaced:
            await self._worker.run(self.close)
            self._caught_up = self._prints_all_boots
            raise
        if block:
            self._failures = 0
            self._troubles.recovered("the journal is read again", source=self._name)
        return block

    def _say_too_long(self) -> None:
        if self._lines.too_long:
            message = "%d entries of the journal were larger than %d bytes and left out; raise max_line_bytes"
            log.error(message, self._lines.too_long, self._lines.most_bytes, extra=self._extra)
            self._meter.add(LOST, self._lines.too_long, (self._name, "too_long"))
            self._lines.too_long = 0

    # Its beginning and its end

    def _start(self, cursor: str) -> Child:
        of_this_boot = bool(self._boot_id) and boot_of_cursor(cursor) == self._boot_id
        self._follows = self._caught_up or of_this_boot
        command = journal_command.printing(self._options, self._fields, cursor, self._boot_id, following=self._follows)
        child = Child(command, self._environ)
        self._directories, self._looked_at = directories(self._places), self._clock.monotonic_seconds()
        try:
            if not self.version:
                self.version = self._ask_version()
            child.start()
        except OSError as error:
            raise self._cannot_start(error) from error
        self._child = child
        self._lines = Lines(self._options.max_line_bytes * ENTRY_FACTOR)
        self._resumed = Resumed(
            cursor,
            self._name,
            self._meter,
            shown=of_this_boot or not self._follows or self._prints_all_boots,
            whole=not journal_command.selects(self._options) and self._options.namespace is None,
            partly=self._partly,
            one_journal=self._options.namespace is None and self._options.directory is None,
        )
        return child

    def _ask_version(self) -> str:
        _, output, _ = output_of([self._options.journalctl, "--version"], self._environ, NEWEST_WITHIN_SECONDS)
        return output.decode(errors="replace").partition("\n")[0][:200]

    def _cannot_start(self, error: OSError) -> AgentError:
        why = (error.strerror or str(error)).lower()
        return AgentError(
            f"{self._options.journalctl} cannot be started: {why}; [collect.{self._name}] needs systemd's journalctl, "
            "which the option journalctl names"
        )

    async def _ended(self, child: Child, cursor: str) -> None:
        """It is gone: says why, and waits a while before it is started again. Raises Replaced."""
        self._child = None
        await self._worker.run(child.wait)
        await self._worker.run(child.end)
        self._say_too_long()
        if child.status == 0 and not self._follows:  # it has printed what there was, of earlier boots too
            self._caught_up = True
            return
        self.restarts += 1
        self._meter.add(RESTARTS, 1, (self._name,))
        if cursor and journal_command.refuses_cursor(child.stderr):
            message = "journalctl does not know the position %s: %s; the journal is read from its oldest entry on"
            log.warning(message, cursor, " ".join(child.stderr.split()), extra=self._extra)
            self._caught_up = self._prints_all_boots
            raise Replaced
        how = journal_command.ended(child.status, child.stderr)
        self._troubles.failed(how, f"journalctl {how}; it is started again", source=self._name)
        pause = min(LEAST_PAUSE_SECONDS * 2**self._failures, MOST_PAUSE_SECONDS)
        self._failures += 1
        await self._clock.sleep(pause)
