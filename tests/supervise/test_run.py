"""Starting and looking at the agent as a whole: what it says when it cannot start, and what it shows when it has."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from agent.supervise.run import FIRST_ROUND_SECONDS
from agent.supervise.settle import freeze
from tests.agent_process import COMMAND, DEAD_LOKI, clean_environ, command, running, unmeasured_environ, written
from tests.supervise.odd import odd, until

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
needs_root = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user"
)


def got(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def refused(config: Path, *before: str) -> tuple[int, str]:
    """Exit status and what is said by an agent that does not start."""
    done = subprocess.run(
        [*before, COMMAND, "run", "--config", str(config)],
        env=unmeasured_environ() if before else clean_environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.fixture
def readable(tmp_path: Path) -> Path:
    """A directory that another user may look into."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    return tmp_path


# Starting


def test_a_faulty_configuration_exits_78_with_every_fault(tmp_path: Path) -> None:
    status, said = refused(written(tmp_path, "[collect.jurnal]\n[export.loki]\nurl = 'loki:3100'"))
    assert status == 78
    assert "[collect.jurnal] is not a collector" in said
    assert "url: expected" in said


def test_a_missing_configuration_exits_78(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.toml")[0] == 78


def test_a_state_directory_that_cannot_be_made_exits_1_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    status, said = refused(written(tmp_path))
    assert (status, said.count("\n")) == (1, 1)
    assert f"[agent] state_dir {tmp_path}/state: File exists; create it for this user, or name another" in said


@needs_root
def test_a_state_directory_of_another_user_is_named(readable: Path) -> None:
    config = written(readable)
    (readable / "state").mkdir(mode=0o755)
    status, said = refused(config, *AS_NOBODY)
    assert status == 1
    assert f"[agent] state_dir {readable}/state: Permission denied; create it for this user" in said


@needs_root
def test_a_spool_of_another_user_is_named(readable: Path) -> None:
    config = written(readable)
    (readable / "state").mkdir()
    (readable / "state" / "spool").mkdir(mode=0o700)
    os.chown(readable / "state", NOBODY, NOBODY)
    status, said = refused(config, *AS_NOBODY)
    assert status == 1
    assert f"state_dir {readable}/state: the spool" in said
    assert "this user must own everything in it" in said


@needs_root
def test_a_run_directory_of_another_user_is_named_with_the_option_to_set(readable: Path) -> None:
    config = written(readable)
    (readable / "state").mkdir()
    (readable / "run").mkdir(mode=0o755)
    os.chown(readable / "state", NOBODY, NOBODY)
    status, said = refused(config, *AS_NOBODY)
    assert status == 1
    assert f"{readable}/run/control.sock: Permission denied" in said
    assert "[agent] run_dir: give it that directory, or name another" in said


def test_a_missing_run_directory_is_made(tmp_path: Path) -> None:
    with running(written(tmp_path)) as agent:
        assert agent.socket.is_socket()


def test_another_agent_on_the_same_control_socket_exits_75(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running(written(tmp_path)):
        config = written(tmp_path / "other")
        config.write_text(config.read_text().replace(f"{tmp_path}/other/run", f"{tmp_path}/run"))
        status, said = refused(config)
    assert status == 75
    assert "run_dir of its own" in said


def test_a_port_that_is_taken_exits_1_and_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = written(tmp_path)
        port = taken.getsockname()[1]
        config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        status, said = refused(config)
    assert status == 1
    assert f"127.0.0.1:{port}" in said


def test_a_token_file_of_the_endpoint_that_cannot_be_read_exits_1_and_is_named(tmp_path: Path) -> None:
    status, said = refused(written(tmp_path, serve=f'token_file = "{tmp_path}/none"'))
    assert status == 1
    assert f"[serve] token_file: {tmp_path}/none: no such file" in said


def test_ready_does_not_wait_for_a_check_that_hangs() -> None:
    assert FIRST_ROUND_SECONDS <= 0.2


def test_the_collector_works_again_once_everything_is_imported() -> None:
    gc.disable()
    try:
        freeze()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()


# Looking


def test_probes_answer_what_is_so_from_ready_on(tmp_path: Path) -> None:
    with running(written(tmp_path)) as agent:
        for probe in ("live", "ready", "startup"):
            status, body = got(f"{agent.endpoint()}/health/{probe}")
            assert (status, body["status"]) in ((200, "ok"), (200, "degraded")), body
            assert all(check["message"] != "has not run yet" for check in body["checks"])


def test_a_dead_and_a_held_backend_are_degraded_and_ready(tmp_path: Path) -> None:
    trigger, token = tmp_path / "now", tmp_path / "token"
    token.write_text("correct-horse-battery\n")
    body = f'[collect.odd]\n{DEAD_LOKI}[export.odd]\ndoes = "tell"\ntoken_file = "{token}"\ntrigger = "{trigger}"'
    trigger.write_text("")
    with odd(tmp_path, body) as agent:
        until(lambda: {lane["state"] for lane in agent.status()["lanes"]} <= {"held", "backoff", "open"})
        until(lambda: "destinations" in str(agent.status()["health"]["warnings"]))
        status, document = got(f"{agent.endpoint()}/health/ready")
        assert (status, document["status"]) == (200, "degraded")
        message = next(check["message"] for check in document["checks"] if check["name"] == "destinations")
        assert "odd/logs is held" in message
        assert agent.stop() == 0


def test_a_configuration_without_a_destination_is_warned_of(tmp_path: Path) -> None:
    with running(written(tmp_path, f'[collect.file]\npaths = ["{tmp_path}/x.log"]\n')) as agent:
        assert agent.stop() == 0
        assert "no destination is configured" in agent.stderr()


def test_records_of_a_lane_that_left_the_configuration_are_warned_of_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "some.log").write_text("one\ntwo\n")
    collect = f'[collect.file]\npaths = ["{tmp_path}/some.log"]\nstart_at = "beginning"\n'
    with running(written(tmp_path, collect + DEAD_LOKI)) as agent:
        until(lambda: any(lane["waiting_records"] == 2 for lane in agent.status()["lanes"]))
        assert agent.stop() == 0
    with running(written(tmp_path, collect + f'[export.file]\npath = "{tmp_path}/out"\n')) as agent:
        assert agent.stop() == 0
        assert "loki/logs is no longer configured and holds 2 records" in agent.stderr()


def test_a_secret_in_an_answer_of_a_server_is_shown_nowhere(tmp_path: Path) -> None:
    secret, token = "correct-horse-battery", tmp_path / "token"
    token.write_text(f"{secret}\n")
    body = f'[collect.odd]\n[export.odd]\ndoes = "tell"\ntoken_file = "{token}"\n'
    with odd(tmp_path, body) as agent:
        until(lambda: agent.status()["lanes"][0]["state"] == "held")
        until(lambda: agent.status()["health"]["warnings"])
        document = agent.status()
        assert document["lanes"][0]["hold_reason"] == "unauthorized: the server did not like [REDACTED]"
        shown = [json.dumps(document), agent.stderr()]
        for path in ("/status", "/metrics", "/health/ready", "/health/live"):
            with urllib.request.urlopen(agent.endpoint() + path, timeout=30) as answer:
                shown.append(answer.read().decode())
        assert not [text for text in shown if secret in text]
        assert agent.stop() == 0


def test_metrics_are_rendered_beside_the_loop(tmp_path: Path) -> None:
    with running(written(tmp_path)) as agent:
        with urllib.request.urlopen(f"{agent.endpoint()}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        for name in ("process_resident_memory_bytes", 'telemetry_agent_lane_state{lane="loki/logs",state="idle"}'):
            assert name in text


def test_metrics_say_of_what_waits_what_the_status_says(tmp_path: Path) -> None:
    (tmp_path / "some.log").write_text("one\ntwo\n")
    collect = f'[collect.file]\npaths = ["{tmp_path}/some.log"]\nstart_at = "beginning"\n'
    with running(written(tmp_path, collect + DEAD_LOKI)) as agent:
        until(lambda: agent.status()["lanes"][0]["waiting_records"] == 2)
        (lane,) = agent.status()["lanes"]
        with urllib.request.urlopen(f"{agent.endpoint()}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("telemetry_agent_") and "waiting_" in line)
    assert float(found['telemetry_agent_waiting_records{lane="loki/logs"}']) == 2
    assert float(found['telemetry_agent_waiting_bytes{lane="loki/logs"}']) == lane["waiting_bytes"] > 2
    assert float(found['telemetry_agent_oldest_waiting_seconds{lane="loki/logs"}']) >= lane["oldest_seconds"]


def test_a_command_is_answered_while_it_runs(tmp_path: Path) -> None:
    with running(written(tmp_path)) as agent:
        assert agent.command("status", "--json").returncode == 0
        assert command(agent.config, "ledger", "--check").returncode == 0


# Reloading


def test_a_hangup_changes_the_log_level_and_nudges_every_lane(tmp_path: Path) -> None:
    with odd(tmp_path, f"[collect.odd]\n{DEAD_LOKI}") as agent:
        until(lambda: agent.status()["lanes"][0]["state"] == "open")
        agent.config.write_text(
            agent.config.read_text().replace("[agent]", '[agent]\nlog_level = "debug"') + "[export.console]\n"
        )
        before = agent.stderr().count("sending failed")
        agent.signal(signal.SIGHUP)
        until(lambda: "reloaded: log level debug" in agent.stderr())
        assert "reloaded: log level debug; started export.console" in agent.stderr()
        assert before == 0
        assert agent.stop() == 0


def test_a_reload_that_a_command_asks_for_says_how_it_ended(tmp_path: Path) -> None:
    with odd(tmp_path, "[collect.odd]\n[export.console]\n") as agent:
        text = agent.config.read_text()
        assert agent.command("reload").stdout == "nothing is configured differently\n"
        agent.config.write_text(f"{text}[export.console.more]\n")
        shown = agent.command("diff")
        assert shown.stdout == "[export.console.more] added\na reload: started export.console.more\n"
        done = agent.command("reload")
        assert (done.returncode, done.stdout) == (0, "started export.console.more\n")
        until(lambda: "console.more/logs" in agent.status()["ledger"]["lanes"])
        agent.config.write_text(f"{text}[export.consul]\n")
        for command in ("reload", "diff"):
            refused = agent.command(command)
            assert refused.returncode == 78
            assert "[export.consul] is not a destination; did you mean 'console'?" in refused.stderr
        until(lambda: "configuration" in str(agent.status()["health"]["warnings"]))
        agent.config.write_text(text)
        assert agent.command("reload").stdout == "stopped export.console.more\n"
        states = {lane["name"]: lane["state"] for lane in agent.status()["lanes"]}
        assert states["console.more/logs"] == "orphaned"
        assert agent.stop() == 0


def test_a_faulty_configuration_is_not_taken_over_and_every_fault_is_said(tmp_path: Path) -> None:
    with odd(tmp_path, "[collect.odd]") as agent:
        agent.config.write_text(agent.config.read_text() + "[collect.jurnal]\n")
        agent.signal(signal.SIGHUP)
        until(lambda: "the old one goes on" in agent.stderr())
        assert "[collect.jurnal] is not a collector" in agent.stderr()
        assert agent.status()["state"] == "running"
        assert agent.stop() == 0


def test_a_held_lane_tries_a_corrected_secret_at_once_after_a_hangup(tmp_path: Path) -> None:
    trigger = tmp_path / "wrong"
    token = tmp_path / "token"
    token.write_text("old-old-old\n")
    trigger.write_text("")
    body = f'[collect.odd]\n[export.odd]\ndoes = "tell"\ntoken_file = "{token}"\ntrigger = "{trigger}"'
    with odd(tmp_path, body) as agent:
        until(lambda: agent.status()["lanes"][0]["state"] == "held")
        trigger.unlink()
        agent.signal(signal.SIGHUP)
        until(lambda: agent.status()["ledger"]["lanes"]["odd/logs"]["delivered"] == 1)
        assert agent.stop() == 0
