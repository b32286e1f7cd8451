"""This file does what the README tells a new user to do, from nothing to logs in Loki, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.processes import sink
from benchmarks.rows import free_port

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(sh|toml)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [block.splitlines() for kind, block in BLOCKS if kind == "sh"]
WITHIN_SECONDS = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("make"), reason="needs make")]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What somebody has who cloned the repository and whose virtual environment is made already."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    folder = tmp_path / "telemetry-agent"
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture
def environment() -> dict[str, str]:
    """The user's own, with a port for the endpoint that no other test has."""
    return os.environ | {"TELEMETRY_AGENT__SERVE__LISTEN": f"127.0.0.1:{free_port()}"}


def run(command: str, clone: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, cwd=clone, env=environment, capture_output=True, text=True, check=False)


@contextmanager
def in_the_foreground(command: str, clone: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The command as in a first terminal; Ctrl-C at the end, after which it must have ended well."""
    command = command.replace("make run", "make --assume-old=.venv/run.stamp run")
    log = clone / "terminal.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command.split(), cwd=clone, env=environment, stdout=output, stderr=output, process_group=0
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            status = process.wait(WITHIN_SECONDS)
    # make passes the signal on by dying of it; that the agent stopped in good order is in its own last words.
    assert status in {0, -signal.SIGINT if command.startswith("make") else 0}, log.read_text()
    assert '"message":"stopped"' in log.read_text()


def must_live(process: subprocess.Popen[bytes], clone: Path) -> None:
    assert process.poll() is None, (clone / "terminal.log").read_text()


def wait_for(command: str, clone: Path, environment: dict[str, str], process: subprocess.Popen[bytes]) -> None:
    """Until the command succeeds."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while (asked := run(command, clone, environment)).returncode:
        must_live(process, clone)
        assert time.monotonic() < deadline, asked.stderr


def test_make_run_ships_this_machines_logs_and_the_ledger_proves_it(clone: Path, environment: dict[str, str]) -> None:
    (start,), asked = COMMANDS[0], COMMANDS[1]
    assert start == "make run"
    with in_the_foreground(start, clone, environment) as process:
        wait_for(asked[0], clone, environment, process)
        for command in asked:
            answer = run(command, clone, environment)
            assert answer.returncode == 0, answer.stderr
    told = (clone / "terminal.log").read_text()
    assert all(
        words in told for words in ("telemetry-agent status", "telemetry-agent ledger", "/health/ready", "logs.jsonl")
    )


def test_a_few_lines_of_configuration_bring_the_logs_to_loki(clone: Path, environment: dict[str, str]) -> None:
    (configuration,) = [block for kind, block in BLOCKS if kind == "toml"]
    check, start = COMMANDS[2]
    logs = clone / "logs" / "app"
    logs.mkdir(parents=True)
    (logs / "web.log").write_bytes(b"".join(b"line %d\n" % number for number in range(1000)))
    with sink() as loki:
        known = configuration.replace("/var/log", str(clone / "logs")).replace("http://127.0.0.1:3100", loki.url)
        (clone / "loki.toml").write_text(known)
        checked = run(check, clone, environment)
        assert checked.returncode == 0, checked.stderr
        with in_the_foreground(start, clone, environment) as process:
            loki.wait_for(1000, WITHIN_SECONDS, lambda: must_live(process, clone))
        assert loki.ask("/counters")["lines"] == 1000
