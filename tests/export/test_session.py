"""A request that gets no answer, no connection or no trust becomes the right decision, and no secret is told."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trustme

from agent.errors import Hold, Retry
from agent.export.http_options import HttpDestinationOptions
from agent.export.proxy import proxy_of
from agent.export.session import MOST_ANSWER_BYTES, open_session
from tests.fakes import context
from tests.peers.loki import PUSH, answers, hang, open_receiver, redirect, reset

HEADERS = {"Content-Type": "text/plain"}


@asynccontextmanager
async def session(tmp_path, environ=None, **options):
    ctx = context(tmp_path, "loki")
    ctx = msgspec.structs.replace(ctx, host=replace(ctx.host, environ=environ or {}))
    async with open_session(HttpDestinationOptions(**options), ctx) as opened:
        yield opened


@asynccontextmanager
async def listening(handle, tls=None):
    """A server that answers with ``handle(reader, writer)``; gives its port."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def secret(tmp_path: Path, text: str, name: str = "secret") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def post(opened, url: str, body: bytes = b"x"):
    return await opened.post(url, body, HEADERS)


async def test_a_refused_connection_was_certainly_not_received(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        async with session(tmp_path) as opened:
            with pytest.raises(Retry) as caught:
                await post(opened, url)
    assert caught.value.reason == "unreachable"
    assert caught.value.answered is True
    assert caught.value.detail == f"{url.rstrip('/')}: Connection refused"


async def test_a_name_that_does_not_resolve_was_certainly_not_received(tmp_path, monkeypatch):
    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    async with session(tmp_path) as opened:
        with pytest.raises(Retry, match=r"unreachable: http://loki\.invalid: Name or service not known") as caught:
            await post(opened, "http://loki.invalid/")
    assert caught.value.answered is True


@pytest.mark.parametrize("scripted", [hang(), reset()])
async def test_no_answer_leaves_open_whether_it_was_received(tmp_path, scripted):
    async with open_receiver() as receiver, session(tmp_path, timeout_seconds=0.2) as opened:
        receiver.script(scripted)
        with pytest.raises(Retry) as caught:
            await post(opened, receiver.url + PUSH)
    assert caught.value.answered is False


async def test_a_redirect_is_not_followed(tmp_path):
    async with open_receiver() as receiver, session(tmp_path) as opened:
        receiver.script(redirect(receiver.url + PUSH))
        answer = await post(opened, receiver.url + PUSH)
        assert answer.status == 302
        assert len(receiver.requests) == 1


async def test_of_an_endless_answer_64_kib_are_read(tmp_path):
    async def endless(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 X\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async with listening(endless) as port, session(tmp_path) as opened:
        answer = await post(opened, f"http://127.0.0.1:{port}/")
        assert len(answer.body) == MOST_ANSWER_BYTES
        assert len(answer.text) <= 1024


@pytest.mark.parametrize(("status", "answered"), [(b"500", True), (b"200", False)])
async def test_half_a_success_is_no_answer_and_half_a_failure_is_one(tmp_path, status, answered):
    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b" X\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with listening(half) as port, session(tmp_path) as opened:
        if answered:
            assert (await post(opened, f"http://127.0.0.1:{port}/")).status == 500
        else:
            with pytest.raises(Retry) as caught:
                await post(opened, f"http://127.0.0.1:{port}/")
            assert caught.value.answered is False


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"user": "123", "password_file": "p"}, "Basic " + base64.b64encode(b"123:s3cret-value").decode()),
        ({"user": "123", "token_file": "p"}, "Basic " + base64.b64encode(b"123:s3cret-value").decode()),
        ({"token_file": "p"}, "Bearer s3cret-value"),
    ],
)
async def test_credentials_are_sent_as_configured(tmp_path, options, expected):
    path = secret(tmp_path, "s3cret-value\n")
    given = {name: path if value == "p" else value for name, value in options.items()}
    async with open_receiver() as receiver, session(tmp_path, **given) as opened:
        receiver.script(answers(204))
        await post(opened, receiver.url + PUSH)
        assert receiver.requests[-1].headers["Authorization"] == expected


async def test_a_systemd_credential_is_found(tmp_path):
    secret(tmp_path, "s3cret-value", "loki-token")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    async with open_receiver() as receiver, session(tmp_path, environ, token_file="%d/loki-token") as opened:
        receiver.script(answers(204))
        await post(opened, receiver.url + PUSH)
        assert receiver.requests[-1].headers["Authorization"] == "Bearer s3cret-value"


