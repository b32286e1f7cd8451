"""The helper that other tests start the agent with: it waits for what happens, and says what did not."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path

import pytest

from tests.agent_process import AgentProcessError, command, running, started, written


def test_an_agent_is_ready_answers_and_is_stopped(tmp_path: Path) -> None:
    with running(written(tmp_path)) as agent:
        assert agent.status()["pid"] == agent.pid
        with urllib.request.urlopen(f"{agent.endpoint()}/health/live", timeout=30) as answer:
            assert answer.status == 200
        assert agent.stop() == 0
        assert agent.wait_said("STOPPING") == "STOPPING=1"
    assert '"stopped"' in agent.stderr()


def test_a_killed_agent_starts_again_on_the_same_state(tmp_path: Path) -> None:
    config = written(tmp_path)
    with running(config) as agent:
        assert agent.kill() == -signal.SIGKILL
    with running(config) as again:
        assert again.status()["state"] == "running"
        assert str(agent.pid) not in again.stderr()


def test_an_agent_that_exits_is_not_waited_for_and_says_why(tmp_path: Path) -> None:
    with started(written(tmp_path, "[collect.nothing]")) as agent:
        with pytest.raises(AgentProcessError, match=r"it exited(.|\n)*collect\.nothing"):
            agent.wait_ready()
        assert agent.wait_exit() == 78


def test_a_wait_ends_at_its_deadline(tmp_path: Path) -> None:
    with running(written(tmp_path)) as agent:
        with pytest.raises(AgentProcessError, match="was not said"):
            agent.wait_said("NEVER=1", within_seconds=0)
        with pytest.raises(AgentProcessError, match="did not exit"):
            agent.wait_exit(within_seconds=0)


def test_a_command_runs_with_its_configuration(tmp_path: Path) -> None:
    done = command(written(tmp_path), "status")
    assert done.returncode == 1
    assert str(tmp_path / "run") in done.stderr
