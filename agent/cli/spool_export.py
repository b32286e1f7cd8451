"""This file is ``telemetry-agent spool export``: what waits, or what was refused, as JSON lines.

``spool replay`` takes them in again. Exit status: 0 everything was written · 1 some batches could not be read.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from agent.cli.printing import counted, cut
from agent.errors import AgentError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from agent.spool.exporting import Out

DONE, INCOMPLETE = 0, 1


def run(arguments: argparse.Namespace) -> int:
    """Writes the lines, says on standard error how many, and returns the exit status."""
    from agent.cli.spool_reading import reading
    from agent.spool import exporting

    with reading(arguments) as (connection, directory):
        known = {lane.name for lane in exporting.known_lanes(connection).values()}
        if arguments.lane is not None and arguments.lane not in known:
            raise AgentError(
                f"there is no lane {arguments.lane!r}; the spool knows {', '.join(sorted(known)) or 'none'}"
            )
        read = exporting.quarantined if arguments.quarantine else exporting.waiting
        with _output(arguments.out, directory) as output:
            batches, records, faults = _write(output, read(connection, arguments.lane, arguments.after))
    where = f" to {arguments.out}" if arguments.out else ""
    left = f"; unreadable: {counted(faults, 'batch', 'batches')}" if faults else ""
    held = f"{counted(records, 'record')} in {counted(batches, 'batch', 'batches')}"
    print(f"written{where}: {held}{left}", file=sys.stderr)
    return INCOMPLETE if faults else DONE


def _write(output: IO[bytes], found: Iterable[Out]) -> tuple[int, int, int]:
    """Batches and records written, and batches that could not be."""
    from agent.wire.exported import encode

    batches = records = faults = 0
    for out in found:
        try:
            if out.batch is None:
                raise ValueError(out.fault)
            lines = list(encode(out.batch, out.id, out.lanes, reason=out.reason, detail=out.detail))
        except ValueError as error:
            faults += 1
            print(f"batch {out.id}: {cut(error, 300)}", file=sys.stderr)
            continue
        output.writelines(lines)
        batches, records = batches + 1, records + len(lines)
    return batches, records, faults


@contextmanager
def _output(name: str | None, spool: Path) -> Iterator[IO[bytes]]:
    """Standard output, or a new file that only its owner may read."""
    if name is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name).absolute()
    if path.parent.resolve() == spool.resolve():
        raise AgentError(f"{name} lies in the spool's own directory, where only the spool writes; choose another place")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise AgentError(f"{name} is there already and was left as it is; name a new file") from None
    except OSError as error:
        raise AgentError(f"{name}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            yield file
    except OSError as error:
        raise AgentError(f"{name}: {error.strerror}; what is in it so far is incomplete") from None
