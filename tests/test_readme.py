"""This file does what the README tells a new user to do, in a copy of the repository, with the commands it has there.

Only addresses, intervals and the directory of logs are others, so that nothing else on this machine is in the way.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.processes import sink
from benchmarks.rows import free_port
from tests.peers.prometheus import needs_prometheus

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|toml|yaml)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
LINES = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
WITHIN_SECONDS = 60.0
NAMES = {
    "[export.remote_write]": "node.toml",
    "[export.loki]": "loki.toml",
    "[collect.syslog]": "config.d/more.toml",
    "scrape_configs:": "prometheus.yml",
}
"""What a configuration is known by, and the name under which the README says that it is to be saved."""
EVERY_SECOND = {
    "TELEMETRY_AGENT__COLLECT__HOST__INTERVAL_SECONDS": "1",
    "TELEMETRY_AGENT__COLLECT__AGENT__INTERVAL_SECONDS": "1",
}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("make"), reason="needs make: apt-get install make")]
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")


def lines(*words: str) -> list[str]:
    """The commands of the README that hold all of these words, in its order; there must be some."""
    found = [line for line in LINES if all(word in line for word in words)]
    assert found, words
    return found


def line(*words: str) -> str:
    """The only one of them."""
    (found,) = set(lines(*words))
    return found


class User:
    """Somebody who has cloned the repository, whose virtual environment is made already, and who pastes commands."""

    def __init__(self, folder: Path, **addresses: str) -> None:
        self.folder = folder
        self.addresses = {"127.0.0.1:9465": f"127.0.0.1:{free_port()}"} | addresses
        self.environment = os.environ | {"TELEMETRY_AGENT__SERVE__LISTEN": self.addresses["127.0.0.1:9465"]}
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        (folder / ".venv").symlink_to(sys.prefix)

    def here(self, text: str) -> str:
        """The text with this test's addresses in it."""
        for theirs, ours in self.addresses.items():
            text = text.replace(theirs, ours)
        return text

    def save(self, mark: str) -> None:
        """Saves the configuration with that line where the README says."""
        (text,) = [block for kind, block in BLOCKS if kind != "sh" and mark in block]
        assert f"`{NAMES[mark]}`" in README
        (self.folder / NAMES[mark]).parent.mkdir(exist_ok=True)
        (self.folder / NAMES[mark]).write_text(self.here(text))

    def paste(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.here(command),
            shell=True,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, command: str) -> str:
        """What the command printed; it must succeed."""
        ran = self.paste(command)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    @contextmanager
    def in_the_foreground(self, command: str, last_words: str = '"message":"stopped"') -> Iterator[Terminal]:
        """The command in a terminal of its own; Ctrl-C at the end, after which it must have ended well."""
        command = self.here(command).replace("make run", "make --assume-old=.venv/run.stamp run")
        log = self.folder / f"{command.split()[0].rpartition('/')[2]}.terminal"
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command.split(),
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
                process_group=0,
            ) as process,
        ):
            try:
                yield Terminal(process, log)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
                try:
                    status = process.wait(WITHIN_SECONDS)
                finally:
                    process.kill()
        # make passes the signal on by dying of it; that the agent stopped in good order is in its own last words.
        assert status in {0, -signal.SIGINT if command.startswith("make") else 0}, log.read_text()
        assert last_words in log.read_text()


class Terminal:
    """What runs in the foreground."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def must_live(self) -> None:
        assert self._process.poll() is None, self.said()

    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, reached: Callable[[], Any]) -> Any:
        """What ``reached`` returns, as soon as that is something."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while not (found := reached()):
            self.must_live()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "telemetry-agent"


def found_by(user: User, query: str) -> list[dict[str, Any]]:
    """The series that one of the README's queries returns; none as long as nothing answers."""
    asked = user.paste(query)
    if asked.returncode:
        return []
    answer = json.loads(asked.stdout)
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def test_make_run_ships_this_machines_logs_and_the_ledger_proves_it(folder: Path) -> None:
    user = User(folder)
    with user.in_the_foreground(LINES[0]) as terminal:
        status, ledger = lines("local.toml")
        terminal.wait_for(lambda: user.paste(status).returncode == 0)
        user.succeed(status)
        user.succeed(ledger)
        told = terminal.said()
    assert LINES[0] == "make run"
    assert all(
        words in told for words in ("telemetry-agent status", "telemetry-agent ledger", "/health/ready", "logs.jsonl")
    )


