"""This file changes a running pipeline to another configuration: only what is configured differently stops.

    open what is new downstream ─▶ lanes and sources that end, end ─▶ nothing is taken in: commit, swap the processors,
    tell the spool its lanes ─▶ lanes and sources that are new begin ─▶ close what is no longer used

Each step up to the spool's may refuse or fail: what has ended then begins again, and everything goes on as before.
A source that is configured as before is not touched, and one that is opened again goes on behind what it committed.
A request that is under way is waited for; a lane that left the configuration keeps what it holds until it is retired.
Nothing is waited for without a bound: what does not end is left behind, and what it still gives is not taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.errors import AgentError
from agent.supervise.pipeline import (
    LEAVE_SECONDS,
    Part,
    Pipeline,
    close_parts,
    end_or_leave,
    link_of,
    lossy,
    open_part,
    start_drains,
    start_source,
)
from agent.supervise.routing import lane_name, lanes_of, router

if TYPE_CHECKING:
    from agent.config.model import Config, Configured
    from agent.contract import Context
    from agent.spool.schema import SpoolOptions
    from agent.supervise.pipeline import Contexts

OPEN_SECONDS: Final = 20.0
COMMIT_SECONDS: Final = 10.0
"""How long a reload waits for the spool; intake stands still meanwhile."""

RETRIED_SECONDS: Final = 2.0
"""How long it waits before that for what keeps the spool from committing to be over."""


class Swap(Struct, frozen=True):
    """The names that a change of configuration touches, ``stage.name`` each, in the order of the data's journey."""

    begin: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    """The processors, where those that stay come in another order than before."""

    @property
    def ends(self) -> frozenset[str]:
        """What is closed, for good or to be opened again."""
        return frozenset((*self.restart, *self.finish))

    @property
    def opens(self) -> frozenset[str]:
        """What is opened, for the first time or again."""
        return frozenset((*self.begin, *self.restart))

    def sentence(self) -> str:
        """``started collect.file, restarted export.loki``; nothing where no component differs."""
        named = (("started", self.begin), ("restarted", self.restart), ("stopped", self.finish))
        order = [f"processors now in the order {', '.join(self.order)}"] if self.order else []
        return "; ".join([*(f"{verb} {', '.join(names)}" for verb, names in named if names), *order])


def swap_of(old: Config, new: Config, before: Contexts, after: Contexts) -> Swap:
    """What has to be opened and closed to come from one configuration to the other.

    The agent's labels are in everything its sources read, and a source may rest while no destination takes what it
    reads; so these make a source begin again as well.
    """
    olds, news = _by_key(old), _by_key(new)
    relabelled = old.agent.labels != new.agent.labels

    def differs(key: str) -> bool:
        was, now = olds[key], news[key]
        moved = now.stage == "collect" and (relabelled or before.routed(was) != after.routed(now))
        return was != now or moved

    return Swap(
        tuple(key for key in news if key not in olds),
        tuple(key for key in news if key in olds and differs(key)),
        tuple(key for key in olds if key not in news),
        _order(old, new),
    )


def _order(old: Config, new: Config) -> tuple[str, ...]:
    names = [[each.name for each in config.process] for config in (old, new)]
    was, now = ([name for name in mine if name in others] for mine, others in (names, reversed(names)))
    return () if was == now else tuple(names[1])


async def swap(pipeline: Pipeline, new: Config) -> Swap:
    """Runs ``new`` from here on. Raises AgentError where something of it cannot be opened, or the spool cannot take
    it; then everything goes on as before."""
    contexts = pipeline.contexts.after(new)
    plan = swap_of(pipeline.config, new, pipeline.contexts, contexts)
    commits = _must_commit(pipeline.config, new, plan)
    await _may_begin(pipeline, commits=commits)
    before = _Before(pipeline)
    try:
        await _change(pipeline, new, contexts, plan, before, commits=commits)
    except Exception:  # whatever it was, what has ended begins again
        before.links_again()  # before anything else runs: nothing has gone through the new ones
        before.leave_unused()
        await before.again()
        await close_parts(pipeline)
        raise
    except BaseException:  # the agent stops: what was opened is closed with the rest
        before.leave_unused()
        raise
    before.leave_unused()
    _begin(pipeline, plan, before)
    await close_parts(pipeline)
    return plan


