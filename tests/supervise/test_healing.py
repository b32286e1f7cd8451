"""A batch that was damaged in the spool is read again from its file, with the real process."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.supervise.odd import odd, until


def damage(state: Path) -> int:
    """Overwrites every payload; how many there were."""
    with sqlite3.connect(state / "spool" / "spool.db") as spool:
        return spool.execute("UPDATE payload SET body = zeroblob(length(body))").rowcount


@pytest.mark.parametrize("kept", [True, False], ids=["the file is there", "the file is gone"])
def test_what_was_damaged_while_the_agent_was_down_is_read_again_at_its_start(tmp_path: Path, kept: bool) -> None:
    trigger, token, log = tmp_path / "refuse", tmp_path / "token", tmp_path / "x.log"
    token.write_text("correct-horse-battery")
    trigger.write_text("")
    log.write_text("one\ntwo password=hunter22\nthree\n")
    body = (
        f'[collect.file]\npaths = ["{tmp_path}/*.log"]\nexclude = ["{tmp_path}/agent.log"]\nstart_at = "beginning"\n'
        f'[export.odd]\ndoes = "tell"\ntoken_file = "{token}"\ntrigger = "{trigger}"\n'
    )
    with odd(tmp_path, body) as agent:
        until(lambda: agent.status()["lanes"][0]["waiting_records"] == 3)
        assert agent.stop() == 0
    assert damage(tmp_path / "state") >= 1
    trigger.unlink()
    if not kept:
        log.unlink()
    with odd(tmp_path, body) as agent:
        until(lambda: agent.status()["lanes"][0]["waiting_records"] == 0)
        lane = agent.status()["ledger"]["lanes"]["odd/logs"]
        assert agent.stop() == 0
    expected = {"delivered": 3, "dropped": {}} if kept else {"delivered": 0, "dropped": {"damaged": 3}}
    assert {"delivered": lane["delivered"], "dropped": lane["dropped"]} == expected
    assert ("records are lost" in agent.stderr()) is not kept
