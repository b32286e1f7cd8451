"""What the health checks make of the state of the agent's own parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config.model import Config
from agent.export.lane import Doing, LaneState
from agent.host import Host
from agent.options import AgentOptions
from agent.secrets import Secrets
from agent.serve.health import Health
from agent.serve.options import ServeOptions
from agent.spool.schema import SpoolOptions
from agent.supervise.checks import checks
from agent.supervise.intake import SourceState
from agent.worker import Worker
from tests.fakes import FakeClock

OK, DEGRADED, FAILED = "ok", "degraded", "failed"


class Parts:
    """An agent that runs and of which nothing is wrong, as far as its checks are concerned."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.lane = LaneState("loki/logs")
        self.source = SourceState("file", "file", "running")
        self.spool = SimpleNamespace(
            trouble=None,
            store=SimpleNamespace(used_bytes=5000, directory=folder / "spool"),
            options=SimpleNamespace(max_bytes=1 << 30),
        )
        self.stuck: list[str] = []
        self.bound = ["http://127.0.0.1:9465"]
        self.secrets = Secrets()
        config = Config(AgentOptions(), SpoolOptions(), ServeOptions(), secrets=self.secrets)
        host = Host(folder, folder / "run", environ={})
        self.agent: Any = SimpleNamespace(config=config, host=host, clock=self.clock, state="running")

    async def report(self, group: Any) -> Any:
        """What a probe of this group would be told after one round."""
        pipeline: Any = SimpleNamespace(
            spool=self.spool, drains={"loki/logs": SimpleNamespace(state=self.lane)}, sources=[self.source]
        )
        progress: Any = SimpleNamespace(stuck=lambda: self.stuck)
        with Worker("health") as worker:
            own = [check for check in checks(self.agent, pipeline, progress, worker, self.bound) if check.name in OWN]
            health = Health(own, self.clock)
            await health.round()
            return health.report(group)


OWN = ("progress", "spool", "destinations", "sources", "pipeline", "endpoint")


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


async def test_an_agent_of_which_nothing_is_wrong_is_ok_in_every_group(parts: Parts) -> None:
    assert [(await parts.report(group)).status for group in ("live", "ready", "startup")] == [OK] * 3


async def test_ready_fails_exactly_while_nothing_can_be_made_durable(parts: Parts) -> None:
    parts.spool.trouble = "full: database or disk is full"
    report = await parts.report("ready")
    assert report.status == FAILED
    assert "free space at" in dict(report.checks)["spool"].message
    assert (await parts.report("live")).status == OK


@pytest.mark.parametrize("doing", ["backoff", "open", "held"])
async def test_a_dead_or_held_backend_is_a_warning(parts: Parts, doing: Doing) -> None:
    parts.lane.doing, parts.lane.last_error = doing, "unreachable: refused"
    report = await parts.report("ready")
    assert report.status == DEGRADED
    assert report.warnings == [f"destinations: loki/logs is {doing}: unreachable: refused"]


@pytest.mark.parametrize("state", ["failed", "blocked"])
async def test_a_source_that_fails_or_waits_for_room_is_a_warning(parts: Parts, state: str) -> None:
    parts.source.state, parts.source.last_error = state, "OSError: x"
    report = await parts.report("ready")
    assert (report.status, report.warnings) == (DEGRADED, [f"sources: file is {state}: OSError: x"])


async def test_a_lane_that_stands_still_though_nothing_keeps_it_asks_for_a_restart(parts: Parts) -> None:
    parts.stuck = ["loki/logs has not moved for 61 s"]
    report = await parts.report("live")
    assert report.status == FAILED
    assert dict(report.checks)["progress"].message == "loki/logs has not moved for 61 s"
    assert (await parts.report("ready")).status == OK


async def test_startup_fails_until_everything_is_open(parts: Parts) -> None:
    parts.agent.state, parts.bound = "starting", []
    report = await parts.report("startup")
    assert [name for name, found in report.checks if found.status == FAILED] == ["pipeline", "endpoint"]


async def test_a_secret_in_an_error_is_masked_in_a_check(parts: Parts) -> None:
    parts.secrets.register("correct-horse-battery")
    parts.lane.doing, parts.lane.last_error = "backoff", "the server says: correct-horse-battery"
    assert "correct-horse-battery" not in str((await parts.report("ready")).document())
