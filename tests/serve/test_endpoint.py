"""The local endpoint, over real sockets, with a real client and with whatever else may knock."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from aiohttp import ClientError, ClientSession, TCPConnector

from agent.http.tls import tls_context
from agent.ownmetrics import Meter
from agent.serve.endpoint import Endpoint, EndpointError, open_endpoint
from agent.serve.options import ServeOptions
from agent.serve.routes import Request, Response, accepts_gzip, json_response, text_response
from tests.fakes import FakeClock

BIG = b"telemetry_agent_x 1\n" * 1000


async def slow(_: Request) -> Response:
    await asyncio.sleep(0)
    return json_response({"slow": True})


def broken(_: Request) -> Response:
    raise RuntimeError("inside")


def echo(request: Request) -> Response:
    return text_response("text") if request.wants_text else json_response({"path": request.path})


ROUTES = {
    "/metrics": lambda _: Response(200, BIG, "text/plain; version=0.0.4"),
    "/metrics.json": lambda _: Response(200, BIG, headers={"Vary": "Accept, Accept-Encoding"}),
    "/status": slow,
    "/broken": broken,
    "/health/live": echo,
    "/health/ready": lambda _: json_response({"status": "failed"}, 503),
}


class Served:
    def __init__(self, endpoint: Endpoint, meter: Meter, session: ClientSession) -> None:
        self.endpoint = endpoint
        self.meter = meter
        self.session = session
        self.host, self.port = endpoint.addresses[0]

    async def get(self, path: str, **options: Any) -> tuple[int, bytes, Any]:
        async with self.session.request(options.pop("method", "GET"), self.endpoint.url + path, **options) as response:
            return response.status, await response.read(), response.headers

    async def raw(self, data: bytes) -> bytes:
        """Everything answered to ``data`` until the endpoint closes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    def counted(self) -> dict[tuple[str, ...], float]:
        return self.meter.numbers("telemetry_agent_serve_requests_total")


@asynccontextmanager
async def served(token: str | None = None, environ: Any = None, **options: Any) -> AsyncIterator[Served]:
    meter = Meter()
    serve = ServeOptions(**({"listen": "127.0.0.1:0"} | options))
    async with (
        open_endpoint(serve, ROUTES, clock=FakeClock(), meter=meter, token=token, environ=environ) as endpoint,
        ClientSession(connector=TCPConnector(limit=0, ssl=False)) as session,
    ):
        yield Served(endpoint, meter, session)


async def test_handlers_may_be_functions_or_coroutines() -> None:
    async with served() as here:
        status, body, headers = await here.get("/status")
        assert (status, json.loads(body)) == (200, {"slow": True})
        assert headers["Content-Type"] == "application/json"
        assert headers["Cache-Control"] == "no-store"
        assert (await here.get("/health/live"))[0] == 200
        assert (await here.get("/health/ready"))[0] == 503


async def test_the_port_the_kernel_chose_is_told() -> None:
    async with served() as here:
        assert here.port > 0
        assert here.endpoint.url == f"http://127.0.0.1:{here.port}"
    assert Endpoint((("::1", 1),), "https").url == "https://[::1]:1"


@pytest.mark.parametrize(
    ("alias", "path"),
    [("/livez", "/health/live"), ("/readyz", "/health/ready"), ("/healthz", "/health/live")],
)
async def test_the_names_that_kubernetes_uses_work_too(alias: str, path: str) -> None:
    async with served() as here:
        assert (await here.get(alias))[0] == (await here.get(path))[0]


async def test_text_is_given_where_it_is_asked_for() -> None:
    async with served() as here:
        assert (await here.get("/health/live?format=text"))[1] == b"text"
        assert (await here.get("/health/live?format=json"))[1] == b'{"path":"/health/live"}\n'


async def test_head_has_the_headers_and_no_body() -> None:
    async with served() as here:
        status, body, headers = await here.get("/metrics", method="HEAD", headers={"Accept-Encoding": "identity"})
        assert (status, body) == (200, b"")
        assert headers["Content-Length"] == str(len(BIG))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_no_other_method_is_answered(method: str) -> None:
    async with served() as here:
        status, body, headers = await here.get("/status", method=method)
        assert status == 405
        assert headers["Allow"] == "GET, HEAD"
        assert b"GET and HEAD" in body


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/metric", "/metrics"),
        ("/metrics/", "/metrics"),
        ("/health/liv", "/health/live"),
        ("/../etc/passwd", ""),
        ("//", ""),
    ],
)
async def test_an_unknown_path_is_404_and_names_what_was_meant(path: str, hint: str) -> None:
    async with served() as here:
        status, body, headers = await here.get(path)
        assert status == 404
        assert headers["Content-Type"] == "application/json"
        assert hint in json.loads(body)["error"]
        assert here.counted() == {("other", "404"): 1}