async def _change(
    pipeline: Pipeline, new: Config, contexts: Contexts, plan: Swap, before: _Before, *, commits: bool
) -> None:
    """Opens what is new, ends what ends and puts the new into its place. Raises as ``swap`` does."""
    await _open_all([each for each in new.export if _key(each) in plan.opens], contexts, before.opened)
    await _try_all([each for each in new.process if _key(each) in plan.opens], contexts)
    await _end_lanes(pipeline, plan, before)
    await _end_sources(pipeline, plan)
    async with pipeline.intake.paused():
        await _commit(pipeline, needed=commits)
        await _swap_processors(pipeline, new, contexts, plan, before.opened)
        await _tell_spool(pipeline, new)
        pipeline.config, pipeline.contexts = new, contexts
        fresh = _fresh(before.opened, "export")
        pipeline.destinations = {
            each.name: fresh.get(each.name) or pipeline.destinations[each.name] for each in new.export
        }


def _begin(pipeline: Pipeline, plan: Swap, before: _Before) -> None:
    """Starts the lanes and sources that are new; a lane goes on behind what one of its name has sent."""
    for part in _fresh(before.opened, "export").values():
        start_drains(pipeline, part, before.after)
    for each in pipeline.config.collect:
        if _key(each) in plan.opens:
            start_source(pipeline, each, again=True)


def _fresh(opened: Sequence[Part], stage: str) -> dict[str, Part]:
    """What was opened of a stage, by name."""
    return {part.configured.name: part for part in opened if part.configured.stage == stage}


