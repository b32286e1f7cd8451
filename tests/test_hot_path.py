"""From a file to Loki no Python runs per line: the calls that a block costs do not grow with the lines in it.

Counted in every thread: what reads the block, the processors, what the spool stores and reads back, and the request.
Cutting a block into records is done about a thousand at a time (agent/wire/records.py), and is all that may grow.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import msgspec
import pytest

from agent.batch import Logs
from agent.clock import SystemClock
from agent.collect.file.options import FileOptions
from agent.collect.file.source import FileSource
from agent.export.loki.destination import open_loki
from agent.export.loki.options import LokiOptions
from agent.process.chain import Chain, Link
from agent.process.redact.options import RedactOptions
from agent.process.redact.processor import open_redactor
from agent.spool import fetch
from agent.spool.records import Group, Taken
from agent.wire.records import PIECE_RECORDS
from agent.worker import Worker
from tests.fakes import context
from tests.spool_contents import FILE, LOKI, spool

BLOCK_BYTES = 1 << 20
FEW_LINES = 2048
TIMES = 10
CALLS_OF_ONE = 8
CALLS_PER_PIECE = 20
"""More than cutting, making valid and encoding one piece takes: of one function, and of all."""


def line(number: int, size: int) -> bytes:
    start = b'10.0.0.%d - - [14/Nov/2023:22:13:20 +0000] "GET /%d ' % (number % 250, number)
    return start.ljust(size - 1, b"x")[: size - 1] + b"\n"


class Calls:
    """Python functions entered, by what they are, in every thread."""

    def __init__(self) -> None:
        self.by_code: Counter[CodeType] = Counter()

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self.by_code[frame.f_code] += 1

    @property
    def total(self) -> int:
        return sum(self.by_code.values())

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts in threads that are started meanwhile, and in this one."""
        threading.setprofile(self.note)
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]  # the documented way to stop


@contextmanager
def accepting() -> Iterator[str]:
    """The URL of a server that answers 204 to everything; its thread was there before anything is counted."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as incoming:
            while incoming.readline():
                size = 0
                while header := incoming.readline().strip():
                    name, _, value = header.partition(b":")
                    size = int(value) if name.lower() == b"content-length" else size
                incoming.read(size)
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    with listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@asynccontextmanager
async def chain_of(names: tuple[str, ...], ctx: Any) -> AsyncIterator[Chain]:
    async with open_redactor(RedactOptions(), ctx) as redactor:
        yield Chain([Link("redact", redactor)] if "redact" in names else [], ctx.clock, ctx.meter)


async def calls_for(folder: Path, lines: int, names: tuple[str, ...], lanes: tuple[str, ...]) -> Calls:
    """What one block of so many lines costs from the file to the answer."""
    folder.mkdir()
    file = folder / "a.log"
    file.write_bytes(b"".join(line(i, BLOCK_BYTES // lines) for i in range(lines)))
    ctx = context(folder, "file", clock=SystemClock())
    reader = Worker("reader")
    reader.close()
    options = msgspec.convert({"paths": (str(file),), "start_at": "beginning"}, FileOptions)
    source = FileSource(options, ctx, reader, None)
    calls = Calls()
    with accepting() as url, spool(folder / "spool", lanes) as store:
        store.entry_lanes = frozenset(lane.id for lane in store.lanes.values() if lane.name == LOKI)
        async with chain_of(names, ctx) as chain:
            with calls.counted():
                batch = source.step()
                assert batch is not None
                step = chain.take(batch)
                store.commit(Group([Taken(tuple(step.batches), step.read, step.dropped, tuple(step.positions))]))
                (stored,) = fetch.fetch(store.connection, 1, 0, 2 * BLOCK_BYTES)
                assert stored.batch is not None
                async with open_loki(LokiOptions(url=url), ctx) as loki:
                    await loki.send([stored.batch])
        assert (batch.count, stored.row.records) == (lines, lines)
        assert isinstance(batch, Logs)
        assert step.batches[0].size_bytes == lines * (BLOCK_BYTES // lines)
    source.close()
    return calls


@pytest.mark.parametrize("names", [(), ("redact",)], ids=["plain", "redact"])
@pytest.mark.parametrize("lanes", [(LOKI,), (LOKI, FILE)], ids=["kept as entries", "kept as lines"])
async def test_the_calls_a_block_costs_do_not_grow_with_its_lines(
    tmp_path: Path, names: tuple[str, ...], lanes: tuple[str, ...]
) -> None:
    await calls_for(tmp_path / "warm", FEW_LINES, names, lanes)
    few = await calls_for(tmp_path / "few", FEW_LINES, names, lanes)
    many = await calls_for(tmp_path / "many", TIMES * FEW_LINES, names, lanes)
    pieces = TIMES * FEW_LINES // PIECE_RECORDS
    grown = {code.co_qualname: count - few.by_code[code] for code, count in many.by_code.items()}
    worst = sorted(grown.items(), key=lambda item: -item[1])[:5]
    assert many.total - few.total < pieces * CALLS_PER_PIECE, worst
    assert worst[0][1] <= CALLS_OF_ONE * pieces, f"something grows faster than the pieces: {worst}"
    assert many.total < 5000, f"a block costs {many.total} calls: {many.by_code.most_common(5)}"
