"""This file opens the components of a configuration, downstream first, and closes them in the reverse order.

destinations  →  processors  →  sources
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from msgspec import Struct, field

from agent.batch import Family
from agent.clock import Clock
from agent.config.model import Config, Configured
from agent.contract import Context, Destination, Source
from agent.errors import AgentError, ConfigError
from agent.export.drain import Drain
from agent.host import Host
from agent.options import ProcessorOptions
from agent.ownmetrics import Meter, Readings
from agent.process.chain import Chain, Link
from agent.spool.spool import Spool
from agent.supervise.intake import Intake, SourceState, run_source
from agent.supervise.lanes import Healer, LaneQueue
from agent.supervise.routing import lane_name, lanes_of, router, sees
from agent.worker import Worker

SOURCE_SECONDS = 20.0
"""How long a damaged batch waits for its source to be opened, or opened again, before it counts as lost."""

LOOK_SECONDS = 0.1


class Pipeline(Struct):
    """Everything between the machine and the destinations, opened."""

    spool: Spool
    intake: Intake
    chain: Chain
    source_names: frozenset[str] = frozenset()
    drains: dict[str, Drain] = field(default_factory=dict)
    sources: list[SourceState] = field(default_factory=list)
    draining: list[asyncio.Task[None]] = field(default_factory=list)
    collecting: list[asyncio.Task[None]] = field(default_factory=list)

    def views(self) -> list[Callable[[], Awaitable[Sequence[Family]]]]:
        """What the open sources of metrics are asked for what they read now."""
        return [view for state in self.sources if (view := getattr(state.source, "view", None)) is not None]

    async def source(self, name: str) -> Source | None:
        """The source of this name, once it is open. None where there is none, or it is not open in time."""
        if name not in self.source_names:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(SOURCE_SECONDS):
                while True:
                    for state in self.sources:
                        if state.name == name and state.source is not None:
                            return state.source
                    await asyncio.sleep(LOOK_SECONDS)
        return None


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
        self._readings = readings
        self._route = router(config.export)
        self._config = config
        self._host = host
        self._clock = clock
        self._meter = meter
        self._spool = spool

    def of(self, configured: Configured, *, fresh: bool = False) -> Context:
        """The context of one component; a ``fresh`` one has no past."""
        positions = self._spool.positions(configured.name) if configured.stage == "collect" else {}
        holding = configured.stage == "process" and not fresh
        return Context(
            name=configured.name,
            host=self._host,
            clock=self._clock,
            meter=self._meter,
            labels=self._config.agent.labels,
            positions=positions,
            first_start=not positions,
            routed=any(self._route((configured.name, signal)) for signal in configured.component.signals),
            readings=self._readings,
            state=self._spool.state(configured.name) if holding else None,
            secrets=self._config.secrets,
        )


@asynccontextmanager
async def open_pipeline(
    config: Config, host: Host, clock: Clock, meter: Meter, spool: Spool
) -> AsyncIterator[Pipeline]:
    """Opens destinations and processors and starts draining; ``start_sources`` does the rest."""
    contexts = Contexts(config, host, clock, meter, spool)
    lossy = frozenset(each.name for each in config.collect if each.component.lossy)
    await spool.configure(lanes_of(config.export), router(config.export), lossy)
    async with AsyncExitStack() as stack:
        worker = stack.enter_context(Worker("process"))
        destinations = {each.name: await _open(stack, each, contexts.of(each)) for each in config.export}
        chain = await open_chain(stack, config, contexts, clock, meter)
        names = frozenset(each.name for each in config.collect)
        pipeline = Pipeline(spool, Intake(spool, chain, worker, clock, meter), chain, names)
        healer = Healer(pipeline.source, partial(fresh_chain, config, contexts, clock), worker)
        for each in config.export:
            for signal in each.component.signals:
                name = lane_name(each.name, signal)
                drain = _drain(name, spool, destinations[each.name], clock, meter, healer)
                drain.state.timeout_seconds = getattr(each.options, "timeout_seconds", 0.0)
                pipeline.drains[name] = drain
        pipeline.draining = [
            asyncio.create_task(drain.run(), name=f"drain {name}") for name, drain in pipeline.drains.items()
        ]
        try:
            yield pipeline
        finally:
            await end([*pipeline.collecting, *pipeline.draining])


def _drain(name: str, spool: Spool, destination: Destination, clock: Clock, meter: Meter, healer: Healer) -> Drain:
    takes_entries = getattr(destination, "takes_entries", False)
    return Drain(name, LaneQueue(spool, name, takes_entries=takes_entries), destination, clock, meter, healer.heal)


async def open_chain(
    stack: AsyncExitStack, config: Config, contexts: Contexts, clock: Clock, meter: Meter, *, fresh: bool = False
) -> Chain:
    """The configured processors, opened on ``stack``; ``fresh`` ones remember nothing."""
    links = []
    for each in config.process:
        context = contexts.of(each, fresh=fresh)
        processor = await _open(stack, each, context)
        from_ = each.options.from_ if isinstance(each.options, ProcessorOptions) else None
        links.append(Link(each.name, processor, sees(from_), processor.held()))
    return Chain(links, clock, meter)


@asynccontextmanager
async def fresh_chain(config: Config, contexts: Contexts, clock: Clock) -> AsyncIterator[Chain]:
    """The configured processors as they are with no past, counting for nobody."""
    async with AsyncExitStack() as stack:
        yield await open_chain(stack, config, contexts, clock, Meter(), fresh=True)


def start_sources(
    pipeline: Pipeline,
    config: Config,
    host: Host,
    clock: Clock,
    meter: Meter,
    readings: Callable[[], Awaitable[Readings]] | None = None,
) -> None:
    """Starts taking in. ``readings`` are the agent's numbers about itself that ``meter`` does not hold."""
    contexts = Contexts(config, host, clock, meter, pipeline.spool, readings)
    for each in config.collect:
        state = SourceState(each.name, each.type)
        pipeline.sources.append(state)
        run = run_source(each, partial(contexts.of, each), pipeline.intake, pipeline.spool, state)
        pipeline.collecting.append(asyncio.create_task(run, name=f"source {each.name}"))
    pipeline.collecting.append(asyncio.create_task(pipeline.intake.tick(), name="processors"))


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels tasks and returns when they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _open(stack: AsyncExitStack, configured: Configured, context: Context):  # type: ignore[no-untyped-def]  # what the component opens
    try:
        return await stack.enter_async_context(configured.component.open(configured.options, context))
    except (AgentError, ConfigError):
        raise
    except (OSError, ValueError) as error:
        table = f"{configured.stage}.{configured.name}"
        raise AgentError(f"[{table}] cannot be opened: {context.secrets.mask(str(error))}") from error
