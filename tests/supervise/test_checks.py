"""What the health checks make of the state of the agent's own parts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config.model import Config, Configured
from agent.export.lane import Doing, LaneState
from agent.host import Host
from agent.options import AgentOptions, ComponentOptions
from agent.secrets import Secrets
from agent.serve.checks import state_directory
from agent.serve.health import DEADLINE_SECONDS, Finding, Health
from agent.serve.options import ServeOptions
from agent.spool.schema import SCHEMA_VERSION, SpoolOptions
from agent.supervise import instance
from agent.supervise.checks import checks
from agent.supervise.intake import SourceState
from agent.supervise.notify import Notify, notifying
from agent.supervise.stop import stopping
from agent.worker import Worker
from tests.agent_process import DEAD_LOKI, AgentProcess, running, written
from tests.fakes import FakeClock

OK, DEGRADED, FAILED = "ok", "degraded", "failed"


class Parts:
    """An agent that runs and of which nothing is wrong, as far as its checks are concerned."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.lane = LaneState("loki/logs")
        self.source = SourceState("file", "file", "running")
        self.sources = [self.source]
        self.drains: dict[str, Any] = {"loki/logs": SimpleNamespace(state=self.lane)}
        self.links = [SimpleNamespace(name="redact")]
        self.draining: list[Any] = []
        self.schema = SCHEMA_VERSION
        self.committing_ended = False
        self.spool = self._spool(folder / "spool")
        self.stuck: list[str] = []
        self.bound = ["http://127.0.0.1:9465"]
        self.secrets = Secrets()
        config = Config(
            AgentOptions(), SpoolOptions(), ServeOptions(), secrets=self.secrets,
            collect=(configured("collect", "file"),), process=(configured("process", "redact"),),
            export=(configured("export", "loki"),),
        )  # fmt: skip
        self.host = Host(folder, folder / "run", environ={})
        self.notify = Notify(None, None)
        self.agent: Any = SimpleNamespace(
            config=config, host=self.host, clock=self.clock, state="running", notify=self.notify,
            load_fault=None,
            reloading=None,
        )  # fmt: skip
        self.pipeline: Any = SimpleNamespace(
            spool=self.spool, drains=self.drains, sources=self.sources, draining=self.draining,
            chain=SimpleNamespace(links=self.links),
        )  # fmt: skip
        progress: Any = SimpleNamespace(stuck=lambda: self.stuck)
        self.worker = Worker("health")
        every = checks(self.agent, self.pipeline, progress, self.worker, self.bound)
        self.health = Health([check for check in every if check.name in OWN], self.clock)

    def _spool(self, directory: Path) -> Any:
        directory.mkdir()
        (directory / "spool.db").touch()
        return SimpleNamespace(
            trouble=None,
            replacing=False,
            store=SimpleNamespace(used_bytes=5000, directory=directory, path=directory / "spool.db"),
            options=SimpleNamespace(max_bytes=1 << 30),
            committing=SimpleNamespace(done=lambda: self.committing_ended),
            schema_version=self._schema_version,
        )

    async def _schema_version(self) -> int:
        return self.schema

    async def report(self, group: Any) -> Any:
        """What a probe of this group would be told after one more round."""
        await self.health.round()
        return self.health.report(group)

    async def finding(self, name: str) -> Finding:
        """What one check finds now."""
        found: Finding = dict((await self.report(None)).checks)[name]
        return found


def configured(stage: str, name: str) -> Configured:
    component: Any = SimpleNamespace(signals=("logs",))
    return Configured(stage, name, name, component, ComponentOptions())


LIVE = ("loop_turns", "own_memory", "state_directory", "kernel_files", "load")
READY = (
    "components_built", "spool", "host_cycle", "configuration", "instance_and_schema", "disk_space", "memory"
)  # fmt: skip
STARTUP = ("pipeline", "destinations_opened", "signals_and_notify", "spool_opened", "endpoint")
MORE = ("progress", "destinations", "sources")
OF_THE_MACHINE = (*LIVE, "disk_space", "memory")
OWN = frozenset((*READY, *STARTUP, *MORE)) - frozenset(OF_THE_MACHINE)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with AsyncExitStack() as stack:
        stack.enter_context(instance.held(tmp_path))
        stack.enter_context(stopping(lambda: None))
        made = Parts(tmp_path)
        stack.enter_context(made.worker)
        yield made


def test_the_seventeen_are_there_in_their_groups_beside_three_more(parts: Parts) -> None:
    progress: Any = SimpleNamespace()
    every = checks(parts.agent, parts.pipeline, progress, parts.worker, parts.bound)
    groups = {group: {each.name for each in every if group in each.groups} for group in ("live", "ready", "startup")}
    assert groups == {
        "live": {*LIVE, "progress"},
        "ready": {*READY, "destinations", "sources"},
        "startup": set(STARTUP),
    }
    assert len(LIVE + READY + STARTUP) == 17
    assert DEADLINE_SECONDS == 5.0