@needs_curl
@needs_prometheus
def test_from_nothing_to_the_dashboards_series_in_a_prometheus_that_is_pushed_to(folder: Path) -> None:
    user = User(folder, **{"127.0.0.1:9090": f"127.0.0.1:{free_port()}"})
    user.environment |= EVERY_SECOND
    user.save("[export.remote_write]")
    with ExitStack() as terminals:
        prometheus = line("prometheus", "--web.enable-remote-write-receiver")
        server = terminals.enter_context(user.in_the_foreground(prometheus, "See you next time!"))
        server.wait_for(lambda: "Server is ready" in server.said())
        agent = terminals.enter_context(user.in_the_foreground(line("run --config node.toml")))
        for query in lines("curl", "/api/v1/query"):
            found = agent.wait_for(lambda query=query: found_by(user, query))
            labels = found[0]["metric"]
            assert (labels["job"], labels["instance"]) == ("node", socket.gethostname())
        machine = lines("curl", "/api/v1/query")[0].replace("node_load1", "node_uname_info")
        assert len(found_by(user, machine)) == 1  # by its job and instance the dashboard finds the machine
        health = user.succeed(line("/health/ready"))
        logs = [user.succeed(command) for command in lines("telemetry-agent logs")]
    assert "destinations" in health
    assert all(" starts event=start" in log for log in logs)


@needs_curl
@needs_prometheus
def test_from_nothing_to_the_dashboards_series_in_a_prometheus_that_scrapes(folder: Path) -> None:
    user = User(folder, **{"127.0.0.1:9090": f"127.0.0.1:{free_port()}", "scrape_interval: 15s": "scrape_interval: 1s"})
    user.environment |= EVERY_SECOND
    user.save("scrape_configs:")
    with ExitStack() as terminals:
        agent = terminals.enter_context(user.in_the_foreground("make run"))
        server = terminals.enter_context(
            user.in_the_foreground(line("--config.file=prometheus.yml"), "See you next time!")
        )
        for query in lines("curl", "/api/v1/query"):
            found = server.wait_for(lambda query=query: found_by(user, query))
            labels = found[0]["metric"]
            assert (labels["job"], labels["instance"]) == ("node", "my-host")
        agent.must_live()


def test_a_few_lines_of_configuration_bring_the_logs_to_loki(folder: Path) -> None:
    with sink() as loki:
        user = User(folder, **{"/var/log": str(folder / "logs"), "http://127.0.0.1:3100": loki.url})
        logs = folder / "logs" / "app"
        logs.mkdir(parents=True)
        (logs / "web.log").write_bytes(b"".join(b"line %d\n" % number for number in range(1000)))
        user.environment["TELEMETRY_AGENT__COLLECT__JOURNAL__DIRECTORY"] = str(logs)  # a journal that has nothing
        user.save("[export.loki]")
        user.succeed(line("check loki.toml"))
        with user.in_the_foreground(line("run --config loki.toml")) as agent:
            loki.wait_for(1000, WITHIN_SECONDS, agent.must_live)
        assert loki.ask("/counters")["lines"] == 1000


def sent(port: int, line: bytes) -> bool:
    """Whether somebody listened and has been told the line."""
    try:
        with socket.create_connection(("127.0.0.1", port), WITHIN_SECONDS) as client:
            client.sendall(line)
    except ConnectionRefusedError:
        return False
    return True


def test_another_table_is_taken_over_without_a_restart(folder: Path) -> None:
    with sink() as loki:
        addresses = {"/var/log": str(folder / "logs"), "http://127.0.0.1:3100": loki.url}
        user = User(folder, **addresses, **{"127.0.0.1:5514": f"127.0.0.1:{free_port()}"})
        (folder / "logs" / "app").mkdir(parents=True)
        user.environment["TELEMETRY_AGENT__COLLECT__JOURNAL__DIRECTORY"] = str(folder / "logs")
        user.save("[export.loki]")
        with user.in_the_foreground(line("run --config loki.toml")) as agent:
            agent.wait_for(lambda: '"message":"running"' in agent.said())
            user.save("[collect.syslog]")
            shown, done = (user.succeed(line(f"telemetry-agent {command}")) for command in ("diff", "reload"))
            port = int(user.addresses["127.0.0.1:5514"].rpartition(":")[2])
            agent.wait_for(lambda: sent(port, b"<13>Nov 20 16:40:01 printer lpd: out of paper\n"))
            loki.wait_for(1, WITHIN_SECONDS, agent.must_live)
    assert "[collect.syslog] added" in shown
    assert "started" in done
    assert "collect.file.app" in done


def test_every_command_of_the_readme_is_tried_here() -> None:
    tried = ("make run", "local.toml", "node.toml", "loki.toml", "prometheus.yml", "/api/v1/query", "/health/ready")
    assert [each for each in LINES if not any(word in each for word in (*tried, "receiver"))] == []
    marked = [mark for mark in NAMES for kind, block in BLOCKS if kind != "sh" and mark in block]
    assert len(marked) == sum(kind != "sh" for kind, _ in BLOCKS) == len(NAMES)
