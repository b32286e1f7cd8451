"""The agent is killed at random moments, many times, while everything around it goes wrong.

TELEMETRY_TORTURE_SEED repeats what was done, TELEMETRY_TORTURE_SECONDS=3600 does it for an hour.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.disk import small_disk
from tests.torture.happenings import rotated, something
from tests.torture.lines import poisonous
from tests.torture.world import MOODS, World

SEED = int(os.environ.get("TELEMETRY_TORTURE_SEED", str(random.randrange(1 << 30))))
SECONDS = float(os.environ.get("TELEMETRY_TORTURE_SECONDS", "0"))
LEAST_KILLS = 30
"""With what happens around them, every happening, rotation and mood there is comes at least once."""
DEATHS = ("killed at once",) * 3 + ("killed",) * 8 + ("stopped",)
LONGER_SECONDS = 900
MOST_AGAIN = 50
"""Records of archives that may be read twice, however often it is killed: what is known is not read again."""
PARSED = """parse = "{shape}"
timezone = "UTC"
join_seconds = 5.0
"""
"""A record that is half written while the writer has no turn for a second is no two records."""

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path | None]:
    """A small disk of its own, where one can be had."""
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def test_no_line_is_lost_changed_or_counted_twice_however_often_it_is_killed(tmp_path: Path, disk: Path | None) -> None:
    announce(disk)
    with World(tmp_path, SEED, state=disk and disk / "state") as world:
        world.meet()
        suffer(world, LEAST_KILLS, SECONDS)
        world.settle()
        judge(world)


@pytest.mark.parametrize("shape", ["json", "java"])
def test_no_record_is_lost_changed_or_at_a_time_of_another_where_lines_are_understood(
    tmp_path: Path, shape: str
) -> None:
    announce(tmp_path)
    with World(tmp_path, SEED, shape=shape, file=PARSED.format(shape=shape), poison=False) as world:
        world.meet()
        suffer(world, LEAST_KILLS // 3, SECONDS)
        world.settle()
        judge(world)


def test_no_line_is_lost_where_compressed_files_are_read_whoever_made_them(tmp_path: Path) -> None:
    announce(tmp_path)
    with World(tmp_path, SEED, archives=True) as world:
        world.meet()
        suffer(world, LEAST_KILLS // 2, SECONDS)
        world.settle()
        found, ledger = world.verdict(), world.ledger()
        print(f"{world.deeds()}; {found}\n{ledger}", flush=True)
        assert found.strange == []
        assert set(found.lost) <= world.quarantined(), f"lost without a word: {found.lost[:10]}"
        assert ledger["waiting"] == 0
        assert ledger["dropped"] == {}
        again = ledger["read"] - found.written
        assert 0 <= again <= MOST_AGAIN  # read again where it is in doubt whether it was read


def announce(disk: Path | None) -> None:
    """Says how to repeat it, and what is left out; a test that takes an hour does not hang."""
    if SECONDS:
        faulthandler.dump_traceback_later(SECONDS + LONGER_SECONDS, exit=True, file=sys.__stderr__)
    left_out = "" if disk else "; no disk fills: that takes root, where tmpfs may be mounted"
    print(f"\nTELEMETRY_TORTURE_SEED={SEED}{left_out}", flush=True)


def suffer(world: World, kills: int, seconds: float) -> None:
    """Lives and deaths of the agent, so many at least, and for so long."""
    ends = time.monotonic() + seconds
    while world.kills < kills or time.monotonic() < ends:
        live_and_die(world)
        between_lives(world)


def live_and_die(world: World) -> None:
    """One life of the agent, and its end."""
    choice = world.choice
    world.backend.mood(world.deal(("well", "well", "well", "dead", *MOODS)))
    death = world.deal(DEATHS)
    with world.agent() as agent:
        if death == "killed at once":
            time.sleep(choice.uniform(0, 0.5))
            world.kill(agent)
            return
        agent.wait_ready()
        for _ in range(choice.choice((1, 1, 2))):
            time.sleep(choice.uniform(0, 0.5))
            something(world, agent)
        time.sleep(choice.uniform(0, 0.8))
        if death == "stopped":
            world.stop(agent)
        else:
            world.kill(agent)


def between_lives(world: World) -> None:
    """The world goes on without the agent."""
    choice = world.choice
    for _ in range(choice.choice((0, 0, 0, 1, 2))):
        rotated(world)
        time.sleep(choice.uniform(0, 0.1))
    if choice.random() < 0.5:
        world.relieve()
    if choice.random() < 0.25:
        world.check_if_any()


def judge(world: World) -> None:
    """Everything arrived or is accounted for, once; what came twice was the same, and had a reason to."""
    found, ledger = world.verdict(), world.ledger()
    print(f"{world.deeds()}; {found}\n{ledger}", flush=True)
    assert found.strange == []
    assert found.changed == []
    assert found.resent <= world.unheard + found.poison, "what was stored and confirmed came again"
    assert found.unordered == []
    assert found.untimely == []
    assert len(found.turned) <= world.kills // 5, found.turned[:10]
    refused = {line for line in world.quarantined() if not (world.poison and poisonous(*line))}
    taken_before = refused - set(found.lost)  # and refused when it was sent again, because nobody had heard of that
    assert set(found.lost) <= refused, f"lost without a word: {found.lost[:10]}"
    assert not taken_before or world.unheard
    assert ledger["read"] == found.written
    assert ledger["waiting"] == 0
    assert ledger["dropped"] == {}
    assert found.poison_seen == 0
    assert sum(ledger["rejected"].values()) == found.poison + len(refused)
    assert ledger["delivered"] == found.seen - len(taken_before)
