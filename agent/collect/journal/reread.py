"""This file reads a part of the journal again, for a batch that was damaged after its position was committed.

A block is what journalctl prints from the entry before it to its last one. It counts as what it was only where both
are still there and as many records come out as there were; anything else is nothing. What stood before it in the same
label set is read backwards, as far as is asked for: a secret may have begun there.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Logs, Origin
from agent.collect.journal import command as journal_command
from agent.collect.journal.batches import Batches
from agent.collect.journal.origin import Part, part_of, stream_of
from agent.collect.journal.own import Own
from agent.ownmetrics import Meter
from agent.wire.journaljson import cursor_of, without

if TYPE_CHECKING:
    from agent.collect.journal.options import JournalOptions
    from agent.contract import Context

WITHIN_SECONDS = 30.0
MOST_BYTES = 64 << 20
"""Most that journalctl prints before it is given up."""
_REPLACED = "\ufffd"


class Reread(Struct, frozen=True):
    """Reads again what a source with these options has read."""

    options: JournalOptions
    context: Context
    own: Own

    def at(self, origin: Origin) -> Logs | None:
        """The records at ``origin`` as they were handed on, or what stood before them, or None. Blocks."""
        try:
            part = part_of(origin.key)
        except ValueError:
            return None
        if origin.start == part.start:
            block, between = self._block(part), (part.after, part.last)
        elif origin.end == part.start and part.after:
            block, between = self._before(part, origin.end - origin.start), ("", part.after)
        else:
            return None
        batch = self._batch(part, block, between)
        if batch is None or (origin.start == part.start and batch.count != part.count):
            return None
        return replace(batch, origin=origin)

    def _batch(self, part: Part, block: bytes, between: tuple[str, str]) -> Logs | None:
        """The batch of the part's label set; nothing is counted a second time."""
        context = replace(self.context, meter=Meter())
        batches = Batches(self.options, context, self.own.fields)
        block, _ = without(block, self.own.members, self.own.since_us)
        wanted = stream_of(part.fields)
        made = batches.of(block, between) if block else []
        return next((each for each in made if each.origin is not None and each.origin.stream == wanted), None)

    def _block(self, part: Part) -> bytes:
        """Everything behind ``part.after`` up to ``part.last``; nothing where one of them is gone."""
        lines: list[bytes] = []
        with self._printed(part.after) as printed:
            if part.after and cursor_of(next(printed, b"")) != part.after:
                return b""
            for line in printed:
                lines.append(line)
                if cursor_of(line) == part.last:
                    return b"".join(lines)
        return b""

    def _before(self, part: Part, size_bytes: int) -> bytes:
        """The last entries up to ``part.after`` with the fields of the part, about ``size_bytes`` of messages."""
        lines: list[bytes] = []
        fields = zip(self.options.label_fields, part.fields, strict=False)
        exact = [f"{name}={value}" for name, value in fields if value and _REPLACED not in value and "\n" not in value]
        with self._printed(part.after, "--reverse", *exact) as printed:
            for line in printed:
                lines.append(line)
                size_bytes -= len(line)
                if size_bytes <= 0:
                    break
        return b"".join(reversed(lines))

    @contextmanager
    def _printed(self, cursor: str, *more: str) -> Iterator[Iterator[bytes]]:
        """The lines that journalctl prints, from ``cursor`` on; fewer where that takes too long or is too much."""
        fields = journal_command.complete(self.options, self.own.fields)
        host = self.context.host
        command = journal_command.printing(
            self.options, fields, cursor, journal_command.boot_id_of(host), following=False
        )
        process = _start([*command, *more], journal_command.environment(host))
        late = threading.Timer(WITHIN_SECONDS, process.kill)
        late.daemon = True
        late.start()
        try:
            assert process.stdout is not None
            yield _bounded(process.stdout, MOST_BYTES)
        finally:
            late.cancel()
            process.kill()
            process.communicate()
            late.join()


def _bounded(file: IO[bytes], most_bytes: int) -> Iterator[bytes]:
    """Whole lines, as many as there is room for."""
    while (line := file.readline(max(0, most_bytes))).endswith(b"\n"):
        most_bytes -= len(line)
        yield line


def _start(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A command whose output is read, and nothing else of it."""
    return subprocess.Popen(  # noqa: S603 - the command is the operator's
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        cwd="/",
        process_group=0,
    )