async def test_an_agent_of_which_nothing_is_wrong_is_ok_in_every_group(parts: Parts) -> None:
    assert [(await parts.report(group)).status for group in ("live", "ready", "startup")] == [OK] * 3


async def test_ready_fails_exactly_while_nothing_can_be_made_durable(parts: Parts) -> None:
    parts.spool.trouble = "full: database or disk is full"
    report = await parts.report("ready")
    assert report.status == FAILED
    assert "free space at" in dict(report.checks)["spool"].message
    assert (await parts.report("live")).status == OK


@pytest.mark.parametrize("doing", ["backoff", "open", "held"])
async def test_a_dead_or_held_backend_is_a_warning(parts: Parts, doing: Doing) -> None:
    parts.lane.doing, parts.lane.last_error = doing, "unreachable: refused"
    report = await parts.report("ready")
    assert report.status == DEGRADED
    assert report.warnings == [f"destinations: loki/logs is {doing}: unreachable: refused"]


@pytest.mark.parametrize("state", ["failed", "blocked"])
async def test_a_source_that_fails_or_waits_for_room_is_a_warning(parts: Parts, state: str) -> None:
    parts.source.state, parts.source.last_error = state, "OSError: x"
    report = await parts.report("ready")
    assert (report.status, report.warnings) == (DEGRADED, [f"sources: file is {state}: OSError: x"])


async def test_a_lane_that_stands_still_though_nothing_keeps_it_asks_for_a_restart(parts: Parts) -> None:
    parts.stuck[:] = ["loki/logs has not moved for 61 s"]
    report = await parts.report("live")
    assert report.status == FAILED
    assert dict(report.checks)["progress"].message == "loki/logs has not moved for 61 s"
    assert (await parts.report("ready")).status == OK


async def test_startup_fails_until_everything_is_open(parts: Parts) -> None:
    parts.agent.state, parts.bound[:] = "starting", []
    report = await parts.report("startup")
    assert [name for name, found in report.checks if found.status == FAILED] == ["pipeline", "endpoint"]
    parts.agent.state, parts.bound[:] = "running", ["http://127.0.0.1:9465"]
    assert (await parts.report("startup")).status == OK


async def test_a_secret_in_an_error_is_masked_in_a_check(parts: Parts) -> None:
    parts.secrets.register("correct-horse-battery")
    parts.lane.doing, parts.lane.last_error = "backoff", "the server says: correct-horse-battery"
    assert "correct-horse-battery" not in str((await parts.report("ready")).document())


# Each is made to fail, and recovers


async def test_a_component_that_is_configured_and_not_built_fails_until_it_is(parts: Parts) -> None:
    for place, name in ((parts.sources, "collect.file"), (parts.links, "process.redact")):
        taken = place.pop()  # type: ignore[attr-defined]
        assert await parts.finding("components_built") == Finding(FAILED, f"not built yet: {name}")
        place.append(taken)  # type: ignore[attr-defined]
    drain = parts.drains.pop("loki/logs")
    assert (await parts.finding("components_built")).message == "not built yet: export.loki"
    assert await parts.finding("destinations_opened") == Finding(FAILED, "not open yet: loki/logs")
    parts.drains["loki/logs"] = drain
    assert await parts.finding("components_built") == Finding(OK, "3 components, all built")
    assert await parts.finding("destinations_opened") == Finding(OK, "1 destination open")


async def test_a_lane_that_has_ended_is_not_an_open_destination(parts: Parts) -> None:
    parts.draining.append(SimpleNamespace(done=lambda: True, get_name=lambda: "drain loki/logs"))
    assert await parts.finding("destinations_opened") == Finding(FAILED, "ended: drain loki/logs")
    parts.draining.clear()
    assert (await parts.finding("destinations_opened")).status == OK


async def test_a_spool_that_is_being_replaced_is_not_accessible(parts: Parts) -> None:
    parts.spool.replacing = True
    assert (await parts.report("ready")).status == FAILED
    parts.spool.replacing = False
    assert (await parts.report("ready")).status == OK


class Host15:
    """A host source that says what the contract asks of it."""

    def __init__(self, ago: float | None, **more: Any) -> None:
        self.detail = {"interval_seconds": 15.0, "last_cycle_seconds_ago": ago, **more}

    def status(self) -> dict[str, Any]:
        return self.detail


