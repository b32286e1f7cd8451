"""The endpoint of a real agent under whatever knocks at it, and a real Prometheus that scrapes it.

After each of these the agent answers as before, has let go of every descriptor, and ends in good order.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import trustme
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from agent.ownmetrics import Meter
from agent.serve.endpoint import Endpoint, open_endpoint
from agent.serve.options import ServeOptions
from agent.serve.routes import Request, Response, json_response
from tests.agent_process import AgentProcess, running, written
from tests.fakes import FakeClock, settle
from tests.peers.prometheus import Prometheus, needs_prometheus

WITHIN_SECONDS = 30.0
HOST = "[collect.host]\n"
TOKEN = "a-token-of-the-endpoint"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send a reset."""


@contextmanager
def serving(tmp_path: Path, serve: str = "", body: str = HOST) -> Iterator[Visited]:
    """An agent that has answered once; what it holds is let go of at the end."""
    with running(written(tmp_path, body, serve=serve)) as agent:
        here = Visited(agent)
        here.get("/metrics")
        yield here
        here.must_be_as_before()


class Visited:
    """A running agent, seen from the client's side."""

    def __init__(self, agent: AgentProcess) -> None:
        self.agent = agent
        self.url = agent.endpoint()
        self.address = ("127.0.0.1", int(self.url.rpartition(":")[2]))
        self._files = self.files()

    def get(self, path: str, **headers: str) -> bytes:
        asked = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(asked, timeout=WITHIN_SECONDS) as answer:
            body: bytes = answer.read()
            return body

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, WITHIN_SECONDS)

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.agent.pid}/fd"))

    def anonymous_bytes(self) -> int:
        status = Path(f"/proc/{self.agent.pid}/status").read_text()
        return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", status)[0])

    def refused(self, reason: str) -> float:
        found = re.findall(rf'serve_refused_total{{reason="{reason}"}} (\d+)', self.get("/metrics").decode())
        return float(found[0]) if found else 0.0

    def must_be_as_before(self) -> None:
        wait_until(lambda: self.files() <= self._files, "its descriptors are let go of")
        assert json.loads(self.get("/health/live"))["status"] in ("ok", "degraded")
        assert "Traceback" not in self.agent.stderr()


