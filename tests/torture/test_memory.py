"""The agent is left alive while everything else goes wrong for long, and takes no more memory for it.

TELEMETRY_TORTURE_SECONDS=3600 does it for an hour; what is measured at its end is held against what was measured after
TELEMETRY_TORTURE_MEMORY_FROM seconds, ten minutes where nothing is said. Both times it is measured when the agent has
caught up and rested for as long as it takes to give memory back: what it holds of a backlog is no growth.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.agent_process import AgentProcess
from tests.torture.happenings import something
from tests.torture.memory import Curve
from tests.torture.test_kills import SEED, announce, disk, judge
from tests.torture.world import World, settled

__all__ = ["disk"]

SECONDS = float(os.environ.get("TELEMETRY_TORTURE_SECONDS", "0"))
FROM_SECONDS = float(os.environ.get("TELEMETRY_TORTURE_MEMORY_FROM", "600"))
REST_SECONDS = 75.0
WINDOW_SECONDS = 10.0
CAUGHT_UP_SECONDS = 900.0
MOST_GROWTH = 1.05
LOOK_SECONDS = 1.0
FORGETFUL = "forget_after_seconds = 60.0"
"""Rotations of years pass in an hour; the position of each file that is gone is kept for a week otherwise."""

AS_IN_THE_UNIT = {"MALLOC_ARENA_MAX": "1", "PYTHONNODEBUGRANGES": "1"}
PACE = 200_000
"""Bytes a second; what waits while the backend is not well is caught up with now and then."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.on_demand,
    pytest.mark.skipif(
        SECONDS < 2 * FROM_SECONDS,
        reason=f"runs for as long as TELEMETRY_TORTURE_SECONDS says, {2 * FROM_SECONDS:g} or more",
    ),
]


def test_memory_is_flat_under_torture(tmp_path: Path, disk: Path | None) -> None:
    announce(disk)
    state = disk and disk / "state"
    with World(tmp_path, SEED, state=state, file=FORGETFUL, bytes_a_second=PACE, environ=AS_IN_THE_UNIT) as world:
        world.meet()
        with world.agent() as agent:
            agent.wait_ready()
            curve = Curve()
            suffer(world, agent, curve, FROM_SECONDS)
            before = at_rest_kib(world, agent)
            suffer(world, agent, curve, SECONDS)
            after = at_rest_kib(world, agent)
            world.stop(agent)
        print(curve, flush=True)
        world.settle()
        judge(world)
    print(f"{before} KiB after {FROM_SECONDS:g} s, {after} KiB after {SECONDS:g} s: {after / before:.3f}", flush=True)
    assert after <= MOST_GROWTH * before


def suffer(world: World, agent: AgentProcess, curve: Curve, until_seconds: float) -> None:
    """One thing after the other goes wrong, and every other time the backend gets well after it."""
    next_seconds = curve.seconds
    while curve.seconds < until_seconds:
        time.sleep(LOOK_SECONDS)
        curve.look(agent.pid)
        if curve.seconds > next_seconds:
            something(world, agent)
            if world.choice.random() < 0.5:
                get_well(world, agent)
            next_seconds = curve.seconds + world.choice.uniform(0, 3.0)


def at_rest_kib(world: World, agent: AgentProcess) -> int:
    """What it has to itself when nothing waits and nothing happens."""
    world.logs.do("pause")
    get_well(world, agent)
    world.wait_for(agent, settled(), CAUGHT_UP_SECONDS)
    resting = Curve()
    while resting.seconds < REST_SECONDS:
        time.sleep(LOOK_SECONDS)
        resting.look(agent.pid)
    world.logs.do("resume")
    return resting.middle_kib(REST_SECONDS - WINDOW_SECONDS, REST_SECONDS)


def get_well(world: World, agent: AgentProcess) -> None:
    """The backend is well, and the agent need not wait for five minutes to see it."""
    world.relieve()
    world.backend.mood("well")
    agent.signal(signal.SIGHUP)
