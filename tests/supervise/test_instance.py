"""One agent at a time holds a state directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import AgentError, StateHeld
from agent.supervise.instance import held, is_held, seems_free
from tests.agent_process import command, running, written


def test_the_holder_is_named_to_the_second(tmp_path: Path) -> None:
    said = f"held by process {os.getpid()}:.* state_dir of its own"
    with held(tmp_path), pytest.raises(StateHeld, match=said), held(tmp_path):
        pass


def test_it_is_free_again_when_it_is_left(tmp_path: Path) -> None:
    with held(tmp_path):
        assert is_held(tmp_path)
        assert not seems_free(tmp_path)
    assert not is_held(tmp_path)
    assert seems_free(tmp_path)


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    script = "from pathlib import Path\nfrom agent.supervise.instance import held\nimport os\n"
    script += f"with held(Path({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script], check=False)
    with held(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_directory_that_never_was_seems_free_and_is_not_made(tmp_path: Path) -> None:
    assert seems_free(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_directory_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = r"state_dir .*/file/state: Not a directory; create it .* or name another"
    with pytest.raises(AgentError, match=said), held(tmp_path / "file" / "state"):
        pass


def test_a_second_agent_exits_75_and_names_the_first(tmp_path: Path) -> None:
    config = written(tmp_path)
    with running(config) as agent:
        second = command(config, "run")
        assert second.returncode == 75
        assert f"is held by process {agent.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert agent.status()["state"] == "running"
