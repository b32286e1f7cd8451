"""This file is a pipeline of components that a test writes in a line or two, over a real spool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.batch import Batch, Logs, Position
from agent.clock import SystemClock
from agent.config.model import Config, Configured
from agent.contract import Component, Context, Receipt
from agent.host import Host
from agent.options import AgentOptions, DestinationOptions, ProcessorOptions, SourceOptions
from agent.ownmetrics import Meter
from agent.serve.options import ServeOptions
from agent.spool.schema import SpoolOptions
from agent.spool.spool import Spool, open_spool
from agent.supervise.pipeline import Pipeline, open_pipeline, start_sources

Batches = Callable[[Context], AsyncIterator[Batch]]


def line(source: str, number: int) -> Logs:
    """One record that says its number, and the position after it."""
    return Logs(source, (("job", source),), f"{source} {number}\n".encode(), 1, positions=(Position("n", str(number)),))


class Source:
    """A source whose batches come from a function of its context."""

    def __init__(self, batches: Batches, ctx: Context) -> None:
        self._batches = batches
        self._ctx = ctx

    def batches(self) -> AsyncIterator[Batch]:
        return self._batches(self._ctx)


class Sink:
    """A destination that keeps what it was sent."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.changed = asyncio.Event()

    async def send(self, batches: Sequence[Batch]) -> Receipt:
        await self.gate.wait()
        self.lines += [each.decode() for batch in batches if isinstance(batch, Logs) for each in batch.records()]
        self.changed.set()
        return Receipt()

    async def wait_for(self, *lines: str) -> None:
        """Returns once each of ``lines`` has arrived."""
        while not {*lines} <= {*self.lines}:
            self.changed.clear()
            await self.changed.wait()


class Passing:
    """A processor that changes nothing, and may be made to wait."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def process(self, batch: Batch, _now: Any) -> Sequence[Batch]:
        self.began.set()
        assert self.go_on.wait(30)
        return (batch,)

    def due(self, _now: Any) -> Sequence[Batch]:
        return ()

    def held(self) -> None:
        return None


def configured(stage: str, name: str, made: Any, order: list[str] | None = None, **options: Any) -> Configured:
    """A component; ``made`` is what it opens, or a function of its context. ``order`` notes opening and closing."""
    kinds = {"collect": SourceOptions, "process": ProcessorOptions, "export": DestinationOptions}

    @asynccontextmanager
    async def open_it(_options: Any, ctx: Context) -> AsyncIterator[Any]:
        opened = made(ctx) if callable(made) else made
        if order is not None:
            order.append(f"{name} opened")
        try:
            yield opened
        finally:
            if order is not None:
                order.append(f"{name} closed")

    component: Component[Any, Any] = Component(name, kinds[stage], open_it, ("logs",), "A fake.")
    return Configured(stage, name, name, component, kinds[stage](**options))


def source(name: str, batches: Batches, order: list[str] | None = None) -> Configured:
    """A source named ``name`` with these batches."""
    return configured("collect", name, lambda ctx: Source(batches, ctx), order)


class Running:
    """A pipeline that runs, and what it is made of."""

    def __init__(self, pipeline: Pipeline, spool: Spool, meter: Meter) -> None:
        self.pipeline = pipeline
        self.spool = spool
        self.meter = meter

    def state(self, name: str) -> Any:
        return next(state for state in self.pipeline.sources if state.name == name)


@asynccontextmanager
async def running(
    folder: Path,
    collect: Sequence[Configured] = (),
    process: Sequence[Configured] = (),
    export: Sequence[Configured] = (),
) -> AsyncIterator[Running]:
    """The pipeline from the sources' start on."""
    host = Host(folder / "state", folder / "run", environ={}, hostname="testhost")
    host.state_dir.mkdir(exist_ok=True)
    config = Config(
        AgentOptions(), SpoolOptions(reserve_bytes=0), ServeOptions(), tuple(collect), tuple(process), tuple(export)
    )
    clock, meter = SystemClock(), Meter()
    async with (
        open_spool(host, config.spool, clock, meter) as spool,
        open_pipeline(config, host, clock, meter, spool) as pipeline,
    ):
        start_sources(pipeline)
        yield Running(pipeline, spool, meter)
