"""This file writes records to a file on this machine, as JSON lines, rotated by size.

The receipt is given when the lines are on the disk. What was written and not yet acknowledged when the agent was
killed is written again: repeats are possible, gaps are not.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.contract import Receipt
from agent.errors import Hold, Refusal, Retry
from agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from agent.batch import Batch
    from agent.contract import Context, Destination
    from agent.export.file.options import FileOptions
    from agent.export.file.rotated import RotatedFile
    from agent.host import Host

log = logging.getLogger("telemetry_agent.file")

CLOSING_SECONDS: Final = 1.0
OWN: Final = frozenset(("spool", "reserve", "positions", "lock", "configuration"))
"""How the names begin of what lies in the state directory."""
FULL: Final = {errno.ENOSPC: "disk_full", errno.EDQUOT: "quota_used_up", errno.EIO: "disk_error"}
NEXT_STEP: Final = {
    errno.ENOENT: "create the directory",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.EISDIR: "path names a directory; give the name of a file in it",
    errno.EACCES: "let the agent's user write there",
    errno.EPERM: "let the agent's user write there",
    errno.EROFS: "the file system is mounted read-only; under systemd add ReadWritePaths= to the unit",
}


class File:
    """The destination; see agent.contract.Destination."""

    def __init__(self, path: str, file: RotatedFile, worker: Worker) -> None:
        self._path = path
        self._file = file
        self._worker = worker

    async def send(self, batches: Sequence[Batch]) -> Receipt:
        """Writes ``batches``. Returns when they are on the disk, or raises Retry or Hold with nothing written."""
        return await self._worker.run(self._write, batches)

    def _write(self, batches: Sequence[Batch]) -> Receipt:
        from agent.export.file.rotated import NotAFile
        from agent.wire.jsonlines import encode

        repaired = self._file.repaired_bytes
        try:
            self._file.append([chunk for batch in batches for chunk in encode(batch)])
        except NotAFile:
            raise Hold("not_a_file", f"{self._path} is not a file; give the name of a file") from None
        except OSError as error:
            raise _refusal_of(error, self._path) from None
        if self._file.repaired_bytes > repaired:
            log.warning("%s ended in half a line, which was cut off; it is written again where it was ours", self._path)
        return Receipt()


def _refusal_of(error: OSError, path: str) -> Refusal:
    why = f"{path}: {(error.strerror or str(error)).lower()}"
    code = error.errno or 0
    if code in NEXT_STEP:
        return Hold("cannot_write", f"{why}; {NEXT_STEP[code]}")
    return Retry(FULL.get(code, "write_failed"), why)


def _is_the_agents_own(path: str, state_dir: Path) -> bool:
    """Whether ``path``, with its links followed, is what the agent keeps its state in: it would be destroyed."""
    state, real = os.path.realpath(state_dir), os.path.realpath(path)
    if not real.startswith(state + os.sep):
        return False
    first = real[len(state) + 1 :].split(os.sep)[0]
    return first.partition(".")[0] in OWN


@contextmanager
def _written(path: str, host: Host) -> Iterator[None]:
    """Says that the agent writes to ``path`` itself, until it is left."""
    real = os.path.realpath(path)
    host.writers[real] += 1
    host.written.add(real)
    try:
        yield
    finally:
        host.writers[real] -= 1
        if not host.writers[real]:
            del host.writers[real]
            host.written.discard(real)


@asynccontextmanager
async def open_file(options: FileOptions, ctx: Context) -> AsyncIterator[Destination]:
    """The destination; the file is opened at the first write. Raises ValueError where it is one of the agent's own."""
    from agent.export.file.rotated import RotatedFile
    from agent.wire.jsonlines import START

    if _is_the_agents_own(options.path, ctx.host.state_dir):
        raise ValueError(f"{options.path} is where the agent keeps its own state; give another path")
    file = RotatedFile(Path(options.path), options.max_file_bytes, options.keep_files, START)
    with _written(options.path, ctx.host), Worker(f"{ctx.name}-write") as worker:
        try:
            yield File(options.path, file, worker)
        finally:
            with suppress(TimeoutError):  # a write that hangs on a dead mount must not hold up the exit
                await asyncio.wait_for(worker.run(file.close), CLOSING_SECONDS)
