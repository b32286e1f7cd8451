"""The commands that answer at once load little: counted in modules, since time is not the same on two machines."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent.collect import COLLECTORS
from agent.export import DESTINATIONS
from agent.process import PROCESSORS
from tests.agent_process import unmeasured_environ
from tests.spool_contents import logs, numbered, spool, take

HEAVY = frozenset({"asyncio", "concurrent", "cramjam", "h11", "hyperscan", "orjson", "prometheus_client"})
"""What only a running agent needs."""
WORKS = {"collect": "source", "process": "processor", "export": "destination"}
"""What the file is called that works, in the folder of a component of a stage."""
NETWORK = frozenset({"ssl", "http", "email", "socket", "selectors", "urllib.request"})
SPARE = frozenset({"bz2", "lzma", "shutil", "tempfile", "random", "logging", "subprocess"})
"""Standard library that is dear to import and comes in by accident."""
BARE = (
    "import json, sys; before = set(sys.modules); from agent.cli.main import main; status = main(sys.argv[1:]); "
    "print(json.dumps([status, sorted(set(sys.modules) - before)]), file=sys.stderr)"
)

CONFIG = """
[agent]
state_dir = "{0}/state"
run_dir = "{0}/run"
[collect.file]
paths = ["{0}/*.log"]
[collect.container]
[collect.journal]
[collect.syslog]
unix_path = "{0}/syslog.sock"
[process.drop]
contains = ["probe"]
[process.labels]
set = {{ team = "web" }}
[process.filter]
when = [{{ contains = "probe" }}]
[process.sample]
ratio = 0.5
[process.rate_limit]
records_per_second = 100
[process.truncate]
[process.dedupe]
[[process.metrics.counter]]
name = "lines_total"
[process.extract]
labels = {{ service = "service" }}
[process.errors]
[export.loki]
url = "http://127.0.0.1:3100"
[export.remote_write]
url = "http://127.0.0.1:9090/api/v1/write"
[export.file]
path = "{0}/out.jsonl"
[export.console]
"""
"""Every component there is; redact comes by itself, and staleness with remote_write."""


def loaded(*arguments: str) -> tuple[int, frozenset[str]]:
    """The exit status of a command, and the modules it loaded beyond those of an interpreter that knows json."""
    ran = subprocess.run(
        [sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    status, modules = json.loads(ran.stderr.splitlines()[-1])
    return status, frozenset(modules)


def strangers(modules: frozenset[str], unwanted: frozenset[str]) -> list[str]:
    return sorted(module for module in modules if unwanted & {module, module.split(".")[0]})


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(tmp_path))
    return str(path)


@pytest.mark.parametrize(
    ("command", "most_modules"),
    [(("check",), 160), (("config", "show"), 160), (("config", "schema"), 160), (("config", "reference"), 160)],
)
def test_commands_that_read_the_configuration_load_what_declares_and_nothing_that_works(
    config: str, command: tuple[str, ...], most_modules: int
) -> None:
    status, modules = loaded(*command, "--config", config)
    assert status == 0
    assert strangers(modules, HEAVY | NETWORK | SPARE | {"sqlite3"}) == []
    assert len(modules) <= most_modules
    declared = {*COLLECTORS.values(), *PROCESSORS.values(), *DESTINATIONS.values()}
    assert declared <= modules
    stages = ("agent.collect.", "agent.process.", "agent.export.")
    folders = {module.removesuffix(".options") for module in declared}
    assert {m for m in modules if m.startswith(stages)} - declared - folders == {
        "agent.export.http_options",
        "agent.collect.parse_options",
        "agent.process.buckets_options",
        "agent.process.conditions",
        "agent.process.conditions.options",
    }


def test_telling_the_version_loads_next_to_nothing() -> None:
    status, modules = loaded("--version")
    assert status == 0
    assert strangers(modules, HEAVY | NETWORK | SPARE | {"sqlite3", "msgspec", "argparse"}) == []
    assert len(modules) <= 30


@pytest.mark.parametrize(
    "command", [("ledger",), ("ledger", "--check"), ("spool", "ls")], ids=["ledger", "ledger --check", "spool ls"]
)
def test_commands_that_read_the_spool_load_no_event_loop_and_nothing_to_send_with(
    config: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    with spool(tmp_path / "state" / "spool") as store:
        take(store, logs(numbered(3)))
    status, modules = loaded(*command, "--config", config)
    assert status == 0
    assert strangers(modules, HEAVY | (NETWORK - {"socket", "selectors"}) | (SPARE - {"shutil", "bz2", "lzma"})) == []
    assert len(modules) <= 150


def test_logs_loads_neither_what_writes_them_nor_the_configurations_components(config: str, tmp_path: Path) -> None:
    (tmp_path / "application.log").write_text("")
    status, modules = loaded("logs", "--config", config, "--dir", str(tmp_path))
    assert status == 0
    assert strangers(modules, HEAVY | NETWORK | SPARE | {"sqlite3"}) == []
    assert {"agent.ownlogs.writer", "agent.ownlogs.rotation", "agent.config.load"} & modules == set()
    assert len(modules) <= 90


def test_status_loads_a_socket_and_no_event_loop(config: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "run" / "control.sock"))
        listening.listen()
        listening.settimeout(60)

        def answer() -> None:
            asking, _ = listening.accept()
            with asking:
                asking.recv(1 << 16)
                asking.sendall(b'{"ok": true, "state": "running"}\n')

        answering = threading.Thread(target=answer)
        answering.start()
        status, modules = loaded("status", "--config", config)
        answering.join()
    assert status == 0
    assert strangers(modules, HEAVY | (NETWORK - {"socket", "selectors"}) | {"sqlite3"}) == []
    assert len(modules) <= 140


@pytest.mark.parametrize("module", [*COLLECTORS.values(), *PROCESSORS.values(), *DESTINATIONS.values()])
def test_a_component_declares_itself_without_what_it_works_with(module: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        env=unmeasured_environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    modules = frozenset(ran.stdout.split())
    assert strangers(modules, HEAVY | NETWORK | SPARE | {"sqlite3"}) == []
    stage, folder = module.split(".")[1], module.removesuffix(".options")
    works = f"{folder}.{WORKS[stage]}" if folder != module else module.removesuffix("_options")
    assert find_spec(works) is not None
    assert works not in modules
