"""A reload of a real agent that hangs, fails or is overtaken by the end: whoever looks is answered, nothing stops."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

from agent.cli.control import ask
from tests.agent_process import AgentProcess, written
from tests.supervise.odd import odd, until


def hang_the_configuration(agent: AgentProcess) -> Path:
    """Reading it waits from now on: as on a dead mount, opening one of its files does not return."""
    folder = agent.config.parent / "config.d"
    folder.mkdir(exist_ok=True)
    os.mkfifo(folder / "hangs.toml")
    return folder / "hangs.toml"


def asked(agent: AgentProcess, command: str) -> dict[str, Any]:
    """What the agent answers; the configuration is not read for its socket."""
    return ask(agent.config.parent / "run" / "control.sock", {"command": command}, 30)


def test_a_configuration_that_cannot_be_read_holds_up_nobody_and_is_refused(tmp_path: Path) -> None:
    with odd(tmp_path, "[collect.odd]\n[export.console]\n", reload__READ_SECONDS=1.0) as agent:
        url = agent.endpoint()
        hangs = hang_the_configuration(agent)
        agent.said.clear()
        agent.signal(signal.SIGHUP)
        agent.wait_said("RELOADING=1")
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            assert b"telemetry_agent_" in answer.read()
        refused = asked(agent, "reload")
        assert refused["ok"] is False
        assert "could not be read within 1 s; see whether the disk or mount they are on answers" in refused["error"]
        until(lambda: "could not be read" in str(asked(agent, "status")["health"]["warnings"]))
        with os.fdopen(os.open(hangs, os.O_WRONLY), "w"):
            hangs.unlink()  # it answers again
        until(lambda: agent.command("reload").returncode == 0)
        assert agent.stop() == 0


def test_a_reload_that_takes_long_is_seen(tmp_path: Path) -> None:
    with odd(tmp_path, "[collect.odd]\n", checks__MOST_RELOAD_SECONDS=0.1) as agent:
        hang_the_configuration(agent)
        agent.signal(signal.SIGHUP)
        seen = "a reload has been reading the configuration for"
        until(lambda: seen in str(asked(agent, "status")["health"]["warnings"]))
        agent.said.clear()
        agent.signal(signal.SIGTERM)
        agent.wait_said("STATUS=stopping")
        assert agent.wait_exit() == 0
        assert "READY=1" not in agent.said


def test_a_source_that_does_not_end_is_left_behind(tmp_path: Path) -> None:
    body = "[collect.odd]\nclosing_seconds = 3600\n[export.console]\n"
    with odd(tmp_path, body, pipeline__LEAVE_SECONDS=0.2) as agent:
        until(lambda: agent.status()["ledger"]["lanes"]["console/logs"]["delivered"] == 1)
        agent.config.write_text(agent.config.read_text().replace("closing_seconds = 3600", "closing_seconds = 0"))
        done = agent.command("reload")
        assert (done.returncode, done.stdout) == (0, "restarted collect.odd\n")
        assert "source odd has not ended within 0.2 s; nobody waits for it any more" in agent.stderr()
        until(lambda: agent.status()["ledger"]["lanes"]["console/logs"]["delivered"] == 2)
        agent.kill()


def test_the_service_manager_is_told_when_a_reload_begins_and_ends(tmp_path: Path) -> None:
    with odd(tmp_path, "[collect.odd]\n") as agent:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        agent.said.clear()
        agent.signal(signal.SIGHUP)
        agent.wait_said("READY=1")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        said = [line for line in agent.said if not line.startswith("STATUS=")]
        began = re.fullmatch(r"MONOTONIC_USEC=(\d+)", said[1])
        assert began is not None
        assert (said[0], said[2]) == ("RELOADING=1", "READY=1")
        assert before <= int(began[1]) <= after
        assert agent.stop() == 0


def test_processors_in_another_order_are_said_by_both_commands(tmp_path: Path) -> None:
    first, second = "[process.truncate]\n", "[process.dedupe]\n"
    with odd(tmp_path, f"[collect.odd]\n[export.console]\n{first}{second}") as agent:
        agent.config.write_text(written(tmp_path, f"[collect.odd]\n[export.console]\n{second}{first}").read_text())
        order = "processors now in the order redact, dedupe, truncate\n"
        assert agent.command("diff").stdout == f"a reload: {order}"
        assert agent.command("reload").stdout == order
        assert agent.command("diff").stdout == "nothing is configured differently\n"
        assert agent.stop() == 0


def test_reading_the_configuration_again_and_again_leaves_nothing_in_memory(tmp_path: Path) -> None:
    def anonymous_kilobytes(agent: AgentProcess) -> int:
        found = re.search(r"Anonymous: +(\d+)", Path(f"/proc/{agent.pid}/smaps_rollup").read_text())
        assert found is not None
        return int(found[1])

    def reloaded(agent: AgentProcess, times: int) -> dict[str, int]:
        for number in range(times):
            agent.config.write_text(texts[number % 2])
            assert agent.ask("reload")["ok"]
        threads, files = (len(os.listdir(f"/proc/{agent.pid}/{kind}")) for kind in ("task", "fd"))
        return {"memory": anonymous_kilobytes(agent), "threads": threads, "files": files}

    body = f'[collect.file]\npaths = ["{tmp_path}/none"]\n[export.file]\npath = "{tmp_path}/out"\n'
    with odd(tmp_path, body) as agent:
        texts = [agent.config.read_text() + "max_bytes = 50000000\n[process.errors]\n", agent.config.read_text()]
        before = reloaded(agent, 20)
        after = reloaded(agent, 60)
        for kind in ("threads", "files"):  # one may be on its way out just then
            assert after[kind] <= before[kind] + 3
        assert after["memory"] - before["memory"] < 1500, "25 to 40 kB a reload when nobody collects what reading left"
        assert agent.stop() == 0


def test_who_looks_after_a_reload_sees_the_lanes_there_are_now(tmp_path: Path) -> None:
    with odd(tmp_path, "[collect.odd]\n[export.console]\n") as agent:
        agent.config.write_text(agent.config.read_text() + "[export.console.more]\n")
        agent.status()
        assert agent.ask("reload")["ok"]
        assert "console.more/logs" in [lane["name"] for lane in agent.status()["lanes"]]
        assert agent.stop() == 0