async def test_a_host_cycle_may_be_two_intervals_old(parts: Parts) -> None:
    host = Host15(29.9)
    parts.sources.append(SourceState("host", "host", "running", source=host))  # type: ignore[arg-type]
    assert await parts.finding("host_cycle") == Finding(OK, "the last cycle of host was 30 s ago")
    host.detail["last_cycle_seconds_ago"] = 31.0
    assert await parts.finding("host_cycle") == Finding(
        DEGRADED, "the last cycle of host was 31 s ago; at most 30 s pass"
    )
    assert (await parts.report("ready")).status == DEGRADED
    host.detail["last_cycle_seconds_ago"] = 0.5
    assert (await parts.finding("host_cycle")).status == OK


async def test_the_first_host_cycle_has_two_intervals_and_no_more(parts: Parts) -> None:
    host = Host15(None)
    parts.sources.append(SourceState("host", "host", "running", source=host))  # type: ignore[arg-type]
    assert await parts.finding("host_cycle") == Finding(OK, "host has 30 s for its first cycle")
    parts.clock.move(29)
    assert (await parts.finding("host_cycle")).status == OK
    parts.clock.move(2)
    assert (await parts.finding("host_cycle")).status == DEGRADED
    host.detail["last_cycle_seconds_ago"] = 0.0
    assert (await parts.finding("host_cycle")).status == OK


async def test_a_host_source_that_is_opened_again_has_two_intervals_again(parts: Parts) -> None:
    host = SourceState("host", "host", "running", source=Host15(None))  # type: ignore[arg-type]
    parts.sources.append(host)
    assert (await parts.finding("host_cycle")).status == OK
    host.source = None
    parts.clock.move(1000)
    assert await parts.finding("host_cycle") == Finding(OK, "host is being opened")
    host.source = Host15(None)  # type: ignore[assignment]
    assert await parts.finding("host_cycle") == Finding(OK, "host has 30 s for its first cycle")


@pytest.mark.parametrize(
    ("state", "source"), [("unrouted", None), ("unrouted", Host15(900.0)), ("running", Host15(None, on_request=True))]
)
async def test_a_host_that_nobody_takes_is_collected_on_request(parts: Parts, state: str, source: Any) -> None:
    parts.sources.append(SourceState("host", "host", state, source=source))
    parts.clock.move(1000)
    found = await parts.finding("host_cycle")
    assert (found.status, "on request" in found.message) == (OK, True)


async def test_without_host_metrics_their_cycle_is_no_question(parts: Parts) -> None:
    assert await parts.finding("host_cycle") == Finding(OK, "no host metrics are configured")


async def test_a_host_source_that_failed_says_why_and_the_worst_of_several_counts(parts: Parts) -> None:
    parts.sources.append(SourceState("host.a", "host", "running", source=Host15(1.0)))  # type: ignore[arg-type]
    parts.sources.append(SourceState("host.b", "host", "failed", "OSError: no /proc"))
    assert await parts.finding("host_cycle") == Finding(DEGRADED, "host.b failed: OSError: no /proc")
    parts.sources[-1].state = "waiting"
    assert (await parts.finding("host_cycle")).status == OK


async def test_a_reload_that_was_refused_is_a_warning_until_one_succeeds(parts: Parts) -> None:
    parts.agent.load_fault = "config.toml:3:1: [collect.jurnal] is not a collector (and 2 more)"
    report = await parts.report("ready")
    assert report.status == DEGRADED
    assert report.warnings == [
        "configuration: the last reload was refused, the old configuration goes on: "
        "config.toml:3:1: [collect.jurnal] is not a collector (and 2 more)"
    ]
    parts.agent.load_fault = None
    assert (await parts.report("ready")).status == OK


