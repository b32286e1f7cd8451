"""This file starts the agent of odd_agent.py."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.agent_process import WITHIN_SECONDS, AgentProcess, started, written

SCRIPT = str(Path(__file__).with_name("odd_agent.py"))


@contextmanager
def odd(
    folder: Path, body: str, environ: Mapping[str, str] | None = None, *, ready: bool = True, **patches: Any
) -> Iterator[AgentProcess]:
    """An odd agent, from READY on unless that is not waited for. ``patches`` are constants of agent.supervise, as
    ``stop__HARD_STOP_SECONDS``."""
    constants = {f"agent.supervise.{name.replace('__', '.')}": value for name, value in patches.items()}
    config = written(folder, body)
    root = str(Path(__file__).parents[2])
    with started(
        config, {"PYTHONPATH": root, **(environ or {})}, sys.executable, SCRIPT, json.dumps(constants)
    ) as agent:
        if ready:
            agent.wait_ready()
        yield agent


def until(reached: Callable[[], object]) -> None:
    """Returns once ``reached`` says so."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def left(agent: AgentProcess) -> dict[str, list[str]]:
    """What a run that has ended left behind, and did not hold before."""
    document: dict[str, list[str]] = json.loads(agent.config.with_name("left.json").read_text())
    return document
