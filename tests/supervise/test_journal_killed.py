"""The journal and an agent that is killed again and again, with the real process."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.agent_process import AgentProcess, started
from tests.collect.fake_journal import FakeJournal
from tests.supervise.odd import until

ENTRIES = 12_000
UNITS = 8
KILLS = 8


def test_every_entry_is_read_once_however_often_the_agent_is_killed(tmp_path: Path) -> None:
    journal, chance = FakeJournal(tmp_path / "journal"), random.Random(7)
    for unit in range(UNITS):  # written as blocks of several units, each of which makes several batches
        for number in range(unit, ENTRIES // 100, UNITS):
            journal.write(
                *(f"entry {number}.{each} " + "x" * 1500 for each in range(100)), unit=f"unit{number % 7}.service"
            )
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
[agent]
state_dir = "{tmp_path}/state"
run_dir = "{tmp_path}/run"

[collect.journal]
journalctl = "{journal.command}"
start_at = "beginning"
block_bytes = 262144

[export.file]
path = "{tmp_path}/out.jsonl"
"""
    )
    for kill in range(1, KILLS + 1):
        with started(config) as agent:
            agent.wait_ready()
            until(lambda: read(agent) >= kill * ENTRIES // (KILLS + 1))  # noqa: B023 - called before the next one
            time.sleep(chance.uniform(0, 0.02))
            os.kill(agent.pid, signal.SIGKILL)
            agent.process.wait()
    with started(config) as agent:
        agent.wait_ready()
        until(lambda: read(agent) >= ENTRIES)
        assert read(agent) == ENTRIES
        assert agent.stop() == 0


def read(agent: AgentProcess) -> int:
    """How many entries were read, as the ledger has it; whoever asks has what is pending committed first."""
    lanes: dict[str, dict[str, int]] = agent.status()["ledger"]["lanes"]
    return sum(lane["read"] for name, lane in lanes.items() if name.endswith("/logs"))
