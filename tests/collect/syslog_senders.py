"""This file is what tests of syslog share: an open source, what it hands on, and where to send to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agent.batch import Batch, Logs
from agent.clock import SystemClock
from agent.collect.syslog.options import SyslogOptions
from agent.collect.syslog.source import SyslogSource, open_syslog
from agent.contract import Context
from tests.fakes import context

LOCAL = "127.0.0.1:0"
WITHIN_SECONDS = 60.0


class Receiving:
    """An open source; ``batches`` are what it has handed on so far."""

    def __init__(self, source: SyslogSource, ctx: Context) -> None:
        self.source = source
        self.context = ctx
        self.batches: list[Logs] = []
        self._iterator: AsyncIterator[Batch] = source.batches()

    def address(self, option: str = "tcp_listen") -> tuple[str, int]:
        host, _, port = self.source.status()["listening"][option].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def records(self) -> list[bytes]:
        return [record for batch in self.batches for record in batch.records()]

    def counted(self, name: str, *labels: str) -> float:
        """What the source has counted under this name."""
        return self.context.meter.value(f"telemetry_agent_{name}", (self.context.name, *labels))

    async def until(self, count: int) -> list[bytes]:
        """Reads until there are so many records."""
        async with asyncio.timeout(WITHIN_SECONDS):
            while sum(batch.count for batch in self.batches) < count:
                batch = await anext(self._iterator)
                assert isinstance(batch, Logs)
                assert len(batch.records()) == batch.count
                assert batch.times_ns is None or len(set(batch.times_ns)) == batch.count
                self.batches.append(batch)
        return self.records

    async def while_(self, condition: Any) -> None:
        """Lets the source work, which may hand on nothing, while the condition holds."""
        async with asyncio.timeout(WITHIN_SECONDS):
            reading = asyncio.ensure_future(self._read_on())
            try:
                while condition():
                    await asyncio.sleep(0.01)
            finally:
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
                self._iterator = self.source.batches()

    async def _read_on(self) -> None:
        while True:
            batch = await anext(self._iterator)
            assert isinstance(batch, Logs)
            self.batches.append(batch)


@asynccontextmanager
async def receiving(tmp_path: Path, **options: Any) -> AsyncIterator[Receiving]:
    """A source with these options; ports are any that are free."""
    ctx = context(tmp_path, "syslog", clock=options.pop("clock", SystemClock()))
    async with open_syslog(SyslogOptions(**options), ctx) as source:
        made = Receiving(source, ctx)
        try:
            yield made
        finally:
            await made._iterator.aclose()  # type: ignore[attr-defined]  # it is a generator
