"""``telemetry-agent ledger``: the counts of stopped and running agents, and a recount that can fail."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cli import ledger
from agent.spool.schema import seal
from agent.supervise import instance
from tests.agent_process import DEAD_LOKI, command, running, written
from tests.spool_contents import FILE, LOKI, broken, hold, logs, numbered, passed, refuse, reseal, spool, take

LEDGER = "lane, source, outcome, reason, records"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a spool of two lanes, in which every outcome occurs."""
    with spool(tmp_path / "state" / "spool", (LOKI, FILE)) as store:
        take(store, logs(numbered(10)), logs(numbered(6), source="file.web"), dropped={"drop": 5})
        passed(store, LOKI, 1)
        take(store, logs(numbered(4)))
        hold(store, "file.web", 3)
        refuse(store, FILE, logs(numbered(2)))
    return tmp_path / "state"


def asked(tmp_path: Path, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default=str(tmp_path / "config.toml"))
    ledger.add_arguments(parser)
    written(tmp_path)
    return parser.parse_args(arguments)


def test_the_document_has_the_fixed_shape(tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ledger.run(asked(tmp_path, "--json")) == 0
    assert json.loads(capsys.readouterr().out) == {
        "lanes": {
            LOKI: {"read": 30, "delivered": 10, "rejected": {}, "dropped": {"drop": 5}, "waiting": 15},
            FILE: {"read": 30, "delivered": 20, "rejected": {"line_too_long": 2}, "dropped": {"drop": 5}, "waiting": 3},
        }
    }


def test_people_get_a_line_a_lane_with_the_reasons_below(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with spool(state / "spool", (LOKI,)) as store:
        take(store, logs(numbered(1_234_567 // 1000) * 1000))
        store.router = lambda flow: ()
        take(store, logs(numbered(7), source="host"))
    assert ledger.run(asked(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["LANE", "read", "delivered", "rejected", "dropped", "waiting"]
    assert lines[1].split() == [LOKI, "1,234,030", "10", "0", "5", "1,234,015"]
    assert "  dropped: drop 5" in lines
    assert "  rejected: line_too_long 2" in lines
    assert any(line.startswith("  orphaned: ") for line in lines)
    assert lines[-2].startswith("UNROUTED")
    assert lines[-1].split() == ["host/logs", "7"]
    assert max(map(len, lines)) <= 110


def test_the_check_holds_for_an_untouched_spool(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ledger.run(asked(tmp_path, "--check")) == 0
    shown = capsys.readouterr().out
    assert f"{LOKI}: holds: 30 read = 10 delivered + 0 rejected + 5 dropped + 15 waiting" in shown
    assert "BROKEN" not in shown


def test_the_check_holds_for_a_spool_without_lanes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with spool(tmp_path / "state" / "spool", ()):
        pass
    assert ledger.run(asked(tmp_path, "--check")) == 0
    assert "nothing to account for" in capsys.readouterr().out
    assert ledger.run(asked(tmp_path)) == 0
    assert "no lanes" in capsys.readouterr().out


Break = tuple[str, dict[str, Any], str]
BREAKS = {
    "a row is gone": ("DELETE FROM batch WHERE id = 2", LOKI, {"missing": 6, "sources": {"file.web": 6}}),
    "a count of the ledger is wrong": (
        "UPDATE ledger SET records = 9 WHERE outcome = 'delivered'",
        LOKI,
        {"missing": 1, "sources": {"file.app": 1}},
    ),
    "more became of records than was read": (
        "UPDATE ledger SET records = 100 WHERE outcome = 'rejected'",
        FILE,
        {"missing": -98, "sources": {"file.app": -98}},
    ),
    "two sources are mixed up, and the sum is right": (
        "UPDATE batch SET source = 'file.web' WHERE id = 3",
        LOKI,
        {"missing": 0, "sources": {"file.app": 4, "file.web": -4}},
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_check_names_the_lane_the_source_and_the_difference(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    statement, lane, difference = BREAKS[name]
    with broken(state / "spool") as connection:
        connection.execute(statement)
        reseal(connection, "ledger", "1", LEDGER)
    assert ledger.run(asked(tmp_path, "--check", "--json")) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["holds"] is False
    found = document["differences"][lane]
    assert {key: found[key] for key in difference} == difference
    assert ledger.run(asked(tmp_path, "--check")) == 1
    shown = capsys.readouterr().out
    assert f"{lane}: BROKEN" in shown
    assert all(f"source {source}" in shown for source in difference["sources"])
    assert all(f"{abs(records)} records" in shown for records in difference["sources"].values())
    assert "Restart the agent" in shown


def test_an_index_that_disagrees_with_its_table_is_noticed(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with broken(state / "spool") as connection:
        connection.execute("PRAGMA writable_schema = ON")
        index = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'batch_by_route'").fetchone()[0]
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'batch_by_route'", (f"{index} WHERE id < 0",))
    with broken(state / "spool") as connection:
        connection.execute("UPDATE batch SET records = records + 1 WHERE id = 4")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'batch_by_route'", (index,))
    assert ledger.run(asked(tmp_path, "--check")) == 1
    assert "by its index" in capsys.readouterr().out


def test_a_batch_of_no_lane_and_one_that_does_not_match_its_seal_are_noticed(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with broken(state / "spool") as connection:
        connection.execute("UPDATE batch SET route = 77 WHERE id = 2")
    assert ledger.run(asked(tmp_path, "--check")) == 1
    shown = capsys.readouterr().out
    assert "1 batches belong to no lane" in shown
    assert "batch 2 does not match its seal" in shown


UNREADABLE = {
    "a row of the ledger does not match its seal": ("UPDATE ledger SET records = 9", "a row of ledger does not match"),
    "a row is younger than the file": (
        f"UPDATE meta SET value = 1, seal = {seal('commit_id', 1)} WHERE key = 'commit_id'",
        "the file ends at 1",
    ),
    "it is another database": ("DROP TABLE batch", "without the spool's tables"),
    "a cell holds what no cell of ours holds": ("UPDATE route SET lanes = 'x'", "damaged"),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("arguments", [["--check"], ["--json"], []])
def test_what_cannot_be_trusted_is_unreadable(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]
) -> None:
    statement, said = UNREADABLE[name]
    with broken(state / "spool") as connection:
        connection.execute(statement)
    assert ledger.run(asked(tmp_path, *arguments)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert "an agent that is started on it takes over what can be read" in shown.err


def test_no_spool_is_unreadable_and_says_what_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ledger.run(asked(tmp_path, "--check")) == 2
    assert "no agent has run with this state directory yet; is --config the one" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_a_replacement_that_was_cut_short_is_left_to_the_agent(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "spool").rename(state / "spool.new")
    assert ledger.run(asked(tmp_path, "--check")) == 2
    assert "its replacement was cut short; start the agent" in capsys.readouterr().err


def test_what_is_no_database_is_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state" / "spool").mkdir(parents=True)
    (tmp_path / "state" / "spool" / "spool.db").write_bytes(b"not a database, but long enough to be one" * 500)
    assert ledger.run(asked(tmp_path, "--check")) == 2
    assert "damaged: file is not a database" in capsys.readouterr().err


def test_a_commit_that_only_the_log_of_a_killed_agent_holds_is_counted(tmp_path: Path, state: Path) -> None:
    copy = tmp_path / "copy"
    with spool(state / "spool", (LOKI, FILE)) as store:
        take(store, logs(numbered(100)))
        shutil.copytree(state, copy)
    assert (copy / "spool" / "spool.db-wal").stat().st_size
    (copy / "spool" / "spool.db-shm").unlink()
    config = written(tmp_path)
    config.write_text(f'[agent]\nstate_dir = "{copy}"\n')
    assert json.loads(command(config, "ledger", "--json").stdout)["lanes"][LOKI]["read"] == 130


def test_reading_leaves_the_database_as_it_was_and_the_agent_can_open_it(tmp_path: Path, state: Path) -> None:
    before = (state / "spool" / "spool.db").read_bytes()
    assert ledger.run(asked(tmp_path, "--check")) == 0
    assert (state / "spool" / "spool.db").read_bytes() == before
    with spool(state / "spool", (LOKI, FILE)) as store:
        take(store, logs(numbered(1)))
    assert ledger.run(asked(tmp_path, "--check")) == 0


def test_a_directory_that_cannot_be_written_to_is_read_as_it_stands(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connect = sqlite3.connect

    def read_only(address: str, **options: Any) -> sqlite3.Connection:
        if "immutable" not in address:  # what SQLite says on a read-only mount, where it cannot make its index
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return connect(address, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert ledger.run(asked(tmp_path, "--check")) == 0
    with instance.held(state):
        assert ledger.run(asked(tmp_path, "--check")) == 2
    assert "ask as root or as the user the agent runs as" in capsys.readouterr().err
    (state / "spool" / "spool.db-wal").write_bytes(b"x")
    assert ledger.run(asked(tmp_path, "--check")) == 2


def test_a_running_agent_is_not_in_the_way_and_is_not_disturbed(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"".join(line + b"\n" for line in numbered(500)))
    config = written(tmp_path, f'[collect.file]\npaths = ["{log}"]\nstart_at = "beginning"\n{DEAD_LOKI}')
    with running(config) as agent:
        for _ in range(200):
            shown = agent.command("ledger", "--json")
            assert shown.returncode == 0, shown.stderr
            if json.loads(shown.stdout)["lanes"][LOKI]["read"] == 500:
                break
        checked = agent.command("ledger", "--check")
        assert (checked.returncode, checked.stderr) == (0, "")
        assert "500 read = 0 delivered + 0 rejected + 0 dropped + 500 waiting" in checked.stdout
        agent.kill()
    assert command(config, "ledger", "--check").returncode == 0
    with running(config) as agent:
        pass
    assert command(config, "ledger", "--check").returncode == 0


def test_faults_of_the_configuration_and_missing_files_are_not_in_the_way(tmp_path: Path, state: Path) -> None:
    config = written(tmp_path, "[collect.nothing]\nx = 1")
    assert command(config, "ledger", "--check").returncode == 0
    elsewhere = {**os.environ, "TELEMETRY_AGENT__AGENT__STATE_DIR": str(state)}
    assert command(tmp_path / "none.toml", "ledger", "--check", env=elsewhere).returncode == 0


def test_it_starts_without_an_event_loop() -> None:
    script = (
        "import sys; from agent.cli import ledger, spool_reading; "
        "from agent.spool import recount, listing, inspection; "
        "print([name for name in ('asyncio', 'h11', 'agent.config.load', 'cramjam') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
