"""The control socket: a real socket in a real directory, and the client that commands use."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.cli.control import NotRunning, ask, socket_path
from agent.errors import AgentError, StateHeld
from agent.supervise.control import MOST_REQUEST_BYTES, ControlError, serve_control


async def status(request: dict[str, Any]) -> dict[str, Any]:
    return {"version": "1", "asked": request}


async def refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise AgentError("there is nothing to replay; see spool ls")


async def fail(_: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("inside")


async def large(_: dict[str, Any]) -> dict[str, Any]:
    return {"text": "x" * (4 << 20), "path": Path("/x")}


async def hang(_: dict[str, Any]) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


COMMANDS = {"status": status, "refuse": refuse, "fail": fail, "large": large, "hang": hang}


@asynccontextmanager
async def serving(path: Path, **bounds: Any) -> AsyncIterator[Path]:
    async with serve_control(path, COMMANDS, **bounds):
        yield path


async def asked(path: Path, request: dict[str, Any], timeout_seconds: float = 10.0) -> dict[str, Any]:
    return await asyncio.to_thread(ask, path, request, timeout_seconds)


async def raw(path: Path, data: bytes, *, and_leave: bool = True) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    if and_leave:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


async def test_a_command_is_answered_in_one_line(path: Path) -> None:
    async with serving(path):
        answer = await asked(path, {"command": "status", "lane": "loki/ü\n"})
        assert answer == {"ok": True, "version": "1", "asked": {"command": "status", "lane": "loki/ü\n"}}
        assert (await raw(path, b'{"command":"status"}\n')).count(b"\n") == 1


async def test_one_connection_may_ask_several_times(path: Path) -> None:
    async with serving(path):
        answers = (await raw(path, b'{"command":"status"}\n{"command":"refuse"}\n')).splitlines()
        assert [json.loads(line)["ok"] for line in answers] == [True, False]


async def test_only_the_owner_may_open_it_and_the_directory_is_made(path: Path) -> None:
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("refuse", "there is nothing to replay; see spool ls"),
        ("fail", "RuntimeError: inside"),
        ("stats", "'stats' is no command; there are fail"),
        (None, "None is no command"),
        (["status"], "['status'] is no command"),
    ],
)
async def test_what_cannot_be_done_is_said(path: Path, command: Any, error: str) -> None:
    async with serving(path):
        answer = await asked(path, {"command": command})
        assert answer["ok"] is False
        assert error in answer["error"]


GARBAGE = [b"\n", b"status\n", b"[]\n", b'{"command":\n', b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"\x00" * 100 + b"\n"]


@pytest.mark.parametrize("data", GARBAGE)
async def test_garbage_is_answered_and_hurts_nobody(path: Path, data: bytes) -> None:
    async with serving(path):
        answer = json.loads(await raw(path, data))
        assert answer["ok"] is False
        assert '{"command": "status"}' in answer["error"]
        assert (await asked(path, {"command": "status"}))["ok"]


async def test_a_request_that_is_not_finished_gets_no_answer(path: Path) -> None:
    async with serving(path):
        assert await raw(path, b'{"command":"status"}') == b""


async def test_a_request_beyond_the_bound_is_refused(path: Path) -> None:
    async with serving(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * (MOST_REQUEST_BYTES + 1))
        assert f"longer than {MOST_REQUEST_BYTES} bytes".encode() in await reader.readuntil(b"\n")
        writer.transport.abort()


async def test_a_silent_client_is_closed(path: Path) -> None:
    async with serving(path, idle_seconds=0.05):
        assert await raw(path, b"", and_leave=False) == b""
        assert await raw(path, b'{"command":', and_leave=False) == b""


async def test_a_client_more_than_there_may_be_is_told(path: Path) -> None:
    async with serving(path, most_clients=2):
        held = [await asyncio.open_unix_connection(path) for _ in range(2)]
        for reader, writer in held:
            writer.write(b'{"command":"status"}\n')
            await reader.readuntil(b"\n")
        assert (await asked(path, {"command": "status"}))["error"] == "2 commands are being answered; try again"
        for reader, writer in held:
            writer.close()
            assert await reader.read() == b""
        while not (await asked(path, {"command": "status"}))["ok"]:
            await asyncio.sleep(0.01)


async def test_a_large_answer_arrives_whole_also_when_the_client_has_closed_its_half(path: Path) -> None:
    async with serving(path):
        answer = await asked(path, {"command": "large"})
        assert len(answer["text"]) == 4 << 20
        assert answer["path"] == "/x"
        assert len(await raw(path, b'{"command":"large"}\n')) > 4 << 20


async def test_a_client_that_does_not_take_its_answer_is_closed(path: Path) -> None:
    async with serving(path, idle_seconds=0.05, most_clients=1):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lazy:
            lazy.connect(os.fspath(path))
            lazy.sendall(b'{"command":"large"}\n')
            while not (await asked(path, {"command": "status"}))["ok"]:
                await asyncio.sleep(0.01)


async def test_leaving_ends_the_commands_under_way(path: Path) -> None:
    async with serving(path):
        waiting = asyncio.ensure_future(asked(path, {"command": "hang"}))
        while not any("_Clients.answer" in repr(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)
    with pytest.raises(NotRunning, match="went away"):
        await waiting


async def test_what_a_killed_agent_left_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(os.fspath(path))
    assert path.exists()
    async with serving(path):
        assert (await asked(path, {"command": "status"}))["ok"]


async def test_a_socket_that_somebody_answers_on_is_left_alone(path: Path) -> None:
    async with serving(path):
        with pytest.raises(StateHeld, match="another agent answers"):
            async with serving(path):
                raise AssertionError
        assert (await asked(path, {"command": "status"}))["ok"]


async def test_the_socket_of_a_successor_is_not_removed(path: Path) -> None:
    async with serving(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as successor:
            successor.bind(os.fspath(path))
    assert path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(ControlError, match="is no socket"):
        async with serving(path):
            raise AssertionError
    assert path.read_text() == "precious"


async def test_a_path_too_long_for_a_socket_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / "control.sock"
    with pytest.raises(ControlError, match=r"a unix socket takes 107; choose a shorter \[agent\] run_dir"):
        async with serving(path):
            raise AssertionError


async def test_a_directory_that_cannot_be_made_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match=r"must be able to write \[agent\] run_dir"):
        async with serving(tmp_path / "file" / "control.sock"):
            raise AssertionError


def test_no_agent_is_told_from_a_broken_one(tmp_path: Path) -> None:
    for path in (tmp_path / "control.sock", tmp_path / "nowhere" / "control.sock", Path("/dev/null/control.sock")):
        with pytest.raises(NotRunning, match="no agent answers at"):
            ask(path, {"command": "status"})
    with pytest.raises(AgentError, match="too long"):
        ask(tmp_path / ("x" * 200), {"command": "status"})


async def test_an_answer_that_does_not_come_in_time_is_an_error(path: Path) -> None:
    async with serving(path):
        with pytest.raises(AgentError, match=r"did not answer within 0\.05 s"):
            await asked(path, {"command": "hang"}, 0.05)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"", "went away"), (b'{"ok":', "went away"), (b"HTTP/1.1 400\r\n", "is no telemetry-agent")],
)
async def test_a_stranger_on_the_socket_is_an_error(path: Path, answer: bytes, error: str) -> None:
    async def strange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    path.parent.mkdir()
    async with await asyncio.start_unix_server(strange, path):
        with pytest.raises(AgentError, match=error):
            await asked(path, {"command": "status"})


def test_the_socket_is_found_by_the_run_dir_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    assert socket_path(config, {}) == Path("/run/telemetry-agent/control.sock")
    config.write_text('[agent]\nrun_dir = "/a"\n[collect.no_such_thing]\nx = 1\n')
    assert socket_path(config, {}) == Path("/a/control.sock")
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "10.toml").write_text('[agent]\nrun_dir = "/b"\n')
    (tmp_path / "config.d" / "20.toml").write_text("this is [no TOML")
    assert socket_path(config, {}) == Path("/b/control.sock")
    assert socket_path(config, {"TELEMETRY_AGENT__AGENT__RUN_DIR": "/c"}) == Path("/c/control.sock")


def test_a_run_dir_that_names_a_variable_is_read_as_the_agent_reads_it(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[agent]\nrun_dir = "${HERE}/run"\n[process.redact]\nenabled = false\n')
    assert socket_path(config, {"HERE": "/x"}) == Path("/x/run/control.sock")


async def test_an_agent_that_hangs_up_while_it_is_asked_is_not_running(path: Path) -> None:
    def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    path.parent.mkdir()
    async with await asyncio.start_unix_server(reset, path):
        with pytest.raises(NotRunning, match="went away"):
            await asked(path, {"command": "status"})


async def test_what_is_refused_stands_in_the_audit_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "telemetry_agent.audit")
    async with serving(path):
        await raw(path, b'{"command": "rm -rf"}\n')
        await raw(path, b'{"command": "no such"}\n')
        await raw(path, b"GET / HTTP/1.1\n")
    said: list[Any] = [record for record in caplog.records if getattr(record, "audit", False)]
    found = [(each.context["reason"], each.context["requests"], each.context.get("command")) for each in said]
    assert found == [
        ("unknown_command", 1, "'rm -rf'"),
        ("unreadable_command", 1, None),
        ("unknown_command", 1, "'no such'"),
    ]