class _Before:
    """What stood before a change, to go back to. ``opened`` is what the change has opened so far, and ``after`` says
    how far each lane that ended has come."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.opened: list[Part] = []
        self.after: dict[str, int] = {}
        self._pipeline = pipeline
        self._links = list(pipeline.chain.links)
        self._processors = pipeline.processors
        self._destinations = pipeline.destinations
        self._options = pipeline.spool.options

    def links_again(self) -> None:
        """Puts the processors back; what they held when intake was paused they hold still."""
        self._pipeline.chain.links, self._pipeline.processors = self._links, self._processors

    def leave_unused(self) -> None:
        """Leaves what is open and not used to be closed."""
        pipeline = self._pipeline
        known = (*self.opened, *self._destinations.values(), *self._processors.values())
        used = {*pipeline.destinations.values(), *pipeline.processors.values()}
        pipeline.leaving += [part for part in known if part not in used]

    async def again(self) -> None:
        """Begins again whatever has ended, with the configuration there was."""
        pipeline = self._pipeline
        telling = asyncio.create_task(_tell(pipeline, pipeline.config, self._options), name="the lanes there were")
        await asyncio.wait((telling,), timeout=LEAVE_SECONDS)
        if not telling.done():
            pipeline.left.add(telling)
            telling.add_done_callback(pipeline.left.discard)
        for part in pipeline.destinations.values():
            if any(lane not in pipeline.drains for lane in _lanes(part)):
                start_drains(pipeline, part, self.after)
        for each in pipeline.config.collect:
            if each.name not in pipeline.source_tasks:
                start_source(pipeline, each, again=True)


def _must_commit(old: Config, new: Config, plan: Swap) -> bool:
    """Whether the change is one of what stands in the spool: of its lanes, or of what processors hold."""
    processors = any(name.startswith("process.") for name in (*plan.begin, *plan.restart, *plan.finish))
    return processors or lanes_of(old.export).keys() != lanes_of(new.export).keys()


async def _may_begin(pipeline: Pipeline, *, commits: bool) -> None:
    """Raises AgentError where it is known that the change would wait for the spool. What kept it from committing a
    moment ago may be over: it tries once a second."""
    spool, clock = pipeline.spool, pipeline.contexts.clock
    tried_seconds = clock.monotonic_seconds()
    while commits and spool.trouble is not None and clock.monotonic_seconds() - tried_seconds < RETRIED_SECONDS:
        await clock.sleep(RETRIED_SECONDS / 8)
    if spool.replacing:
        raise AgentError("the spool was damaged and is being replaced; reload again when that is done")
    if commits and spool.trouble is not None:
        raise _no_commit(pipeline)


def _no_commit(pipeline: Pipeline) -> AgentError:
    why = pipeline.spool.trouble or f"not within {COMMIT_SECONDS:g} s"
    return AgentError(
        f"lanes and processors are changed together with what the spool holds, and it cannot commit ({why}); "
        f"see to {pipeline.spool.store.directory} and reload again"
    )


async def _commit(pipeline: Pipeline, *, needed: bool) -> None:
    """Commits what was taken in. Raises AgentError where that does not work and is ``needed``."""
    if not needed and pipeline.spool.trouble is not None:
        return
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            await pipeline.spool.flush()
    except TimeoutError:
        if needed:
            raise _no_commit(pipeline) from None


async def _end_sources(pipeline: Pipeline, plan: Swap) -> None:
    names = [name for name in pipeline.source_tasks if f"collect.{name}" in plan.ends]
    for state in pipeline.sources:
        state.left = state.left or state.name in names
    tasks = [pipeline.source_tasks.pop(name) for name in names]
    pipeline.sources[:] = [state for state in pipeline.sources if not state.left]
    await end_or_leave(pipeline, tasks)


async def _end_lanes(pipeline: Pipeline, plan: Swap, before: _Before) -> None:
    """Ends the lanes of the destinations that end, each behind the request that is under way; one that is not answered
    in time may be sent once more."""
    parts = [part for name, part in pipeline.destinations.items() if f"export.{name}" in plan.ends]
    lanes = [lane for part in parts for lane in _lanes(part)]
    for lane in lanes:
        pipeline.drains[lane].leave()
    pipeline.spool.announce()
    if lanes:
        _, late = await asyncio.wait([pipeline.lane_tasks[lane] for lane in lanes], timeout=LEAVE_SECONDS)
        await end_or_leave(pipeline, list(late))
    for lane in lanes:
        before.after[lane] = pipeline.drains.pop(lane).after
        del pipeline.lane_tasks[lane]


async def _swap_processors(pipeline: Pipeline, new: Config, contexts: Contexts, plan: Swap, opened: list[Part]) -> None:
    """Puts the new processors in their order; one that is opened again remembers what it held, and what one held that
    does not come again has been let go of first, and goes on through those behind it."""
    standing = pipeline.processors
    await _open_all([each for each in new.process if _key(each) in plan.opens], contexts, opened)
    fresh = _fresh(opened, "process")
    leaving = [name for name in standing if f"process.{name}" in plan.finish]
    if leaving:
        await pipeline.intake.released(leaving)
        await _commit(pipeline, needed=True)
    links = {link.name: link for link in pipeline.chain.links}
    parts = {each.name: fresh.get(each.name) or standing[each.name] for each in new.process}
    pipeline.chain.links = [link_of(fresh[name]) if name in fresh else links[name] for name in parts]
    pipeline.processors = parts


async def _tell_spool(pipeline: Pipeline, new: Config) -> None:
    """Tells the spool its bounds and lanes. Raises AgentError where it cannot take them."""
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            await _tell(pipeline, new, new.spool)
    except TimeoutError:
        raise _no_commit(pipeline) from None


async def _tell(pipeline: Pipeline, config: Config, options: SpoolOptions) -> None:
    if options != pipeline.spool.options:
        await pipeline.spool.change(options)
    await pipeline.spool.configure(lanes_of(config.export), router(config.export), lossy(config))


async def _open_all(wanted: Sequence[Configured], contexts: Contexts, opened: list[Part]) -> None:
    for each in wanted:
        opened.append(await _opened(each, contexts.of(each)))  # noqa: PERF401 - kept also where the next one fails


async def _try_all(wanted: Sequence[Configured], contexts: Contexts) -> None:
    """Opens processors with no past and closes them again. Raises AgentError where one cannot be opened."""
    for each in wanted:
        part = await _opened(each, contexts.of(each, fresh=True))
        await part.closing.aclose()


async def _opened(configured: Configured, context: Context) -> Part:
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            return await open_part(configured, context)
    except TimeoutError:
        raise AgentError(
            f"[{_key(configured)}] was not open within {OPEN_SECONDS:g} s; see whether what it names answers, and "
            "reload again"
        ) from None


def _lanes(part: Part) -> list[str]:
    return [lane_name(part.configured.name, signal) for signal in part.configured.component.signals]


def _key(configured: Configured) -> str:
    return f"{configured.stage}.{configured.name}"


def _by_key(config: Config) -> dict[str, Configured]:
    return {_key(each): each for each in config.components()}
