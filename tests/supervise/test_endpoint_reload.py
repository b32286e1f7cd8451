"""The endpoint through a reload, and on a socket that the service manager holds."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from pathlib import Path

import pytest

from agent.collect.syslog import listening as syslog_listening
from agent.supervise import endpoint, handed
from agent.supervise.handed import handed_over
from tests.agent_process import AgentProcess, running, started, written

HANDING = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="metrics")
os.execv(sys.argv[1], sys.argv[1:])
"""


def status_of(agent: AgentProcess, path: str = "/health/live", token: str | None = None) -> int:
    host = agent.endpoint().removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    finally:
        connection.close()


def test_another_token_holds_on_the_same_port_and_nobody_is_refused_meanwhile(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sesame-sesame\n")
    with running(written(tmp_path, "")) as agent:
        url = agent.endpoint()
        address = url.removeprefix("http://").split(":")
        assert status_of(agent) == 200
        with socket.create_connection((address[0], int(address[1]))) as waiting:
            agent.config.write_text(agent.config.read_text().replace("[serve]", f'[serve]\ntoken_file = "{token}"'))
            done = agent.command("reload")
            assert (done.returncode, done.stdout) == (0, "[serve] changed\n")
            waiting.close()
        assert agent.endpoint() == url
        assert status_of(agent) == 401
        assert status_of(agent, token="sesame-sesame") == 200


def test_a_token_that_was_replaced_in_its_file_holds_after_a_reload(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sesame-sesame\n")
    with running(written(tmp_path, "", serve=f'token_file = "{token}"')) as agent:
        assert status_of(agent, token="sesame-sesame") == 200
        token.write_text("another-another\n")
        done = agent.command("reload")
        assert (done.returncode, done.stdout) == (0, "[serve] secrets read again\n")
        assert status_of(agent, token="sesame-sesame") == 401
        assert status_of(agent, token="another-another") == 200
        token.unlink()
        refused = agent.command("reload")
        assert refused.returncode == 1
        assert f"[serve] token_file: {token}" in refused.stderr
        assert status_of(agent, token="another-another") == 200


def test_an_address_that_cannot_be_had_is_refused_and_the_old_one_goes_on(tmp_path: Path) -> None:
    with running(written(tmp_path, "")) as agent, socket.create_server(("127.0.0.1", 0)) as taken:
        url = agent.endpoint()
        text = agent.config.read_text()
        port = taken.getsockname()[1]
        agent.config.write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{port}") + "[export.console]\n")
        refused = agent.command("reload")
        assert refused.returncode == 1
        assert f"127.0.0.1:{port}" in refused.stderr
        assert "another program has this port" in refused.stderr
        assert (agent.endpoint(), status_of(agent)) == (url, 200)
        assert agent.status()["lanes"] == []


def test_the_endpoint_answers_on_the_socket_that_is_handed_over(tmp_path: Path) -> None:
    config = written(tmp_path, "")
    config.write_text(config.read_text().replace("127.0.0.1:0", "127.0.0.1:1"))
    with started(config, None, sys.executable, "-c", HANDING) as agent:
        agent.wait_ready()
        assert not agent.endpoint().endswith(":1")
        assert status_of(agent) == 200
        assert agent.stop() == 0


def test_sockets_for_another_process_are_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "metrics"}
    assert handed_over(environ) == {}
    assert handed_over({}) == {}
    assert handed_over({**environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"}) == {}


@pytest.mark.parametrize(
    ("name", "made", "why"),
    [
        ("metrics", (socket.AF_INET, socket.SOCK_DGRAM), "give ListenStream= with a port and no Accept=yes"),
        ("metrics", (socket.AF_INET, socket.SOCK_STREAM), "give ListenStream= with a port and no Accept=yes"),
        ("metrics", (socket.AF_UNIX, socket.SOCK_STREAM), "give ListenStream= with a port and no Accept=yes"),
        ("syslog", (socket.AF_INET, socket.SOCK_DGRAM), "give ListenDatagram= with a path"),
        ("telemetry-agent.socket", (socket.AF_INET, socket.SOCK_STREAM), "set FileDescriptorName= in the socket unit"),
    ],
)
def test_a_socket_that_is_not_what_its_name_says_is_not_used_and_said(
    name: str, made: tuple[int, int], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles: list[str] = []
    descriptor = socket.socket(*made).detach()
    monkeypatch.setattr(handed, "FIRST_DESCRIPTOR", descriptor)
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": name}
    assert handed_over(environ, 7, troubles) == {}
    assert troubles[0].startswith(
        f"descriptor {descriptor} ({name}), which the service manager handed over, is not used"
    )
    assert why in troubles[0]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_descriptor_that_is_no_socket_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[str] = []
    with open(os.devnull) as file:
        monkeypatch.setattr(handed, "FIRST_DESCRIPTOR", file.fileno())
        assert handed_over({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7, troubles) == {}
        assert "is no socket and is left alone" in troubles[0]


def test_an_agent_that_is_handed_something_odd_says_so_and_listens_where_it_is_configured_to(tmp_path: Path) -> None:
    odd = HANDING.replace('socket.create_server(("127.0.0.1", 0))', "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
    with started(written(tmp_path, ""), None, sys.executable, "-c", odd) as agent:
        agent.wait_ready()
        assert status_of(agent) == 200
        assert "descriptor 3 (metrics), which the service manager handed over, is not used" in agent.stderr()
        assert agent.stop() == 0


def test_every_name_that_a_part_of_the_agent_asks_for_is_known() -> None:
    assert {*syslog_listening.HANDED.values(), endpoint.HANDED} == {*handed.KINDS}