async def test_a_token_is_read_again_after_it_was_refused(tmp_path):
    path = secret(tmp_path, "old-token-value")
    async with open_receiver() as receiver, session(tmp_path, token_file=path) as opened:
        receiver.script(answers(401), answers(204))
        await post(opened, receiver.url + PUSH)
        secret(tmp_path, "new-token-value")
        await post(opened, receiver.url + PUSH)
        sent = [request.headers["Authorization"] for request in receiver.requests]
        assert sent == ["Bearer old-token-value", "Bearer new-token-value"]


async def test_a_token_that_was_rotated_meanwhile_is_tried_within_the_same_request(tmp_path):
    path = secret(tmp_path, "old-token-value")
    async with open_receiver() as receiver, session(tmp_path, token_file=path) as opened:
        receiver.script(answers(204), answers(401), answers(204), answers(401))
        await post(opened, receiver.url + PUSH)
        secret(tmp_path, "new-token-value")
        assert (await post(opened, receiver.url + PUSH)).status == 204
        sent = [request.headers["Authorization"] for request in receiver.requests]
        assert sent == ["Bearer old-token-value", "Bearer old-token-value", "Bearer new-token-value"]
        assert (await post(opened, receiver.url + PUSH)).status == 401
        assert len(receiver.requests) == 4, "the same secret is not sent twice"


async def test_a_missing_secret_holds_until_it_is_there(tmp_path):
    path = str(tmp_path / "secret")
    async with open_receiver() as receiver, session(tmp_path, token_file=path) as opened:
        with pytest.raises(Hold, match="no such file") as caught:
            await post(opened, receiver.url + PUSH)
        assert caught.value.reason == "secret_unreadable"
        secret(tmp_path, "token-value")
        receiver.script(answers(204))
        assert (await post(opened, receiver.url + PUSH)).status == 204


async def test_a_secret_of_two_lines_cannot_add_a_header(tmp_path):
    path = secret(tmp_path, "token-value\r\nX-Admin: yes\n")
    async with open_receiver() as receiver, session(tmp_path, token_file=path) as opened:
        with pytest.raises(Hold, match="only line") as caught:
            await post(opened, receiver.url + PUSH)
        assert "token-value" not in str(caught.value)
        assert not receiver.requests


@pytest.mark.parametrize("shown", ["s3cret-value", base64.b64encode(b"123:s3cret-value").decode(), "canary-header"])
async def test_a_server_that_quotes_secrets_does_not_make_us_tell_them(tmp_path, shown):
    options = {"user": "123", "password_file": secret(tmp_path, "s3cret-value"), "headers": {"X-Key": "canary-header"}}
    async with open_receiver() as receiver, session(tmp_path, **options) as opened:
        receiver.script(answers(500, f"you sent {shown}"))
        answer = await post(opened, receiver.url + PUSH)
        assert "[REDACTED]" in answer.text
        assert shown not in answer.text


async def test_a_server_of_ones_own_authority_is_trusted(tmp_path, authority, ca_file):
    async with open_receiver(tls=server_tls(authority)) as receiver, session(tmp_path, ca_file=ca_file) as opened:
        receiver.script(answers(204))
        assert (await post(opened, f"https://127.0.0.1:{receiver.port}{PUSH}")).status == 204


async def test_a_server_nobody_vouches_for_is_held(tmp_path, authority):
    async with open_receiver(tls=server_tls(authority)) as receiver, session(tmp_path) as opened:
        with pytest.raises(Hold, match="set ca_file") as caught:
            await post(opened, f"https://127.0.0.1:{receiver.port}{PUSH}")
        assert caught.value.reason == "certificate_not_trusted"


async def test_an_authority_is_read_again_after_it_was_not_enough(tmp_path, authority, ca_file):
    path = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(path)
    async with open_receiver(tls=server_tls(authority)) as receiver, session(tmp_path, ca_file=str(path)) as opened:
        url = f"https://127.0.0.1:{receiver.port}{PUSH}"
        with pytest.raises(Hold, match="set ca_file"):
            await post(opened, url)
        path.write_bytes(Path(ca_file).read_bytes())
        receiver.script(answers(204))
        assert (await post(opened, url)).status == 204