def wait_until(reached: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def answer(connection: socket.socket, request: bytes) -> bytes:
    """Everything that is sent back until the endpoint closes."""
    connection.sendall(request)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def close(connections: list[socket.socket]) -> None:
    for each in connections:
        each.close()


# Many


def test_a_thousand_connections_are_answered_and_the_one_too_many_is_closed(tmp_path: Path) -> None:
    with serving(tmp_path, "max_connections = 1000") as here:
        crowd = [here.connect() for _ in range(1000)]
        for request in (
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            for each in crowd:
                each.sendall(request)
            assert {each.recv(65536)[:15] for each in crowd} == {b"HTTP/1.1 200 OK"}
        with here.connect() as one_more:
            assert answer(one_more, b"") == b""
        close(crowd)
        wait_until(lambda: here.files() < 100, "the crowd has gone")
        assert here.refused("too_many") == 1


def test_two_thousand_that_connect_and_reset_leave_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as here:
        before = here.anonymous_bytes()
        for number in range(2000):
            with here.connect() as each:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                if number % 2:
                    each.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        here.must_be_as_before()
        assert here.anonymous_bytes() - before < 16 << 20


def test_hundreds_of_half_requests_do_not_delay_a_whole_one_and_are_closed(tmp_path: Path) -> None:
    with serving(tmp_path, "idle_seconds = 1") as here:
        slow = [here.connect() for _ in range(300)]
        for each in slow:
            each.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert here.get("/health/live")
        for each in slow:
            with contextlib.suppress(OSError):  # closed meanwhile
                each.sendall(b"x")
        assert {answer(each, b"") for each in slow} <= {b"", b"HTTP/1.1 400"}
        close(slow)


# Odd


ODD = {
    "a hundred requests in one packet": (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 100, b"HTTP/1.1 200", 100),
    "HEAD and GET in one packet": (
        b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200", 2
    ),
    "HTTP/1.0": (b"GET /metrics HTTP/1.0\r\n\r\n", b"HTTP/1.1 200", 1),
    "HTTP/0.9": (b"GET /metrics\r\n\r\n", b"HTTP/1.1 400", 1),
    "a range": (b"GET /metrics HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\n\r\n", b"HTTP/1.1 200", 1),
    "no host": (b"GET /livez HTTP/1.1\r\nAccept: */*\r\n\r\n", b"HTTP/1.1 400", 1),
    "an absurd Accept": (
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: " + b"a/b;q=0.1," * 800 + b"\r\n\r\n", b"HTTP/1.1 200", 1
    ),
    "an Accept of commas, and another": (
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + (b"Accept: " + b"," * 5000 + b"\r\n") * 3 + b"\r\n",
        b"HTTP/1.1 200", 1
    ),
    "weights that are none": (
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=nan, gzip;q=, *;q=-inf, br;q=1e999\r\n\r\n",
        b"HTTP/1.1 200", 1
    ),
    "a query of garbage": (
        b"GET /metrics?&&=&a=%zz&%ff=%00&format[]=;;&" + b"a=b&" * 1000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HTTP/1.1 200", 1
    ),
    "a bad authority": (b"GET http://[::1/livez HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400", 1),
    "a bad port": (b"GET http://x:99999/livez HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400", 1),
    "a bad host": (b"GET /livez HTTP/1.1\r\nHost: [[[:\r\n\r\n", b"HTTP/1.1 200", 1),
    "a body nobody asked for": (
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HTTP/1.1 200", 2
    ),
    "chunks without an end": (
        b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"HTTP/1.1 200", 1
    ),
    "a packed body that is none": (
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 405", 1
    ),
    "waiting for leave to send": (
        b"POST /livez HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", b"HTTP/1.1 405", 1
    ),
    "another expectation": (b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", b"HTTP/1.1 200", 1),
    "another protocol": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 400", 1),
}  # fmt: skip


def test_every_odd_request_gets_its_answer_and_none_a_failure(tmp_path: Path) -> None:
    with serving(tmp_path, "idle_seconds = 0.5") as here:
        for what, (request, begins, count) in ODD.items():
            with here.connect() as connection:
                found = answer(connection, request)
            assert found.startswith(begins), (what, found[:300])
            assert found.count(b"\r\nContent-Length: ") == count, (what, found[:300])
            assert b" 500 " not in found, what
        assert here.get("/livez")


def test_a_client_that_asks_for_the_end_is_given_it_after_the_answer(tmp_path: Path) -> None:
    with serving(tmp_path) as here, here.connect() as connection:
        found = answer(connection, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 200")
        assert found.endswith(b"}\n")


def test_no_list_of_preferences_takes_long(tmp_path: Path) -> None:
    absurd = ",".join(f"a/{number};q=0.{number}" for number in range(500))
    with serving(tmp_path) as here:
        assert here.get("/metrics", Accept=absurd, **{"Accept-Encoding": absurd}).startswith(b"# HELP")
        assert here.get("/metrics", Accept="application/openmetrics-text, " + absurd).endswith(b"# EOF\n")


# The bound on connections, with and without TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return folder


def tls(certificate: Path) -> str:
    return f'cert_file = "{certificate}/cert.pem"\nkey_file = "{certificate}/key.pem"'


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[tuple[Endpoint, Meter]]:
    async def ok(_: Request) -> Response:
        return json_response({})

    meter, serve = Meter(), ServeOptions(listen="127.0.0.1:0", **options)
    async with open_endpoint(serve, {"/livez": ok}, clock=FakeClock(), meter=meter) as endpoint:
        yield endpoint, meter


async def closed(connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    for _, writer in connections:
        writer.transport.abort()
    await settle()


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_burst_of_connections_does_not_get_past_the_bound(with_tls: bool, certificate: Path) -> None:
    files = {"cert_file": f"{certificate}/cert.pem", "key_file": f"{certificate}/key.pem"} if with_tls else {}
    async with opened(max_connections=20, **files) as (endpoint, meter):
        # None of them says a word, so that with TLS none has shaken hands.
        burst = [await asyncio.open_connection(*endpoint.addresses[0]) for _ in range(100)]
        ends = [asyncio.ensure_future(reader.read()) for reader, _ in burst]
        while sum(end.done() for end in ends) < 80:
            await asyncio.wait([end for end in ends if not end.done()], return_when=asyncio.FIRST_COMPLETED)
        await settle()
        assert sum(end.done() for end in ends) == 80
        assert meter.value("telemetry_agent_serve_refused_total", ("too_many",)) == 80
        await closed(burst)
        await asyncio.gather(*ends, return_exceptions=True)
        context = ssl.create_default_context(cafile=str(certificate / "ca.pem")) if with_tls else None
        for _ in range(30):  # their places are free again
            reader, writer = await asyncio.open_connection(*endpoint.addresses[0], ssl=context)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_leaving_does_not_wait_for_a_client_that_does_not_shake_hands(certificate: Path) -> None:
    files = {"cert_file": f"{certificate}/cert.pem", "key_file": f"{certificate}/key.pem"}
    async with opened(**files) as (endpoint, _):
        reader, writer = await asyncio.open_connection(*endpoint.addresses[0])
        await settle()
    assert await reader.read() == b""
    await closed([(reader, writer)])


def test_garbage_for_a_handshake_hurts_nobody(tmp_path: Path, certificate: Path) -> None:
    config = written(tmp_path, HOST, serve=tls(certificate) + f'\ntoken_file = "{tmp_path}/token"\nidle_seconds = 1')
    (tmp_path / "token").write_text(TOKEN)
    context = ssl.create_default_context(cafile=str(certificate / "ca.pem"))
    with running(config) as agent:
        address = ("127.0.0.1", int(agent.endpoint().rpartition(":")[2]))
        before = len(os.listdir(f"/proc/{agent.pid}/fd"))
        for number in range(300):
            with socket.create_connection(address, WITHIN_SECONDS) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.sendall((b"\x16\x03\x01\x40\x00", os.urandom(300), b"GET / HTTP/1.1\r\n\r\n")[number % 3])
        silent = [socket.create_connection(address, WITHIN_SECONDS) for _ in range(50)]
        for token, status in ((TOKEN, 200), ("wrong", 401), ("", 401)):
            headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
            asked = urllib.request.Request(agent.endpoint() + "/metrics", headers=headers)
            try:
                with urllib.request.urlopen(asked, timeout=WITHIN_SECONDS, context=context) as response:
                    assert b"node_load1 " in gzip.decompress(response.read())
                    assert status == 200
            except HTTPError as error:
                assert error.code == status  # noqa: PT017 - the other half of the same assertion
        assert {answer(each, b"") for each in silent} == {b""}
        close(silent)
        wait_until(lambda: len(os.listdir(f"/proc/{agent.pid}/fd")) <= before, "its descriptors are let go of")
    assert "Traceback" not in agent.stderr()
    assert TOKEN not in agent.stderr()


# Real readers


def test_openmetrics_own_parser_reads_everything_the_host_says(tmp_path: Path) -> None:
    with serving(tmp_path) as here:
        text = here.get("/metrics", Accept="application/openmetrics-text").decode()
    found = {family.name: family for family in openmetrics_families(text)}
    assert found["node_load1"].samples
    assert found["telemetry_agent_build_info"].samples


def test_promtool_finds_no_fault_but_the_names_that_node_exporter_chose(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    with serving(tmp_path) as here:
        text = here.get("/metrics")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert checked.stdout == b""
    for line in checked.stderr.decode().splitlines():
        assert re.fullmatch(r"node_\w+ (metric names should be written in 'snake_case'.*|use base unit .*)", line), line


@needs_prometheus
def test_a_real_prometheus_scrapes_over_tls_with_a_token(tmp_path: Path, certificate: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "token").write_text(TOKEN)
    serve = tls(certificate) + f'\ntoken_file = "{tmp_path}/token"'
    with running(written(tmp_path / "agent", HOST, serve=serve)) as agent:
        server = Prometheus(tmp_path)
        (tmp_path / "prometheus.yml").write_text(
            SCRAPE.format(folder=tmp_path, ca=certificate, url=agent.endpoint()[8:])
        )
        server.start()
        try:
            wait_until(lambda: len(_scraped(server, "up == 1")) == 1, "it is up")
            [samples] = _scraped(server, "scrape_samples_scraped").values()
            [load] = _scraped(server, "node_load1").values()
            [target] = server.ask("targets")["activeTargets"]
        finally:
            server.kill()
    assert float(samples) > 300
    assert float(load) >= 0
    assert target["lastError"] == ""
    assert "level=warn" not in (tmp_path / "prometheus.log").read_text()


def _scraped(server: Prometheus, query: str) -> dict[Any, str]:
    return server.instant(query, time.time())


SCRAPE = """
scrape_configs:
  - job_name: agent
    scheme: https
    scrape_interval: 1s
    authorization:
      credentials_file: {folder}/token
    tls_config:
      ca_file: {ca}/ca.pem
    static_configs:
      - targets: ["{url}"]
"""
