"""This file is the agent as a source of metrics: on every tick, all its numbers about itself as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from agent.batch import Metrics, cycle_of, labels_of
from agent.ownfamilies import own_families

if TYPE_CHECKING:
    from agent.collect.agent_options import AgentMetricsOptions
    from agent.contract import Context

JOB: Final = "telemetry-agent"


class AgentSource:
    """The source; see agent.contract.Source."""

    def __init__(self, options: AgentMetricsOptions, context: Context) -> None:
        self._interval_seconds = options.interval_seconds
        self._context = context
        given = {"job": JOB, "instance": context.host.hostname}
        self._labels = labels_of(given, context.labels, options.labels)

    async def batches(self) -> AsyncGenerator[Metrics, None]:
        """A batch a tick; nothing where no destination takes metrics."""
        if not self._context.routed:
            await asyncio.get_running_loop().create_future()
        while True:
            yield await self._look()
            await self._context.clock.sleep(self._interval_seconds)

    async def _look(self) -> Metrics:
        readings = {} if self._context.readings is None else await self._context.readings()
        return cycle_of(self._context.name, self._labels, own_families(self._context.meter, readings))


@asynccontextmanager
async def open_agent(options: AgentMetricsOptions, context: Context) -> AsyncIterator[AgentSource]:
    """Nothing is held."""
    yield AgentSource(options, context)