async def test_a_handler_that_raises_is_500_for_its_path_alone() -> None:
    async with served() as here:
        status, body, _ = await here.get("/broken")
        assert (status, json.loads(body)) == (500, {"error": "RuntimeError; the agent's own log says more"})
        assert (await here.get("/status"))[0] == 200


async def test_requests_are_counted_by_known_path_and_answer() -> None:
    async with served() as here:
        for path in ("/metrics", "/metrics", "/nothing", "/else", "/livez"):
            await here.get(path)
        assert here.counted() == {("/metrics", "200"): 2, ("other", "404"): 2, ("/livez", "200"): 1}
        assert set(here.meter.distributions("telemetry_agent_serve_duration_seconds")) == {
            ("/metrics",), ("other",), ("/livez",)
        }  # fmt: skip


@pytest.mark.parametrize(
    ("header", "status"),
    [("Bearer right-token", 200), ("bearer right-token", 200), ("Bearer wrong", 401), ("Basic right-token", 401),
     ("Bearer ", 401), ("Bearer right-token2", 401), ("right-token", 401), ("Bearer \xfcber", 401), (None, 401)],
)  # fmt: skip
async def test_a_token_opens_every_path_and_nothing_else_does(header: str | None, status: int) -> None:
    async with served(token="right-token") as here:
        headers = {} if header is None else {"Authorization": header}
        for path in ("/metrics", "/livez"):
            found, body, answered = await here.get(path, headers=headers)
            assert found == status
            if status == 401:
                assert answered["WWW-Authenticate"].startswith("Bearer")
                assert b"[serve] token_file" in body
                assert b"right-token" not in body
        assert (await here.get("/nothing", headers=headers))[0] == (404 if status == 200 else 401)


async def test_a_large_answer_is_packed_for_those_who_take_it() -> None:
    async with served() as here:
        url = here.endpoint.url + "/metrics"
        async with here.session.get(url, headers={"Accept-Encoding": "gzip"}, auto_decompress=False) as response:
            packed = await response.read()
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Vary"] == "Accept-Encoding"
        assert (await here.get("/metrics.json"))[2]["Vary"] == "Accept, Accept-Encoding"
        assert gzip.decompress(packed) == BIG
        assert len(packed) < len(BIG) / 10
        async with here.session.get(url, headers={"Accept-Encoding": "gzip;q=0"}) as response:
            assert "Content-Encoding" not in response.headers
            assert await response.read() == BIG


@pytest.mark.parametrize(
    ("header", "expected"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("*", True), ("", False), ("identity", False), ("gzip;q=0", False),
     ("gzip; q=0.00", False), ("*;q=0", False), ("gzip;q=0, *", False), ("gzip;q=0.01", True), ("xgzip", False)],
)  # fmt: skip
def test_gzip_is_used_only_where_it_is_accepted(header: str, expected: bool) -> None:
    assert accepts_gzip(header) is expected


async def test_two_hundred_clients_at_once_are_all_answered() -> None:
    async with served() as here:
        answers = await asyncio.gather(*(here.get("/metrics") for _ in range(200)))
        assert {status for status, _, _ in answers} == {200}
        assert here.counted() == {("/metrics", "200"): 200}


async def test_a_connection_too_many_is_closed_and_counted_and_its_place_is_taken_again() -> None:
    async with served(max_connections=2) as here:
        held = [await asyncio.open_connection(here.host, here.port) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"}\n")
        assert await here.raw(b"") == b""
        assert here.meter.value("telemetry_agent_serve_refused_total", ("too_many",)) == 1
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        assert b" 200 " in await here.raw(b"GET /status HTTP/1.0\r\n\r\n")


