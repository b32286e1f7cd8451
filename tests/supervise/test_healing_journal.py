"""A batch that was damaged in the spool is read again from the journal, with the real process."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.collect.fake_journal import FakeJournal
from tests.supervise.odd import odd, until


@pytest.mark.parametrize("vacuumed", [False, True], ids=["the entries are there", "the entries are vacuumed"])
def test_what_was_damaged_while_the_agent_was_down_is_read_again_from_the_journal(
    tmp_path: Path, vacuumed: bool
) -> None:
    trigger, token, journal = tmp_path / "refuse", tmp_path / "token", FakeJournal(tmp_path / "journal")
    token.write_text("correct-horse-battery")
    trigger.write_text("")
    journal.write("one", "two password=hunter22\nand more")
    journal.write("three", unit="other.service")
    body = (
        f'[collect.journal]\njournalctl = "{journal.command}"\nstart_at = "beginning"\n'
        f'[export.odd]\ndoes = "tell"\ntoken_file = "{token}"\ntrigger = "{trigger}"\n'
    )
    with odd(tmp_path, body) as agent:
        until(lambda: agent.status()["lanes"][0]["waiting_records"] == 3)
        assert agent.stop() == 0
    with sqlite3.connect(tmp_path / "state/spool/spool.db") as spool:
        assert spool.execute("UPDATE payload SET body = zeroblob(length(body))").rowcount >= 2
    trigger.unlink()
    if vacuumed:
        journal.vacuum(3)
    with odd(tmp_path, body) as agent:
        until(lambda: agent.status()["lanes"][0]["waiting_records"] == 0)
        lane = agent.status()["ledger"]["lanes"]["odd/logs"]
        assert agent.stop() == 0
    expected = {"delivered": 0, "dropped": {"damaged": 3}} if vacuumed else {"delivered": 3, "dropped": {}}
    assert {"delivered": lane["delivered"], "dropped": lane["dropped"]} == expected
