"""``telemetry-agent status``: one screen from the document of the running agent."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cli import status
from agent.errors import AgentError
from agent.supervise.control import serve_control

LONG = "https://loki.example.org/loki/api/v1/push answered 401: no credentials provided, check the token file"
DOCUMENT: dict[str, Any] = {
    "version": "0.1.0",
    "pid": 4242,
    "started_at": "2026-01-31T12:00:00Z",
    "uptime_seconds": 11520.0,
    "state": "running",
    "config_files": ["/etc/telemetry-agent/config.toml"],
    "health": {"status": "degraded", "warnings": ["destinations: loki/logs is held"]},
    "sources": [
        {"name": "file.nginx", "type": "file", "state": "running", "last_error": None, "detail": {}},
        {"name": "file.app", "type": "file", "state": "failed", "last_error": "permission denied", "detail": {}},
    ],
    "processors": [{"name": "redact", "type": "redact", "state": "running", "last_error": None}],
    "lanes": [
        {"name": "loki/logs", "state": "held", "breaker": "closed", "last_error": "x", "hold_reason": LONG,
         "retry_in_seconds": 240.0, "waiting_records": 1200, "waiting_bytes": 3_500_000, "oldest_seconds": 300.0,
         "cursor": 7},
        {"name": "file/logs", "state": "idle", "breaker": "closed", "last_error": None, "hold_reason": None,
         "retry_in_seconds": None, "waiting_records": 0, "waiting_bytes": 0, "oldest_seconds": None, "cursor": 9},
    ],
    "spool": {"path": "/var/lib/telemetry-agent/spool", "bytes": 12 << 20, "max_bytes": 1 << 30, "batches": 34,
              "quarantined_records": 5, "last_commit_seconds": 0.4, "full": False,
              "damaged_directories": ["/var/lib/telemetry-agent/spool.damaged-1"]},
    "ledger": {"lanes": {
        "loki/logs": {"read": 11300, "delivered": 10000, "rejected": {"line_too_long": 90}, "dropped": {"drop": 10},
                      "waiting": 1200},
        "file/logs": {"read": 20_000_000, "delivered": 20_000_000, "rejected": {}, "dropped": {}, "waiting": 0},
    }},
    "unrouted": {"host/metrics": 17},
}  # fmt: skip


def plain(text: str) -> str:
    return re.sub("\033\\[[0-9]*m", "", text)


def test_the_whole_state_fits_on_one_screen() -> None:
    lines = status.screen(DOCUMENT).splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for part in (
        "telemetry-agent 0.1.0  running  up 3 h 12 min  pid 4242  health degraded",
        "! destinations: loki/logs is held",
        "permission denied",
        "12.0 MiB of 1.0 GiB (1 %)  34 batches  last commit 0 s ago",
        "5 records in quarantine",
        "spool.damaged-1",
        "20.0M read",
        "+ 90 rejected + 10 dropped + 1,200 waiting",
        "no destination takes: host/metrics 17",
    ):
        assert part in text


def test_a_lane_shows_its_state_what_waits_and_why() -> None:
    lines = status.screen(DOCUMENT).splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("  loki/logs"))
    assert lines[row].split() == ["loki/logs", "held", "1,200", "3.3", "MiB", "5", "min", "10,000"]
    assert lines[row + 1].strip().startswith("https://loki.example.org/loki/api/v1/push answered 401")
    assert lines[row + 2].strip() == "provided, check the token file; again in 4 min"
    assert lines[row + 3].split() == ["file/logs", "idle", "0", "0", "B", "-", "20.0M"]


def test_when_a_lane_tries_again_is_told() -> None:
    lane = {"name": "a", "state": "backoff", "last_error": "refused", "retry_in_seconds": 30.0}
    assert "refused; again in 30 s" in status.screen({"lanes": [lane]})


def test_what_the_files_of_a_source_are_read_as_is_told() -> None:
    files = {"name": "file.a", "type": "file", "state": "running", "detail": {"formats_files": {"nginx": 1, "json": 3}}}
    journal = {
        "name": "journal",
        "type": "journal",
        "state": "running",
        "detail": {"formats": {"a": "json", "b": "go"}},
    }
    lines = status.screen({"sources": [files, journal, {"name": "host", "type": "host"}]}).splitlines()
    assert [line for line in lines if line.startswith("      ")] == [
        "      read as 3 json, 1 nginx",
        "      read as 1 json, 1 go",
    ]
    many = {"detail": {"formats_files": {f"docker, format{number}": 10**6 for number in range(20)}}}
    assert max(map(len, status.screen({"sources": [many]}).splitlines())) == 80
    assert "read as" not in status.screen({"sources": [{"detail": {"formats": {}, "formats_files": {}}}]})


def test_colour_changes_nothing_but_colour() -> None:
    coloured = status.screen(DOCUMENT, colour=True)
    assert "\033[31mheld" in coloured
    assert plain(coloured) == status.screen(DOCUMENT)


def test_a_ledger_that_does_not_add_up_is_not_passed_over() -> None:
    broken = {"ledger": {"lanes": {"a/logs": {"read": 3, "delivered": 1, "rejected": {}, "dropped": {}, "waiting": 1}}}}
    assert "does not add up: telemetry-agent ledger --check" in status.screen(broken)
    assert "does not add up" not in status.screen(DOCUMENT)


def test_more_rows_than_fit_show_those_with_trouble_first() -> None:
    sources = [{"name": f"file.{n}", "type": "file", "state": "running"} for n in range(40)]
    sources[33]["state"] = "failed"
    text = status.screen({"sources": sources})
    assert "file.33" in text
    assert "… and 32 more; --json shows all" in text
    assert len(text.splitlines()) < 15


@pytest.mark.parametrize(
    "document", [{}, {"health": None, "lanes": None, "spool": None, "ledger": None, "unrouted": None}]
)
def test_a_document_of_another_version_is_shown_as_far_as_it_goes(document: dict[str, Any]) -> None:
    assert status.screen(document).startswith("telemetry-agent ?")


def test_names_and_errors_from_outside_cannot_command_the_terminal() -> None:
    evil = "a\x1b[2J\nb" * 30
    text = status.screen(
        {"sources": [{"name": evil, "type": evil, "state": evil, "last_error": evil}], "version": evil}
    )
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def arguments(path: Path, *, as_json: bool = False) -> argparse.Namespace:
    return argparse.Namespace(json=as_json, socket=str(path), config="/etc/telemetry-agent/config.toml")


async def shown(path: Path, *, as_json: bool = False) -> int:
    return await asyncio.to_thread(status.run, arguments(path, as_json=as_json))


async def answer(_: dict[str, Any]) -> dict[str, Any]:
    return DOCUMENT


async def refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise AgentError("still opening the spool")


async def test_it_asks_the_running_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serve_control(tmp_path / "control.sock", {"status": answer}):
        assert await shown(tmp_path / "control.sock") == 0
        assert "\033" not in capsys.readouterr().out
        assert await shown(tmp_path / "control.sock", as_json=True) == 0
        assert json.loads(capsys.readouterr().out) == DOCUMENT


async def test_an_agent_that_cannot_answer_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serve_control(tmp_path / "control.sock", {"status": refuse}):
        assert await shown(tmp_path / "control.sock") == 1
    assert capsys.readouterr().err == "still opening the spool\n"


def test_without_an_agent_it_says_so_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.run(arguments(tmp_path / "control.sock")) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"no agent answers at {tmp_path / 'control.sock'}" in printed.err
    assert "systemctl start telemetry-agent" in printed.err
    assert "telemetry-agent run --config /etc/telemetry-agent/config.toml" in printed.err


def test_the_socket_comes_from_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[agent]\nrun_dir = "{tmp_path}"\n')
    assert status.run(argparse.Namespace(json=False, socket=None, config=str(config))) == 1
    assert str(tmp_path / "control.sock") in capsys.readouterr().err


def test_it_takes_the_options_it_names() -> None:
    parser = argparse.ArgumentParser()
    status.add_arguments(parser)
    assert vars(parser.parse_args([])) == {"json": False, "socket": None}
    assert vars(parser.parse_args(["--json", "--socket", "/s"])) == {"json": True, "socket": "/s"}


def test_it_imports_nothing_heavy() -> None:
    heavy = ("asyncio", "h11", "agent.config", "agent.spool", "prometheus_client", "logging")
    code = f"import sys, agent.cli.status; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"
