"""This file is the container source: it reads the logs that container engines write, with the file source.

The files are followed as any others are, so a container that has ended, or is removed while it is being read, is read
to its end: what decides is which files there are, not which containers run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.batch import Batch, Labels, Logs, Origin
from agent.clock import NANOSECONDS
from agent.collect.container.done import MARK, Done
from agent.collect.container.labels import ContainerLabels
from agent.collect.container.stream import ContainerStream, Shared
from agent.collect.file.parse import parser_of
from agent.collect.file.source import CLOSE_SECONDS, FileSource, watch_of
from agent.collect.given import GivenTimes
from agent.ownmetrics import Meter
from agent.worker import Worker

if TYPE_CHECKING:
    from agent.collect.container.options import ContainerOptions
    from agent.collect.file.watch import Watch
    from agent.contract import Context


class Containers:
    """How the files of containers are read: fulfils agent.collect.file.parse.Reading."""

    def __init__(self, options: ContainerOptions, context: Context) -> None:
        self._options = options
        self._labels = ContainerLabels(options, context)
        self._context = context
        self.done = Done(context.positions)
        self.before: list[Logs] = []
        self._shared = self._made(context, self.done, self.before)

    def labels(self, path: str) -> Labels:
        """The labels of the log at ``path``, and what stands beside its records."""
        return self._labels.of(path)

    def stream(self) -> ContainerStream:
        """For one more log."""
        return ContainerStream(self._shared)

    def again(self) -> ContainerStream:
        """For a part of the past."""
        return ContainerStream(self._made(replace(self._context, meter=Meter(), positions={}), Done({}), []))

    def _made(self, context: Context, done: Done, before: list[Logs]) -> Shared:
        options = self._options
        join_ns = round(options.join_seconds * NANOSECONDS)
        parser = parser_of(options, context)
        given = GivenTimes(context.positions, context.clock.wall_ns()) if parser is None else parser.given
        return Shared(context, self._labels.apart, parser, options.max_record_bytes, join_ns, done, before, given)


class ContainerSource:
    """Reads what one ``[collect.container]`` table names."""

    def __init__(self, options: ContainerOptions, context: Context, worker: Worker, watch: Watch | None) -> None:
        self._containers = Containers(options, context)
        of_files = {key: value for key, value in context.positions.items() if MARK not in key}
        self.files = FileSource(options, replace(context, positions=of_files), worker, watch, self._containers)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        async with aclosing(self.files.batches()) as read:
            async for batch in read:
                for each in self.parted(batch):
                    yield each

    def parted(self, batch: Batch) -> list[Batch]:
        """What is handed on of a block, in order; the last one moves the position of the file."""
        first = list(self._containers.before)
        self._containers.before.clear()
        settled = self._containers.done.settled()
        return [*first, replace(batch, positions=(*batch.positions, *settled)) if settled else batch]

    async def reread(self, origin: Origin) -> Logs | None:
        """The records at ``origin`` as they were handed on, or None where they no longer exist."""
        return await self.files.reread(origin)

    def status(self) -> dict[str, Any]:
        """What /status shows: as the file source."""
        return self.files.status()


@asynccontextmanager
async def open_container(options: ContainerOptions, context: Context) -> AsyncIterator[ContainerSource]:
    """Opens nothing of the files yet; leaving it closes them all."""
    with Worker(f"collect.{context.name}") as worker:
        source = ContainerSource(options, context, worker, watch_of(options, context))
        try:
            yield source
        finally:
            await worker.finish(source.files.close, CLOSE_SECONDS)
