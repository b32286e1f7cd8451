"""This file opens the components of a configuration, downstream first, and closes them in the reverse order.

destinations  →  processors  →  sources
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from msgspec import Struct, field

from agent.batch import Family
from agent.clock import Clock
from agent.config.model import Config, Configured
from agent.contract import Context, Source
from agent.errors import AgentError, ConfigError
from agent.export.drain import Drain
from agent.host import Host
from agent.options import ProcessorOptions, SourceOptions
from agent.ownmetrics import Meter, Readings
from agent.process.chain import Chain, Link
from agent.spool.spool import Spool
from agent.supervise.intake import Intake, SourceState, run_source
from agent.supervise.lanes import Healer, LaneQueue
from agent.supervise.routing import lane_name, lanes_of, router, sees
from agent.worker import Worker

log = logging.getLogger("telemetry_agent.supervise")

SOURCE_SECONDS = 20.0
"""How long a damaged batch waits for its source to be opened, or opened again, before it counts as lost."""

LOOK_SECONDS = 0.1
LEAVE_SECONDS = 5.0
"""How long what ends while the rest runs on may take for it; after that nobody waits for it any more."""


class Contexts:
    """Makes what each component is given when it is opened."""

    def __init__(
        self,
        config: Config,
        host: Host,
        clock: Clock,
        meter: Meter,
        spool: Spool,
        readings: Callable[[], Awaitable[Readings]] | None = None,
    ) -> None:
        self.readings = readings
        self.clock = clock
        self.meter = meter
        self._route = router(config.export)
        self._config = config
        self._host = host
        self._spool = spool

    def routed(self, configured: Configured) -> bool:
        """Whether any destination takes what a component makes."""
        return any(self._route((configured.name, signal)) for signal in configured.component.signals)

    def after(self, config: Config) -> Contexts:
        """The same of another configuration."""
        return Contexts(config, self._host, self.clock, self.meter, self._spool, self.readings)

    def of(self, configured: Configured, *, fresh: bool = False) -> Context:
        """The context of one component; a ``fresh`` one has no past."""
        positions = self._spool.positions(configured.name) if configured.stage == "collect" else {}
        holding = configured.stage == "process" and not fresh
        return Context(
            name=configured.name,
            host=self._host,
            clock=self.clock,
            meter=Meter() if fresh else self.meter,
            labels=self._config.agent.labels,
            positions=positions,
            first_start=not positions,
            routed=self.routed(configured),
            readings=self.readings,
            state=self._spool.state(configured.name) if holding else None,
            secrets=self._config.secrets,
        )


class Part(Struct, eq=False):
    """One destination or processor, opened: what it is configured as, what it is, and what closes it."""

    configured: Configured
    opened: Any
    closing: AsyncExitStack


class Pipeline(Struct):
    """Everything between the machine and the destinations, opened.

    ``mind`` is told of every task that runs for good, so that one that fails does not fail unseen. ``leaving`` are
    parts that are no longer used and not closed yet, and ``left`` what did not end when it should have.
    """

    config: Config
    contexts: Contexts
    spool: Spool
    intake: Intake
    chain: Chain
    worker: Worker
    destinations: dict[str, Part] = field(default_factory=dict)
    processors: dict[str, Part] = field(default_factory=dict)
    drains: dict[str, Drain] = field(default_factory=dict)
    sources: list[SourceState] = field(default_factory=list)
    lane_tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    source_tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    ticking: list[asyncio.Task[None]] = field(default_factory=list)
    leaving: list[Part] = field(default_factory=list)
    left: set[asyncio.Task[None]] = field(default_factory=set)
    mind: Callable[[asyncio.Task[None]], object] = lambda task: None

    @property
    def draining(self) -> list[asyncio.Task[None]]:
        """The tasks that empty the lanes."""
        return list(self.lane_tasks.values())

    @property
    def collecting(self) -> list[asyncio.Task[None]]:
        """The tasks that take in."""
        return [*self.source_tasks.values(), *self.ticking]

    def views(self) -> list[Callable[[], Awaitable[Sequence[Family]]]]:
        """What the open sources of metrics, and processors that make some, are asked for what they have now."""
        parts = [*(state.source for state in self.sources), *(link.processor for link in self.chain.links)]
        return [view for part in parts if (view := getattr(part, "view", None)) is not None]

    async def source(self, name: str) -> Source | None:
        """The source of this name, once it is open. None where there is none, or it is not open in time."""
        if all(each.name != name for each in self.config.collect):
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(SOURCE_SECONDS):
                while True:
                    for state in self.sources:
                        if state.name == name and state.source is not None:
                            return state.source
                    await asyncio.sleep(LOOK_SECONDS)
        return None


@asynccontextmanager
async def open_pipeline(
    config: Config, host: Host, clock: Clock, meter: Meter, spool: Spool
) -> AsyncIterator[Pipeline]:
    """Opens destinations and processors and starts draining; ``start_sources`` does the rest."""
    contexts = Contexts(config, host, clock, meter, spool)
    await spool.configure(lanes_of(config.export), router(config.export), lossy(config))
    with Worker("process") as worker:
        chain = Chain((), clock, meter)
        pipeline = Pipeline(config, contexts, spool, Intake(spool, chain, worker, clock, meter), chain, worker)
        try:
            for each in config.export:
                pipeline.destinations[each.name] = await open_part(each, contexts.of(each))
            for each in config.process:
                pipeline.processors[each.name] = await open_part(each, contexts.of(each))
            chain.links = [link_of(part) for part in pipeline.processors.values()]
            for part in pipeline.destinations.values():
                start_drains(pipeline, part)
            yield pipeline
        finally:
            await end([*pipeline.collecting, *pipeline.draining])
            parts = (
                *pipeline.leaving,
                *reversed(pipeline.processors.values()),
                *reversed(pipeline.destinations.values()),
            )
            for part in parts:
                await part.closing.aclose()


def lossy(config: Config) -> frozenset[str]:
    """The sources that cannot wait."""
    return frozenset(
        each.name
        for each in config.collect
        if each.component.lossy or (isinstance(each.options, SourceOptions) and each.options.lossy)
    )


def start_drains(pipeline: Pipeline, part: Part, after: Mapping[str, int] | None = None) -> None:
    """Begins to empty the lanes of a destination into it, each behind the batch that ``after`` names."""
    contexts, configured = pipeline.contexts, part.configured
    healer = Healer(pipeline.source, partial(fresh_chain, pipeline), pipeline.worker)
    takes_entries: bool = getattr(part.opened, "takes_entries", False)
    takes_repeats: bool = getattr(part.opened, "takes_repeats_of_the_newest", False)
    for signal in configured.component.signals:
        name = lane_name(configured.name, signal)
        queue = LaneQueue(pipeline.spool, name, takes_entries=takes_entries, takes_repeats=takes_repeats)
        drain = Drain(name, queue, part.opened, contexts.clock, contexts.meter, healer.heal)
        drain.after = (after or {}).get(name, 0)
        drain.state.timeout_seconds = getattr(configured.options, "timeout_seconds", 0.0)
        pipeline.drains[name] = drain
        pipeline.lane_tasks[name] = task = asyncio.create_task(drain.run(), name=f"drain {name}")
        pipeline.mind(task)


def link_of(part: Part) -> Link:
    """A processor in its place in the chain."""
    options = part.configured.options
    from_ = options.from_ if isinstance(options, ProcessorOptions) else None
    return Link(part.configured.name, part.opened, sees(from_), part.opened.held())


@asynccontextmanager
async def fresh_chain(pipeline: Pipeline) -> AsyncIterator[Chain]:
    """The configured processors as they are with no past, counting for nobody."""
    contexts = pipeline.contexts
    async with AsyncExitStack() as stack:
        links = []
        for each in pipeline.config.process:
            part = await open_part(each, contexts.of(each, fresh=True))
            stack.push_async_callback(part.closing.aclose)
            links.append(link_of(part))
        yield Chain(links, contexts.clock, Meter())


def start_sources(pipeline: Pipeline, readings: Callable[[], Awaitable[Readings]] | None = None) -> None:
    """Starts taking in. ``readings`` are the agent's numbers about itself that its meter does not hold."""
    pipeline.contexts.readings = readings
    for each in pipeline.config.collect:
        start_source(pipeline, each)
    ticking = asyncio.create_task(pipeline.intake.tick(), name="processors")
    pipeline.ticking.append(ticking)
    pipeline.mind(ticking)