async def test_a_lock_that_was_taken_away_is_a_warning_and_another_holder_fails(parts: Parts) -> None:
    lock = parts.host.state_dir / "lock"
    lock.rename(lock.with_suffix(".aside"))
    found = await parts.finding("instance_and_schema")
    assert (found.status, "a second agent could start" in found.message) == (DEGRADED, True)
    other = "import sys; from pathlib import Path; from agent.supervise import instance\n" + (
        "with instance.held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other, str(parts.host.state_dir)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as second:  # fmt: skip
        assert second.stdout is not None
        assert second.stdout.readline() == b"held\n"
        found = await parts.finding("instance_and_schema")
        assert found.status == FAILED
        assert f"held by process {second.pid} as well" in found.message
        second.communicate()
    lock.with_suffix(".aside").rename(lock)
    assert await parts.finding("instance_and_schema") == Finding(
        OK, f"the only agent on its state directory; schema {SCHEMA_VERSION}"
    )


async def test_a_schema_of_a_newer_agent_is_known_and_none_is_not(parts: Parts) -> None:
    parts.schema = SCHEMA_VERSION + 1
    found = await parts.finding("instance_and_schema")
    assert (found.status, "made by a newer agent" in found.message) == (OK, True)
    parts.schema = 0
    assert (await parts.finding("instance_and_schema")).status == FAILED


async def test_a_signal_that_nobody_hears_fails_the_start(parts: Parts) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert await parts.finding("signals_and_notify") == Finding(FAILED, "nobody hears SIGTERM")
    signal.signal(signal.SIGTERM, before)
    assert (await parts.finding("signals_and_notify")).status == OK


async def test_a_service_manager_that_cannot_be_told_fails_the_start(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        with notifying({"NOTIFY_SOCKET": str(path)}) as parts.agent.notify:
            assert (await parts.finding("signals_and_notify")).status == OK
            path.rename(tmp_path / "aside")
            found = await parts.finding("signals_and_notify")
            assert (found.status, f"{path} is gone" in found.message) == (FAILED, True)
            (tmp_path / "aside").rename(path)
            assert (await parts.finding("signals_and_notify")).status == OK
    parts.agent.notify = Notify(SimpleNamespace(socket=None), None)
    assert (await parts.finding("signals_and_notify")).message.endswith("its socket could not be opened")


async def test_a_spool_whose_file_is_gone_or_that_commits_no_more_is_not_open(parts: Parts) -> None:
    path = parts.spool.store.path
    path.rename(path.with_suffix(".aside"))
    assert (await parts.finding("spool_opened")).status == FAILED
    path.with_suffix(".aside").rename(path)
    parts.committing_ended = True
    assert (await parts.finding("spool_opened")).status == FAILED
    parts.committing_ended = False
    assert (await parts.finding("spool_opened")).status == OK


@pytest.mark.root
def test_a_state_directory_on_a_read_only_file_system_fails_until_it_is_writable(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a file system of its own: run this as root, where tmpfs may be mounted")
    try:
        host = Host(folder, folder, environ={})
        assert state_directory(host).status == OK
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        found = state_directory(host)
        assert (found.status, "Read-only file system" in found.message) == (FAILED, True)
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        assert state_directory(host).status == OK
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# The agent as a whole


def asked(agent: AgentProcess, group: str) -> tuple[int, dict[str, Any]]:
    """The status and the body of /health/GROUP."""
    try:
        with urllib.request.urlopen(f"{agent.endpoint()}/health/{group}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for(agent: AgentProcess, group: str, name: str, status: str) -> tuple[int, str]:
    """The code of the answer and what the check says, once it has found that; rounds are five seconds apart."""
    deadline = time.monotonic() + 60
    while True:
        code, body = asked(agent, group)
        check = next(each for each in body["checks"] if each["name"] == name)
        if check["status"] == status:
            return code, check["message"]
        assert time.monotonic() < deadline, check
        time.sleep(0.1)


@pytest.mark.slow
def test_an_agent_whose_configuration_is_broken_goes_on_with_a_warning_and_says_when_it_is_right_again(
    tmp_path: Path,
) -> None:
    config = written(tmp_path)
    right = config.read_text()
    with running(config) as agent:
        assert [asked(agent, group)[0] for group in ("live", "ready", "startup")] == [200, 200, 200]
        config.write_text(right + "[collect.jurnal]\n")
        agent.signal(signal.SIGHUP)
        code, message = wait_for(agent, "ready", "configuration", DEGRADED)
        assert code == 200
        assert "[collect.jurnal] is not a collector" in message
        config.write_text(right)
        agent.signal(signal.SIGHUP)
        assert wait_for(agent, "ready", "configuration", OK)[0] == 200
        assert set(asked(agent, "live")[1]) == {"status", "checks", "warnings"}


@pytest.fixture
def group() -> Iterator[Callable[[int, int | None], None]]:
    """Puts a process into a control group with this limit on memory, or none."""
    root = Path("/sys/fs/cgroup/memory")
    if os.geteuid() != 0 or not (root / "memory.limit_in_bytes").exists():
        pytest.skip("needs root and control groups of version 1")
    folder = root / f"telemetry-agent-test-{os.getpid()}"
    folder.mkdir()

    def put(pid: int, limit_bytes: int | None) -> None:
        (folder / "memory.limit_in_bytes").write_text(str(-1 if limit_bytes is None else limit_bytes))
        (folder / "cgroup.procs").write_text(str(pid))

    yield put
    folder.rmdir()


@pytest.mark.slow
@pytest.mark.root
def test_an_agent_near_the_limit_of_its_control_group_asks_for_a_restart(
    tmp_path: Path, group: Callable[[int, int | None], None]
) -> None:
    with running(written(tmp_path, DEAD_LOKI)) as agent:
        status = Path(f"/proc/{agent.pid}/status").read_text()
        resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
        group(agent.pid, resident)  # what it holds already stays charged to where it was
        code, message = wait_for(agent, "live", "own_memory", FAILED)
        assert (code, "its control group (MemoryMax)" in message) == (503, True)
        group(agent.pid, None)
        assert wait_for(agent, "live", "own_memory", OK)[0] == 200