async def test_a_certificate_may_be_a_systemd_credential(tmp_path, authority, ca_file):
    Path(ca_file).rename(tmp_path / "authority")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    async with open_receiver(tls=server_tls(authority)) as receiver:
        url = f"https://127.0.0.1:{receiver.port}{PUSH}"
        receiver.script(answers(204))
        async with session(tmp_path, environ, ca_file="%d/authority") as opened:
            assert (await post(opened, url)).status == 204
        async with session(tmp_path, ca_file="%d/authority") as opened:
            with pytest.raises(Hold, match="CREDENTIALS_DIRECTORY"):
                await post(opened, url)


async def test_a_client_certificate_is_shown(tmp_path, authority, ca_file):
    tls = server_tls(authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    pair = authority.issue_cert("client.example")
    pair.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    async with open_receiver(tls=tls) as receiver:
        url = f"https://127.0.0.1:{receiver.port}{PUSH}"
        async with session(tmp_path, ca_file=ca_file, cert_file=str(tmp_path / "client.pem")) as opened:
            receiver.script(answers(204))
            assert (await post(opened, url)).status == 204
        async with session(tmp_path, ca_file=ca_file) as without:
            with pytest.raises(Retry):
                await post(without, url)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_certificate_files_that_cannot_be_used_hold_and_are_named(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    async with session(tmp_path, ca_file=str(path)) as opened:
        with pytest.raises(Hold, match="PEM") as caught:
            await post(opened, "https://127.0.0.1:1/")
    assert caught.value.reason == "certificate_unreadable"
    assert str(path) in caught.value.detail


async def test_a_proxy_from_the_environment_gets_the_request_and_its_password(tmp_path):
    asked: list[bytes] = []

    async def proxy(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    async with listening(proxy) as port:
        environ = {"http_proxy": f"http://me:pass%40word@127.0.0.1:{port}"}
        async with session(tmp_path, environ) as opened:
            assert (await post(opened, "http://loki.example/push")).status == 204
    assert asked[0].startswith(b"POST http://loki.example/push HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:pass@word") in asked[0]


@pytest.mark.parametrize(("status", "kind", "reason"), [(407, Hold, "proxy_refused"), (502, Retry, "proxy_failed")])
async def test_a_proxy_that_refuses_the_tunnel_did_not_pass_it_on(tmp_path, status, kind, reason):
    async def proxy(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    async with listening(proxy) as port, session(tmp_path, {"HTTPS_PROXY": f"127.0.0.1:{port}"}) as opened:
        with pytest.raises(kind) as caught:
            await post(opened, "https://loki.example/push")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "given", ["socks5://me:secret-word@127.0.0.1:1080", "http://[::1", "http://x:99999", "http://"]
)
async def test_a_proxy_of_another_kind_is_held_and_its_password_not_told(tmp_path, given):
    async with session(tmp_path, {"all_proxy": given}) as opened:
        with pytest.raises(Hold, match="no_proxy") as caught:
            await post(opened, "http://loki.example/push")
    assert caught.value.reason == "proxy_unusable"
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "no_proxy", "through"),
    [
        ("http://loki.example/x", "", True),
        ("http://localhost:3100/x", "", False),
        ("http://127.0.0.1:3100/x", "", False),
        ("http://loki.example/x", "example", False),
        ("http://loki.example/x", ".example", False),
        ("http://loki.example/x", "*.example", False),
        ("http://loki.example/x", "other, loki.example:80", True),
        ("http://loki.example:80/x", "other, loki.example:80", False),
        ("http://badloki.example/x", "loki.example", True),
        ("http://10.1.2.3/x", "10.0.0.0/8", False),
        ("http://loki.example/x", "10.0.0.0/8", True),
        ("http://loki.example/x", "*", False),
    ],
)
def test_no_proxy_is_read_as_others_read_it(url, no_proxy, through):
    found = proxy_of(url, {"http_proxy": "proxy:3128", "NO_PROXY": no_proxy})
    assert (found is not None) is through
    assert found is None or found.url == "http://proxy:3128"


async def test_the_loop_never_resolves_names_on_threads_that_outlive_us(tmp_path, monkeypatch):
    asked: list[str] = []
    real = socket.getaddrinfo

    def noted(host, *rest, **more):
        asked.append(host.decode())
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    async with open_receiver() as receiver, session(tmp_path) as opened:
        receiver.script(answers(204), answers(204))
        url = f"http://loki.example:{receiver.port}{PUSH}"
        await asyncio.gather(post(opened, url), post(opened, url))
    assert asked == ["loki.example"]
    assert getattr(asyncio.get_running_loop(), "_default_executor", None) is None
