"""This file changes a running pipeline to another configuration: only what is configured differently stops.

    open what is new downstream ─▶ sources and lanes that end, end ─▶ nothing is taken in: commit, swap the processors,
    tell the spool its lanes ─▶ lanes and sources that are new begin ─▶ close what is no longer used

What is opened first may refuse, and then nothing has changed. A source that is configured as before is not touched, and
one that is opened again goes on behind what it has committed. A request that is under way is waited for; a lane that
left the configuration keeps what it holds until it is retired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.supervise.pipeline import (
    Part,
    Pipeline,
    end,
    link_of,
    lossy,
    open_part,
    start_drains,
    start_source,
)
from agent.supervise.routing import lane_name, lanes_of, router

if TYPE_CHECKING:
    from agent.config.model import Config, Configured
    from agent.supervise.pipeline import Contexts

LEAVE_SECONDS: Final = 5.0
"""How long a lane that ends waits for the answer to its request; after that the request may be sent once more."""


class Swap(Struct, frozen=True):
    """The names that a change of configuration touches, ``stage.name`` each, in the order of the data's journey."""

    begin: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()

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
        return "; ".join(f"{verb} {', '.join(names)}" for verb, names in named if names)


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
    )


async def swap(pipeline: Pipeline, new: Config) -> Swap:
    """Runs ``new`` from here on. Raises AgentError where something of it cannot be opened; then nothing has changed."""
    contexts = pipeline.contexts.after(new)
    plan = swap_of(pipeline.config, new, pipeline.contexts, contexts)
    destinations = await _opened([each for each in new.export if _key(each) in plan.opens], contexts)
    try:
        await _tried([each for each in new.process if _key(each) in plan.opens], contexts)
    except BaseException:
        await _closed(destinations.values())
        raise
    await _end_sources(pipeline, plan)
    ended = await _end_lanes(pipeline, plan)
    async with pipeline.intake.paused():
        await pipeline.spool.flush()
        ended += await _swap_processors(pipeline, new, contexts, plan)
        if new.spool != pipeline.config.spool:
            await pipeline.spool.change(new.spool)
        await pipeline.spool.configure(lanes_of(new.export), router(new.export), lossy(new))
        pipeline.config, pipeline.contexts = new, contexts
    pipeline.destinations = {
        each.name: destinations.get(each.name) or pipeline.destinations[each.name] for each in new.export
    }
    for part in destinations.values():
        start_drains(pipeline, part)
    for each in new.collect:
        if _key(each) in plan.opens:
            start_source(pipeline, each)
    await _closed(ended)
    return plan


async def _end_sources(pipeline: Pipeline, plan: Swap) -> None:
    names = [name for name in pipeline.source_tasks if f"collect.{name}" in plan.ends]
    await end([pipeline.source_tasks.pop(name) for name in names])
    pipeline.sources[:] = [state for state in pipeline.sources if state.name not in names]


async def _end_lanes(pipeline: Pipeline, plan: Swap) -> list[Part]:
    """Ends the lanes of the destinations that end, each behind the request that is under way; returns those parts."""
    parts = [part for name, part in pipeline.destinations.items() if f"export.{name}" in plan.ends]
    lanes = [lane_name(part.configured.name, signal) for part in parts for signal in part.configured.component.signals]
    for lane in lanes:
        pipeline.drains[lane].leave()
    pipeline.spool.announce()
    tasks = [pipeline.lane_tasks.pop(lane) for lane in lanes]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=LEAVE_SECONDS)
        await end(list(late))
    for lane in lanes:
        del pipeline.drains[lane]
    return parts


async def _swap_processors(pipeline: Pipeline, new: Config, contexts: Contexts, plan: Swap) -> list[Part]:
    """Puts the new processors in their order; one that is opened again remembers what it held. Returns those that
    ended: what one held that does not come again has been let go of first, and goes on through those behind it."""
    leaving = [name for name in pipeline.processors if f"process.{name}" in plan.finish]
    await pipeline.intake.released(leaving)
    await pipeline.spool.flush()
    before = pipeline.processors
    parts = {
        each.name: await open_part(each, contexts.of(each)) if _key(each) in plan.opens else before[each.name]
        for each in new.process
    }
    kept = {link.name: link for link in pipeline.chain.links}
    pipeline.chain.links = [
        link_of(part) if f"process.{name}" in plan.opens else kept[name] for name, part in parts.items()
    ]
    pipeline.processors = parts
    return [part for name, part in before.items() if parts.get(name) is not part]


async def _opened(wanted: Sequence[Configured], contexts: Contexts) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    try:
        for each in wanted:
            parts[each.name] = await open_part(each, contexts.of(each))
    except BaseException:
        await _closed(parts.values())
        raise
    return parts


async def _tried(wanted: Sequence[Configured], contexts: Contexts) -> None:
    """Opens processors with no past and closes them again. Raises AgentError where one cannot be opened."""
    for each in wanted:
        part = await open_part(each, contexts.of(each, fresh=True))
        await part.closing.aclose()


async def _closed(parts: Iterable[Part]) -> None:
    for part in parts:
        await part.closing.aclose()


def _key(configured: Configured) -> str:
    return f"{configured.stage}.{configured.name}"


def _by_key(config: Config) -> dict[str, Configured]:
    return {_key(each): each for each in config.components()}
