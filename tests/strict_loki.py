"""This file is the strict Loki as a process of its own, and how to wait until an agent has delivered to it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.agent_process import WITHIN_SECONDS, AgentProcess


@contextmanager
def strict_loki() -> Iterator[str]:
    """The URL of a strict Loki in a process of its own."""
    command = [sys.executable, "-m", "tests.peers.loki", "--port", "0"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def delivered(agent: AgentProcess, lines: int) -> dict[str, Any]:
    """The ledger, once every lane has delivered so many."""
    deadline = time.monotonic() + WITHIN_SECONDS
    lanes: dict[str, Any] = {}
    while time.monotonic() < deadline:
        lanes = json.loads(agent.command("ledger", "--json").stdout)["lanes"]
        if all(lane["delivered"] >= lines for name, lane in lanes.items() if name.endswith("/logs")):
            return lanes
    raise AssertionError(f"not delivered: {lanes}")
