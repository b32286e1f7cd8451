"""The audit log: what happened to the agent, and who was refused, without filling a disk or giving a secret away."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config.load import load
from agent.errors import AgentError
from agent.host import Host
from agent.ownlogs import audit
from agent.ownlogs.audit import INTERVAL_SECONDS, Refusals
from agent.ownmetrics import Meter
from agent.secrets import UNSHOWN, Secrets
from agent.serve.endpoint import open_endpoint
from agent.serve.options import ServeOptions
from agent.serve.routes import text_response
from agent.spool.replay import Step
from agent.supervise import audited, reload
from agent.supervise.audited import KEPT, MOST_CHANGES
from agent.supervise.commands import _changing
from agent.supervise.swap import Swap
from agent.worker import Worker
from tests.agent_process import DEAD_LOKI, command, running, written
from tests.fakes import FakeClock, settle


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def nothing_to_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    async def swap(_pipeline: Any, _config: Any) -> Swap:
        return Swap()

    monkeypatch.setattr(reload, "swap", swap)


@pytest.fixture
def said() -> Iterator[list[logging.LogRecord]]:
    """What was written to the audit log."""
    kept, logger = Kept(), logging.getLogger("telemetry_agent.audit")
    before = logger.level
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    yield kept.records
    logger.setLevel(before)
    logger.removeHandler(kept)


def events(said: list[logging.LogRecord]) -> list[dict[str, Any]]:
    return [record.context for record in said if getattr(record, "audit", False)]  # type: ignore[attr-defined]


class Configured:
    """An agent as far as its audit is concerned, configured by a file that can be written again."""

    def __init__(self, folder: Path, body: str) -> None:
        self.path = folder / "config.toml"
        self.path.write_text(body)
        self.secrets = Secrets()
        self.environ: dict[str, str] = {}
        self.agent: Any = SimpleNamespace(
            config_path=self.path,
            config=self.load(),
            load_fault=None,
            host=Host(folder, folder, environ=self.environ),
            logs=SimpleNamespace(set_level=lambda _: None, set_format=lambda _: None),
            clock=FakeClock(),
            stop_reason="SIGTERM",
            stop_failed=False,
        )

    def load(self) -> Any:
        return load(self.path, self.environ, self.secrets)

    def run(self) -> None:
        """One life of it."""
        self.agent.config = self.load()
        with audited.audited(self.agent):
            pass

    async def reload(self, body: str) -> None:
        """SIGHUP, with another configuration."""
        self.path.write_text(body)
        pipeline: Any = SimpleNamespace(drains={})

        async def taken(_config: Any) -> bool:
            return False

        with Worker("reload") as worker, suppress(AgentError):
            await reload.Reloading(self.agent, pipeline, worker, taken).reload()


LOKI = '[export.loki]\nurl = "http://a:3100"\nheaders = {{ X-Key = "{}" }}\n'


def test_a_life_begins_and_ends_in_the_audit_log(tmp_path: Path, said: list[logging.LogRecord]) -> None:
    Configured(tmp_path, "").run()
    assert [each["event"] for each in events(said)] == ["start", "configuration_loaded", "stop"]
    assert said[-1].getMessage() == "stopped: SIGTERM"
    assert events(said)[1]["files"] == [str(tmp_path / "config.toml")]


def test_an_end_by_an_error_is_told(tmp_path: Path, said: list[logging.LogRecord]) -> None:
    configured = Configured(tmp_path, "")
    with pytest.raises(AgentError), audited.audited(configured.agent):
        raise AgentError("no port")
    assert (said[-1].getMessage(), events(said)[-1]["failed"]) == ("stopped by AgentError: no port", True)


def test_a_start_tells_what_is_different_since_the_last_one(tmp_path: Path, said: list[logging.LogRecord]) -> None:
    configured = Configured(tmp_path, LOKI.format("first-secret"))
    configured.run()
    configured.path.write_text(LOKI.format("first-secret").replace("a:3100", "b:3100") + "[export.console]\n")
    configured.run()
    configured.run()
    loaded = [each["changes"] for each in events(said) if each["event"] == "configuration_loaded"]
    changed = ['[export.loki] url: "http://a:3100" → "http://b:3100"', "[export.console] added"]
    assert loaded == [[], changed, []]
    assert (tmp_path / KEPT).stat().st_mode & 0o777 == 0o600
    assert b"first-secret" not in (tmp_path / KEPT).read_bytes()


@pytest.mark.parametrize("spoiled", [b"", b"{", b'{"a": 1}', b"[]"])
def test_what_was_kept_and_cannot_be_read_is_as_if_there_were_none(
    tmp_path: Path, said: list[logging.LogRecord], spoiled: bytes
) -> None:
    (tmp_path / KEPT).write_bytes(spoiled)
    Configured(tmp_path, "").run()
    assert "configuration loaded: no earlier one is known" in [record.getMessage() for record in said]


async def test_a_reload_tells_each_table_and_option_that_changed_and_no_secret(
    tmp_path: Path, said: list[logging.LogRecord]
) -> None:
    before = LOKI.format("old-secret") + "[collect.file.a]\npaths = ['/a']\n[agent]\nlabels = { env = 'x' }\n"
    configured = Configured(tmp_path, before)
    await configured.reload(LOKI.format("new-secret") + "timeout_seconds = 3.0\n[collect.file.b]\npaths = ['/b']\n")
    [change] = [each for each in events(said) if each["event"] == "configuration_changed"]
    assert sorted(change["changes"]) == [
        '[agent] labels: { env = "x" } → not set',
        "[collect.file.a] removed",
        '[collect.file.b] added: paths = ["/b"]',
        '[export.loki] headers: { X-Key = "[REDACTED]" } → { X-Key = "[REDACTED]" }',
        "[export.loki] timeout_seconds: not set → 3.0",
    ]
    assert "secret" not in str(events(said))
    await configured.reload(LOKI.format("new-secret"))
    assert events(said)[-1]["changes"] == [
        "[export.loki] timeout_seconds: 3.0 → not set", "[collect.file.b] removed"
    ]  # fmt: skip


async def test_a_reload_that_is_refused_tells_every_fault(tmp_path: Path, said: list[logging.LogRecord]) -> None:
    configured = Configured(tmp_path, "")
    before = configured.agent.config
    await configured.reload("[collect.jurnal]\n[agent]\nlog_level = 3\n")
    assert events(said)[-1]["event"] == "configuration_refused"
    assert len(events(said)[-1]["faults"]) == 2
    assert configured.agent.config.collect == before.collect


async def test_a_file_that_cannot_be_read_is_refused_in_the_audit_log_too(
    tmp_path: Path, said: list[logging.LogRecord]
) -> None:
    configured = Configured(tmp_path, "")
    configured.agent.config_path = tmp_path / "none.toml"
    await configured.reload("")
    assert "none.toml" in str(events(said)[-1]["faults"])


def test_a_great_many_changes_are_cut_and_counted(tmp_path: Path, said: list[logging.LogRecord]) -> None:
    configured = Configured(tmp_path, "")
    configured.run()
    configured.path.write_text("".join(f"[collect.file.n{n}]\npaths = ['/{n}']\n" for n in range(90)))
    configured.run()
    changes = events(said)[-2]["changes"]
    assert (len(changes), changes[-1]) == (MOST_CHANGES + 1, f"and {90 - MOST_CHANGES} more")


def test_a_disk_that_is_full_costs_a_difference_and_nothing_else(
    tmp_path: Path, said: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    configured = Configured(tmp_path, "")
    monkeypatch.setattr(Path, "replace", full)
    configured.run()
    assert [each["event"] for each in events(said)] == ["start", "configuration_loaded", "stop"]
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


# Credentials


def test_each_secret_is_told_of_when_it_is_read_changes_fails_and_not_again(
    tmp_path: Path, said: list[logging.LogRecord]
) -> None:
    file, secrets = tmp_path / "token", Secrets()
    secrets.heard = audit.credential
    for text in ("first-token", "first-token", "second-token", None, None, "second-token"):
        file.unlink(missing_ok=True)
        if text is None:
            with pytest.raises(OSError, match="no such file"):
                secrets.read_file(str(file), {})
        else:
            file.write_text(text)
            assert secrets.read_file(str(file), {}) == text
    assert [each["event"] for each in events(said)] == [
        "credential_read", "credential_changed", "credential_unreadable", "credential_read"
    ]  # fmt: skip
    assert {each["file"] for each in events(said)} == {str(file)}
    assert "-token" not in str([record.getMessage() for record in said])


def test_a_secret_given_instead_of_its_file_is_not_told(said: list[logging.LogRecord]) -> None:
    secrets = Secrets()
    secrets.heard = audit.credential
    with pytest.raises(OSError, match="may be the secret itself"):
        secrets.read_file("glc_abcdefghijklmnop", {})
    assert events(said)[0]["file"] == UNSHOWN
    assert "glc_" not in said[0].getMessage()


# Refused requests


async def test_a_scanner_costs_a_line_a_minute_for_each_reason(said: list[logging.LogRecord]) -> None:
    clock = FakeClock()
    refusals = Refusals(clock)
    turning = asyncio.ensure_future(refusals.turn())
    for _ in range(10_000):
        refusals.note("unauthorized", client="192.0.2.1")
    refusals.note("unknown_path", path="/x")
    assert [each["requests"] for each in events(said)] == [1, 1]
    await clock.advance(INTERVAL_SECONDS)
    assert [(each["reason"], each["requests"]) for each in events(said)][2:] == [("unauthorized", 9_999)]
    for _ in range(20):
        refusals.note("unauthorized", client="192.0.2.1")
    await clock.advance(10 * INTERVAL_SECONDS)
    assert [each["requests"] for each in events(said)][3:] == [20]
    refusals.note("unauthorized", client="192.0.2.1")
    assert events(said)[-1]["requests"] == 1
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def test_what_the_endpoint_refuses_is_told_with_who_asked_and_no_token(said: list[logging.LogRecord]) -> None:
    options = ServeOptions(listen="127.0.0.1:0")
    routes = {"/metrics": lambda _: text_response("x")}
    async with open_endpoint(options, routes, clock=FakeClock(), meter=Meter(), token="right-token") as endpoint:
        for ask in (
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong-token\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /admin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right-token\r\n\r\n",
            b"DELETE /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right-token\r\n\r\n",
            b"\x16\x03\x01 no http at all\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection(*endpoint.addresses[0])
            writer.write(ask)
            await reader.readline()
            writer.close()
            await writer.wait_closed()
        await settle()
    found = events(said)
    assert [(each["reason"], each["requests"]) for each in found] == [
        ("unauthorized", 1), ("unknown_path", 1), ("method_not_allowed", 1), ("unreadable", 1), ("unauthorized", 1)
    ]  # fmt: skip
    assert (found[0]["client"], found[0]["path"], found[1]["path"]) == ("127.0.0.1", "/metrics", "/admin")
    assert "token" not in str(found)


# The agent as a whole


def test_a_running_agent_keeps_its_log_files_and_reads_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("endpoint-secret")
    config = written(
        tmp_path,
        f'[collect.file]\npaths = ["{tmp_path}/log/*"]\nstart_at = "beginning"\n{DEAD_LOKI}',
        agent=f'log_files = true\nlog_dir = "{tmp_path}/log"\nlog_performance_interval_seconds = 1',
        serve=f'token_file = "{tmp_path}/token"',
    )
    with running(config) as agent:
        while not (tmp_path / "log" / "performance.log").exists():
            document = agent.status()
    [source] = [source for source in document["sources"] if source["type"] == "file"]
    assert source["detail"].get("files", 0) in (0, [])
    shown = agent.command("logs", "--file", "audit").stdout
    for event in ("starts", "configuration loaded", f"the secret in {tmp_path}/token was read", "stopped: SIGTERM"):
        assert event in shown, shown


def test_an_agent_without_log_files_has_no_thread_for_them_and_audits_all_the_same(tmp_path: Path) -> None:
    with running(written(tmp_path)) as agent:
        threads = {(task / "comm").read_text().strip() for task in Path(f"/proc/{agent.pid}/task").iterdir()}
        assert "own logs" not in threads
    assert '"component":"audit"' in agent.stderr()
    assert not (tmp_path / "log").exists()


def test_what_was_mended_stands_in_it_whoever_did_that(tmp_path: Path) -> None:
    copy = f'[export.file]\npath = "{tmp_path}/out.jsonl"\n'
    with running(written(tmp_path, DEAD_LOKI + copy)):
        pass
    with running(written(tmp_path, DEAD_LOKI)) as agent:
        done = [agent.command("spool", *words) for words in (("replay", "--quarantine"), ("retire", "file/logs"))]
    assert [each.returncode for each in done] == [0, 0], done
    (tmp_path / "state/spool/spool.db").write_bytes(b"no database " * 1000)
    with running(written(tmp_path, DEAD_LOKI)):
        pass
    lines = [json.loads(line) for line in agent.stderr().splitlines() if '"audit":true' in line]
    mending = {"records_replayed", "lane_retired", "spool_replaced"}
    assert [each["context"]["event"] for each in lines if each["context"]["event"] in mending] == [
        "records_replayed", "lane_retired", "spool_replaced"
    ]  # fmt: skip


async def test_what_was_taken_back_before_a_replay_failed_stands_in_it_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "telemetry_agent.audit")

    steps = [Step(7, 0, 3)]

    async def operate(_operation: object) -> Step:
        if not steps:
            raise AgentError("loki/logs has no room for more")
        return steps.pop()

    replayed = _changing(SimpleNamespace(times=None, operate=operate))["replay"]  # type: ignore[arg-type]  # no more is asked
    with pytest.raises(AgentError, match=r"no room for more; 7 records were taken back before that"):
        await replayed({"quarantine": True, "lane": "loki/logs"})
    (record,) = caplog.records
    assert record.getMessage() == "7 records are sent again to loki/logs"


def test_what_runs_the_agent_imports_nothing_that_writes_log_files() -> None:
    code = "import sys, agent.supervise.run; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    unwanted = {"agent.ownlogs.writer", "agent.ownlogs.rotation", "agent.ownlogs.files", "agent.supervise.performance"}
    assert unwanted & set(ran.stdout.split()) == set()


def test_log_files_are_never_put_into_the_spools_directory(tmp_path: Path) -> None:
    config = written(tmp_path, agent=f'log_files = true\nlog_dir = "{tmp_path}/state/spool/log"')
    done = command(config, "run")
    assert done.returncode == 1
    assert "nothing but the spool may be written there; name another" in done.stderr


def test_a_private_key_that_was_read_is_told_once(said: list[logging.LogRecord]) -> None:
    secrets = Secrets()
    secrets.heard = audit.credential
    for _ in range(3):
        secrets.was_read("/etc/key.pem")
    assert [(each["event"], each["file"]) for each in events(said)] == [("credential_read", "/etc/key.pem")]
