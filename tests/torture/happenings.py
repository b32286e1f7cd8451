"""This file is what goes on around an agent that runs, one table: what happens, and how often."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.agent_process import AgentProcess
from tests.torture.lines import NAMES, RENAMED
from tests.torture.world import MOODS, World
from tests.torture.writer import ROTATIONS, file_for

CATCH_UP_SECONDS = 2.0
LONGEST_HOLD_SECONDS = 400.0
"""A lane that was told something that no waiting mends asks again after five minutes."""


def rotated(world: World) -> None:
    """A file is rotated, in one of the ways there are."""
    what = world.deal(ROTATIONS)
    world.logs.do(what, file_for(what, world.choice))


def _rotated(world: World, _: AgentProcess) -> None:
    rotated(world)


def read_first(*ways: str) -> Callable[[World, AgentProcess], None]:
    """What would lose lines by itself if not everything had been read."""

    def happening(world: World, agent: AgentProcess) -> None:
        world.logs.do("pause")
        if world.caught_up(agent, CATCH_UP_SECONDS):
            what = world.deal(ways)
            world.logs.do(what, world.choice.choice(NAMES if what == "delete" else RENAMED))
        world.logs.do("resume")

    return happening


def _same_configuration(_: World, agent: AgentProcess) -> None:
    agent.signal(signal.SIGHUP)


def _other_configuration(world: World, agent: AgentProcess) -> None:
    world.relieve()  # what is changed is committed first, and a command does not wait for ever
    if agent.status()["spool"]["full"]:
        world.backend.mood("well")  # what fills it may be all that waits for the backend
    world.wait_for(agent, lambda status: not status["spool"]["full"], LONGEST_HOLD_SECONDS)
    world.reload(agent)


def _backend_dies(world: World, _: AgentProcess) -> None:
    world.backend.kill()


def _mood(world: World, _: AgentProcess) -> None:
    world.backend.mood(world.deal(("well", *MOODS)))


def _disk(world: World, _: AgentProcess) -> None:
    """The disk is full for a moment, or until something else happens to it."""
    if world.ballast is None:
        return
    for _turn in range(world.deal((1, 5, 10))):
        world.fill()
        time.sleep(0.1)
    if world.choice.random() < 0.7:
        world.relieve()


HAPPENINGS: dict[Callable[[World, AgentProcess], None], int] = {
    _rotated: 5,
    read_first("delete", "rewrite", "rewrite", "tidy", "looked"): 2,
    _same_configuration: 1,
    _other_configuration: 1,
    _backend_dies: 1,
    _mood: 3,
    _disk: 1,
}


def something(world: World, agent: AgentProcess) -> None:
    """One of them; each as often as the table says before it begins anew."""
    happening = world.deal(tuple(each for each, often in HAPPENINGS.items() for _ in range(often)))
    happening(world, agent)
