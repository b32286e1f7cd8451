"""The agent is killed at random moments, a hundred times and more, while everything around it goes wrong.

TELEMETRY_TORTURE_SEED repeats what was done, TELEMETRY_TORTURE_SECONDS=3600 does it for an hour.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess
from tests.torture.verifier import Verdict
from tests.torture.world import MOODS, World
from tests.torture.writer import NAMES

SEED = int(os.environ.get("TELEMETRY_TORTURE_SEED", str(random.randrange(1 << 30))))
SECONDS = float(os.environ.get("TELEMETRY_TORTURE_SECONDS", "0"))
LEAST_KILLS = 100
ROTATIONS = ("rename", "rename", "inside", "shift", "copytruncate")

pytestmark = pytest.mark.slow


def test_no_line_is_lost_changed_or_counted_twice_however_often_it_is_killed(tmp_path: Path) -> None:
    print(f"\nTELEMETRY_TORTURE_SEED={SEED}", flush=True)
    ends = time.monotonic() + SECONDS
    with World(tmp_path, SEED) as world:
        world.meet()
        while world.kills < LEAST_KILLS or time.monotonic() < ends:
            live_and_die(world)
            between_lives(world)
        world.settle()
        found, ledger = world.verdict(), world.ledger()
        print(f"{world.kills} kills, {world.stops} stops, {world.backend.restarts} restarts of the backend; {found}")
        print(ledger, flush=True)
        judge(world, found, ledger)


def live_and_die(world: World) -> None:
    """One life of the agent, and its end."""
    choice = world.choice
    world.backend.mood(choice.choice(["well", "well", "well", "dead", *MOODS]))
    with world.agent() as agent:
        if choice.random() < 0.25:
            time.sleep(choice.uniform(0, 0.5))
            world.kill(agent)
            return
        agent.wait_ready()
        for _ in range(choice.choice((0, 1, 1, 2))):
            time.sleep(choice.uniform(0, 0.5))
            happening(world, agent)
        time.sleep(choice.uniform(0, 0.8))
        if choice.random() < 0.1:
            world.stop(agent)
        else:
            world.kill(agent)


def happening(world: World, agent: AgentProcess) -> None:
    """Something goes on around a running agent."""
    choice = world.choice
    what = choice.random()
    if what < 0.4:
        world.logs.do(choice.choice(ROTATIONS), choice.choice(NAMES))
    elif what < 0.5:
        world.logs.do("pause")
        if world.caught_up(agent, 3.0):
            world.logs.do("delete", choice.choice(NAMES))
        world.logs.do("resume")
    elif what < 0.6:
        agent.signal(signal.SIGHUP)
    elif what < 0.7:
        world.backend.kill()
    else:
        world.backend.mood(choice.choice(["well", *MOODS]))


def between_lives(world: World) -> None:
    """The world goes on without the agent."""
    choice = world.choice
    for _ in range(choice.choice((0, 0, 0, 1, 2))):
        world.logs.do(choice.choice(ROTATIONS), choice.choice(NAMES))
        time.sleep(choice.uniform(0, 0.1))
    if choice.random() < 0.25:
        world.check_if_any()


def judge(world: World, found: Verdict, ledger: dict[str, Any]) -> None:
    """Everything arrived or is accounted for, once."""
    assert found.strange == []
    assert found.changed == []
    assert found.unordered == []
    assert len(found.turned) <= world.kills // 5, found.turned[:10]
    assert set(found.lost) <= world.quarantined(), f"lost without a word: {found.lost[:10]}"
    assert ledger["read"] == found.written
    assert ledger["waiting"] == 0
    assert ledger["dropped"] == {}
    assert found.poison_seen == 0
    assert sum(ledger["rejected"].values()) == found.poison + len(found.lost)
    assert ledger["delivered"] == found.seen
