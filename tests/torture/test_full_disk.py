"""The disk that holds the state is full, to the last byte, for as long as it pleases."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.spool.schema import SpoolOptions
from tests.agent_process import AgentProcess
from tests.torture.disk import Ballast, small_disk
from tests.torture.world import World

SEED = int(os.environ.get("TELEMETRY_TORTURE_SEED", "7"))
RESERVE_BYTES = SpoolOptions().reserve_bytes
MOST_TAKEN_BYTES = 2 << 20

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    with small_disk(tmp_path / "disk") as folder:
        if folder is None:
            pytest.skip("needs a small disk of its own: run this as root, where tmpfs may be mounted")
        yield folder


def ready(agent: AgentProcess) -> int:
    """The status of /health/ready."""
    try:
        with urllib.request.urlopen(f"{agent.endpoint()}/health/ready", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def wait_ready(agent: AgentProcess, status: int, ballast: Ballast | None = None) -> None:
    """Returns when /health/ready answers so; meanwhile the disk is kept full."""
    deadline = time.monotonic() + 120
    while ready(agent) != status:
        assert time.monotonic() < deadline, f"not {status} in two minutes\n{agent.stderr()[-3000:]}"
        if ballast is not None:
            ballast.fill()
        time.sleep(0.2)


def wait_waiting(agent: AgentProcess, most: int, ballast: Ballast) -> None:
    """Returns when no more than so many records wait, by the ledger; meanwhile the disk is kept full."""
    deadline = time.monotonic() + 60
    while (waiting := agent.status()["lanes"][0]["waiting_records"]) > most:
        assert time.monotonic() < deadline, f"{waiting} records still wait\n{agent.stderr()[-3000:]}"
        ballast.fill()
        time.sleep(0.2)


def full(status: dict[str, Any]) -> bool:
    """Whether nothing can be committed."""
    return bool(status["spool"]["full"])


def held(reserve: Path) -> bool:
    """Whether the reserve is there in full."""
    return reserve.exists() and reserve.stat().st_size == RESERVE_BYTES


def test_nothing_is_lost_at_zero_bytes_free_and_everything_goes_on_when_there_is_room(
    tmp_path: Path, disk: Path
) -> None:
    ballast, reserve = Ballast(disk), disk / "state" / "reserve"
    with World(tmp_path, SEED, state=disk / "state", bytes_a_second=300_000) as world:
        world.meet()
        with world.agent() as agent:
            agent.wait_ready()
            world.wait_for(agent, lambda status: world.read(status) > 1000)
            world.wait_for(agent, lambda _: held(reserve))  # made some time after READY
            assert ready(agent) == 200
            world.backend.mood("dead")
            world.wait_for(agent, lambda status: status["lanes"][0]["waiting_records"] > 3000)
            wait_ready(agent, 503, ballast)
            assert full(agent.status())
            left = reserve.stat().st_size  # an acknowledgement under way may have taken what it needed, and no more
            assert left >= RESERVE_BYTES - MOST_TAKEN_BYTES, "spent on intake, it would be missed by acknowledgements"
            world.kill(agent)
        world.check()
        with world.agent() as agent:  # it starts on a full disk
            agent.wait_ready()
            wait_ready(agent, 503, ballast)
            waiting = agent.status()["lanes"][0]["waiting_records"]
            assert waiting > 2500
            world.backend.mood("well")  # delivers from it, and acknowledges
            agent.signal(signal.SIGHUP)
            wait_waiting(agent, waiting // 10, ballast)
            world.kill(agent)
        world.check()
        with world.agent() as agent:
            agent.wait_ready()
            ballast.drop()
            wait_ready(agent, 200)
            world.wait_for(agent, lambda status: not full(status))
            world.wait_for(agent, lambda _: held(reserve))
            world.kill(agent)
        world.settle()
        found, ledger = world.verdict(), world.ledger()
        print(f"{found}\n{ledger}")
        assert found.lost == []
        assert found.changed == []
        assert found.strange == []
        assert ledger["read"] == found.written
        assert ledger["dropped"] == {}


def test_it_starts_on_a_disk_that_filled_up_while_it_was_down(tmp_path: Path, disk: Path) -> None:
    ballast, reserve = Ballast(disk), disk / "state" / "reserve"
    with World(tmp_path, SEED, state=disk / "state", bytes_a_second=300_000) as world:
        world.meet()
        world.logs.do("pause")
        with world.agent() as agent:
            agent.wait_ready()
            world.wait_for(agent, lambda _: held(reserve))
            world.stop(agent)
        ballast.fill()
        world.logs.do("resume")
        with world.agent() as agent:
            agent.wait_ready()
            ballast.fill()
            world.kill(agent)
        ballast.drop()
        world.settle()
        found, ledger = world.verdict(), world.ledger()
        assert found.lost == []
        assert found.changed == []
        assert ledger["read"] == found.written