def start_source(pipeline: Pipeline, configured: Configured, *, again: bool = False) -> None:
    """Starts taking in from one source; where it ran before, once all that it gave is durable."""
    state = SourceState(configured.name, configured.type)
    pipeline.sources.append(state)
    context = partial(pipeline.contexts.of, configured)

    async def run() -> None:
        if again:
            await pipeline.spool.flush()
        await run_source(configured, context, pipeline.intake, pipeline.spool, state)

    pipeline.source_tasks[state.name] = task = asyncio.create_task(run(), name=f"source {state.name}")
    pipeline.mind(task)


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels tasks and returns when they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def end_or_leave(pipeline: Pipeline, tasks: list[asyncio.Task[None]]) -> None:
    """The same, but returns after LEAVE_SECONDS whatever has not ended then; says so."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=LEAVE_SECONDS)
    for task in late:
        log.warning("%s has not ended within %g s; nobody waits for it any more", task.get_name(), LEAVE_SECONDS)
        pipeline.left.add(task)
        task.add_done_callback(pipeline.left.discard)


async def close_parts(pipeline: Pipeline) -> None:
    """Closes what is no longer used, each within LEAVE_SECONDS; says what could not be closed, and raises nothing."""
    while pipeline.leaving:
        part = pipeline.leaving[0]
        name = f"[{part.configured.stage}.{part.configured.name}]"
        closing = asyncio.create_task(part.closing.aclose(), name=f"closing {name}")
        done, _ = await asyncio.wait((closing,), timeout=LEAVE_SECONDS)
        if not done:
            log.warning("%s was not closed within %g s", name, LEAVE_SECONDS)
            await end_or_leave(pipeline, [closing])
        elif not closing.cancelled() and (error := closing.exception()) is not None:
            log.error("%s could not be closed", name, exc_info=error)
        pipeline.leaving.remove(part)


async def open_part(configured: Configured, context: Context) -> Part:
    """Opens a destination or processor. Raises AgentError or ConfigError where it cannot be."""
    closing = AsyncExitStack()
    try:
        opened = await closing.enter_async_context(configured.component.open(configured.options, context))
    except (AgentError, ConfigError):
        raise
    except (OSError, ValueError) as error:
        table = f"{configured.stage}.{configured.name}"
        raise AgentError(f"[{table}] cannot be opened: {context.secrets.mask(str(error))}") from error
    return Part(configured, opened, closing)
