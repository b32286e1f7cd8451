"""The agent is left alive while everything else goes wrong for long, and takes no more memory for it.

TELEMETRY_TORTURE_SECONDS=3600 does it for an hour; what is measured at its end is held against what was measured after
TELEMETRY_TORTURE_MEMORY_FROM seconds, ten minutes where nothing is said.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

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
    with World(tmp_path, SEED, state=disk and disk / "state", file=FORGETFUL, bytes_a_second=200_000) as world:
        world.meet()
        with world.agent() as agent:
            agent.wait_ready()
            curve, next_seconds = Curve(), 0.0
            while curve.seconds < SECONDS:
                time.sleep(LOOK_SECONDS)
                curve.look(agent.pid)
                if curve.seconds > next_seconds:
                    something(world, agent)
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
