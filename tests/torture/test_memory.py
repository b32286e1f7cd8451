"""The agent is left alive while everything else goes wrong for long, and takes no more memory for it.

TELEMETRY_TORTURE_SECONDS=3600 does it for an hour; what is measured at its end is held against what was measured after
TELEMETRY_TORTURE_MEMORY_FROM seconds, ten minutes where nothing is said.
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
from tests.torture.world import World

__all__ = ["disk"]

SECONDS = float(os.environ.get("TELEMETRY_TORTURE_SECONDS", "0"))
FROM_SECONDS = float(os.environ.get("TELEMETRY_TORTURE_MEMORY_FROM", "600"))
WINDOW_SECONDS = 120.0
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
        SECONDS < FROM_SECONDS + 2 * WINDOW_SECONDS,
        reason=f"runs for as long as TELEMETRY_TORTURE_SECONDS says, {FROM_SECONDS + 2 * WINDOW_SECONDS:g} or more",
    ),
]


def test_memory_is_flat_under_torture(tmp_path: Path, disk: Path | None) -> None:
    announce(disk)
    state = disk and disk / "state"
    with World(tmp_path, SEED, state=state, file=FORGETFUL, bytes_a_second=PACE, environ=AS_IN_THE_UNIT) as world:
        world.meet()
        with world.agent() as agent:
            agent.wait_ready()
            curve, next_seconds = Curve(), 0.0
            while curve.seconds < SECONDS:
                time.sleep(LOOK_SECONDS)
                curve.look(agent.pid)
                if curve.seconds > next_seconds:
                    something(world, agent)
                    if world.choice.random() < 0.5:
                        get_well(world, agent)
                    next_seconds = curve.seconds + world.choice.uniform(0, 3.0)
            world.relieve()
            world.stop(agent)
        print(curve, flush=True)
        world.settle()
        judge(world)
    before = curve.middle_kib(FROM_SECONDS, FROM_SECONDS + WINDOW_SECONDS)
    after = curve.middle_kib(SECONDS - WINDOW_SECONDS, SECONDS)
    print(f"{before} KiB after {FROM_SECONDS:g} s, {after} KiB after {SECONDS:g} s: {after / before:.3f}", flush=True)
    assert after <= MOST_GROWTH * before


def get_well(world: World, agent: AgentProcess) -> None:
    """The backend is well, and the agent need not wait for five minutes to see it."""
    world.relieve()
    world.backend.mood("well")
    agent.signal(signal.SIGHUP)