GARBAGE = {
    "nothing of HTTP": b"\x00\x01\x02\xff" * 100 + b"\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",
    "a huge header": b"GET /status HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "a huge path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many headers": b"GET /status HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "two lengths": b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a smuggled request": b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a negative length": b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "an old version": b"GET /status HTTP/9.9\r\nHost: x\r\n\r\n",
    "a header with a line break": b"GET /status HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_is_refused_and_hurts_nobody(what: str, caplog: pytest.LogCaptureFixture) -> None:
    async with served() as here:
        for _ in range(3):
            answer = await here.raw(GARBAGE[what])
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), answer[:200]
        assert here.counted() == {("other", "400"): 3}
        assert (await here.get("/status"))[0] == 200
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    "data",
    [b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET http://other/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
     b"GET /%00%ff%2e%2e/status?%ff=%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
     b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc",
     b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"],
)  # fmt: skip
async def test_odd_requests_get_an_answer_and_hurt_nobody(data: bytes) -> None:
    async with served() as here:
        assert (await here.raw(data)).startswith(b"HTTP/1.1 ")
        assert (await here.get("/status"))[0] == 200


async def test_a_client_that_never_finishes_its_request_is_closed() -> None:
    async with served(idle_seconds=0.2) as here:
        assert await here.raw(b"") == b""
        assert await here.raw(b"GET /status HTTP/1.1\r\nHost: ") == b""


async def test_a_client_that_does_not_take_its_answers_is_closed() -> None:
    async with served(idle_seconds=0.2) as here:
        _, writer = await asyncio.open_connection(here.host, here.port, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
        while not here.meter.value("telemetry_agent_serve_refused_total", ("not_taken",)):
            await asyncio.sleep(0.01)
        writer.transport.abort()
        assert (await here.get("/status"))[0] == 200


async def test_a_handler_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("agent.serve.endpoint.HANDLER_SECONDS", 0.05)
    monkeypatch.setitem(ROUTES, "/status", hang)
    async with served() as here:
        assert (await here.get("/status"))[0] == 503
        assert (await here.get("/livez"))[0] == 200


async def test_leaving_closes_idle_and_busy_connections() -> None:
    async with served() as here:
        reader, writer = await asyncio.open_connection(here.host, here.port)
        writer.write(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the machine
        await asyncio.open_connection(here.host, here.port)


async def test_a_port_in_use_is_an_error_with_the_next_step() -> None:
    async with served() as here:
        with pytest.raises(EndpointError, match=f"sport = :{here.port}' shows which"):
            async with served(listen=f"127.0.0.1:{here.port}"):
                raise AssertionError


async def test_an_address_of_another_machine_is_an_error_with_the_next_step() -> None:
    with pytest.raises(EndpointError, match=r"no such address|choose an address"):
        async with served(listen="203.0.113.1:0"):
            raise AssertionError


async def test_a_name_that_does_not_resolve_is_an_error_with_the_next_step() -> None:
    with pytest.raises(EndpointError, match="choose an address of this machine"):
        async with served(listen="no-such-host.invalid:0"):
            raise AssertionError


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def certificate(authority: trustme.CA, directory: Any) -> dict[str, str]:
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    issued.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return {"cert_file": str(directory / "cert.pem"), "key_file": "%d/key.pem"}


async def test_with_a_certificate_it_speaks_tls_and_only_tls(authority: trustme.CA, tmp_path: Any) -> None:
    files = certificate(authority, tmp_path)
    trusting = tls_context(str(tmp_path / "ca.pem"))
    async with served(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}, **files) as here:
        assert here.endpoint.url.startswith("https://")
        assert (await here.get("/status", ssl=trusting))[0] == 200
        assert b"200" not in await here.raw(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_clients_without_a_certificate_are_refused_where_one_is_asked_for(
    authority: trustme.CA, tmp_path: Any
) -> None:
    files = certificate(authority, tmp_path) | {"client_ca_file": str(tmp_path / "ca.pem")}
    own = str(tmp_path / "ca.pem"), files["cert_file"], str(tmp_path / "key.pem")
    async with served(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}, **files) as here:
        assert (await here.get("/status", ssl=tls_context(*own)))[0] == 200
        with pytest.raises(ClientError):
            await here.get("/status", ssl=tls_context(own[0]))


async def test_a_certificate_that_cannot_be_read_is_an_error_with_the_next_step(tmp_path: Any) -> None:
    with pytest.raises(EndpointError, match=r"cert_file .*nowhere.*give PEM files"):
        async with served(cert_file=str(tmp_path / "nowhere"), key_file=str(tmp_path / "nowhere")):
            raise AssertionError
    with pytest.raises(EndpointError, match="CREDENTIALS_DIRECTORY"):
        async with served(cert_file="%d/cert", key_file="%d/key"):
            raise AssertionError
