"""This file is ``telemetry-agent spool replay``: it takes an export in again, or sends again what was refused.

A file is read line by line and taken in some hundred KiB at a time, each all or nothing. Where that ends early, what
was taken in and how to go on is said; nothing is taken in twice by going on from there.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from agent.cli.printing import counted
from agent.cli.spool_writing import Unanswered, is_running, stopped, told
from agent.errors import AgentError

if TYPE_CHECKING:
    import argparse

    from agent.batch import Batch
    from agent.clock import RecordTimes
    from agent.host import Host
    from agent.spool.store import Store

GROUP_BYTES: Final = 256 << 10
GROUP_BATCHES: Final = 256
REQUEST_BYTES: Final = 512 << 10
PIECE_BYTES: Final = 384 << 10
MOST_LINE_BYTES: Final = 64 << 20
COMMIT_EVERY: Final = 16

Take = Callable[[Sequence["Batch"]], None]
Group = tuple[list["Batch"], int]
"""Batches, and the number of the last line they came from."""


def run(arguments: argparse.Namespace) -> int:
    """Replays, says how many records, and returns 0. Raises AgentError with what was done before it failed."""
    from agent.cli.directories import host_of, spool_max_bytes

    config = Path(arguments.config)
    host = host_of(config, os.environ)
    if arguments.quarantine:
        return _quarantine(host, arguments.lane, spool_max_bytes(config, os.environ))
    with _opened(arguments.file, host) as file:
        if is_running(host):
            records = replayed(file, arguments.file, lambda batches: _sent(host, batches, arguments.lane))
        else:
            with stopped(host, spool_max_bytes(config, os.environ)) as (store, times):
                records = replayed(file, arguments.file, _into(store, times, arguments.lane))
    print(f"taken in as source 'replay': {counted(records, 'record')}")
    return 0


def replayed(file: IO[bytes], name: str, take: Take) -> int:
    """Takes in all records of ``file``; returns how many. Raises AgentError at the first fault, saying how to go on."""
    from agent.wire.exported import ExportedError, decode

    records = last = 0
    try:
        for batches, line in _groups(decode(_lines(file))):
            try:
                take(batches)
            except AgentError as error:
                uncertain = line if isinstance(error, Unanswered) else None
                raise AgentError(_so_far(str(error), name, records, last, uncertain)) from error
            records, last = records + sum(batch.count for batch in batches), line
    except ExportedError as error:
        raise AgentError(_so_far(f"{name}:{error.line}: {error}", name, records, last)) from None
    return records


def _so_far(why: str, name: str, records: int, last: int, uncertain: int | None = None) -> str:
    if uncertain is not None:
        why = f"{why}; it is not known what became of lines {last + 1} to {uncertain}"
    if not last:
        return f"{why}; nothing was taken in before that"
    rest = f"tail -n +{last + 1} {'FILE' if name == '-' else name} | telemetry-agent spool replay -"
    return f"{why}; taken in before that: {counted(records, 'record')}, up to line {last}; for the rest: {rest}"


def _groups(decoded: Iterator[tuple[Batch, int]]) -> Iterator[Group]:
    """Neighbouring batches, as many as are taken in at once; also those before a fault, which is raised after them."""
    together: list[Batch] = []
    size = last = 0
    while True:
        try:
            found = next(decoded, None)
        except ValueError:
            if together:
                yield together, last
            raise
        if found is None:
            break
        batch, line = found
        weight = batch.size_bytes + 8 * batch.count + 256
        if together and (size + weight > GROUP_BYTES or len(together) >= GROUP_BATCHES):
            yield together, last
            together, size = [], 0
        together.append(batch)
        size, last = size + weight, line
    if together:
        yield together, last


# Into a stopped spool


def _into(store: Store, times: RecordTimes, lane: str | None) -> Take:
    from agent.spool import replay
    from agent.spool.records import Group as Commit

    taken = 0

    def take(batches: Sequence[Batch]) -> None:
        nonlocal taken
        replay.take_in(store, times, batches, lane)
        taken += 1
        if taken % COMMIT_EVERY == 0:
            store.commit(Commit())  # an empty one measures the file, so that its bound is kept

    return take


# To a running agent


def _sent(host: Host, batches: Sequence[Batch], lane: str | None) -> None:
    from agent.wire import spooled

    payloads = [spooled.encode(batch, 0) for batch in batches]
    encoded = [base64.b64encode(payload).decode() for payload in payloads]
    if sum(map(len, encoded)) <= REQUEST_BYTES:
        told(host, {"command": "replay", "batches": encoded, "lane": lane})
    elif len(batches) > 1:
        for batch in batches:
            _sent(host, [batch], lane)
    else:
        _uploaded(host, payloads[0], lane)


def _uploaded(host: Host, payload: bytes, lane: str | None) -> None:
    """A payload larger than a request, piece by piece."""
    token = os.urandom(16).hex()
    for start in range(0, len(payload), PIECE_BYTES):
        piece = base64.b64encode(payload[start : start + PIECE_BYTES]).decode()
        told(host, {"command": "upload", "token": token, "piece": piece})
    told(host, {"command": "replay", "uploaded": token, "lane": lane})


# What was refused


def _quarantine(host: Host, lane: str | None, max_bytes: int) -> int:
    if is_running(host):
        answer = told(host, {"command": "replay", "quarantine": True, "lane": lane})
    else:
        with stopped(host, max_bytes) as (store, times):
            answer = _stopped_quarantine(store, times, lane)
    print(f"taken in again as source 'replay': {counted(answer['records'], 'refused record')}")
    if answer["damaged"]:
        left = counted(answer["damaged"], "batch", "batches")
        print(f"unreadable, and left in quarantine: {left}; 'telemetry-agent spool check' says why")
    return 0


def _stopped_quarantine(store: Store, times: RecordTimes, lane: str | None) -> dict[str, Any]:
    from agent.spool import replay

    records = damaged = 0
    after: int | None = 0
    while after is not None:
        step = replay.from_quarantine(store, times, lane, after)
        records, damaged, after = records + step.records, damaged + step.damaged, step.last_id
    return {"records": records, "damaged": damaged}


# The file


@contextmanager
def _opened(name: str, host: Host) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    path = Path(name).absolute()
    if path.parent.resolve() == host.spool_dir.resolve():
        raise AgentError(f"{name} lies in the spool's own directory, where nobody else opens a file; name an export")
    try:
        file = path.open("rb")
    except OSError as error:
        raise AgentError(f"{name}: {error.strerror}") from None
    with file:
        yield file


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    from agent.wire.exported import ExportedError

    number = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > MOST_LINE_BYTES:
            raise ExportedError(number, f"longer than {MOST_LINE_BYTES:,} bytes")
        yield line
