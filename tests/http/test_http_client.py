"""The client over real sockets: what goes over the wire, which connection it takes, what it makes of odd servers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from agent.http.addresses import Resolver
from agent.http.client import Client, NotConnectedError, ProxyRefusedError, Via, target_of
from agent.http.exchange import MOST_HEAD_BYTES, SLICE_BYTES, Connection, LostError, Reply, slices
from agent.http.tls import tls_context
from agent.worker import Worker

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send a reset."""


class Asking:
    """A client, and what is always the same in what it is asked."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def post(self, url: str, *pieces: bytes, proxy: Via | None = None, most_bytes: int = 1 << 16) -> Reply:
        return await self.client.request(
            "POST", url, {"X-Sent": "yes"}, pieces, proxy=proxy, most_bytes=most_bytes
        )  # fmt: skip


@asynccontextmanager
async def asking(tls: ssl.SSLContext | None = None, **seconds: float) -> AsyncIterator[Asking]:
    patience = {"within_seconds": 20.0, "connecting_seconds": 10.0, "idle_seconds": 50.0} | seconds
    with Worker("test-resolve") as worker:
        client = Client(Resolver(worker), tls, **patience)
        try:
            yield Asking(client)
        finally:
            await client.close()


class Serving:
    """A server that handles each connection in a task, and waits for all of them at its end."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self.connections = 0
        self.port = 0
        self.closed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.closed.set()


@asynccontextmanager
async def serving(handle: Handle, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Serving]:
    here = Serving(handle)
    server = await asyncio.start_server(here, host, 0, ssl=tls)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        await server.wait_closed()


async def request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    return head, await reader.readexactly(length)


def answering(*answers: bytes, seen: list[tuple[bytes, bytes]] | None = None) -> Handle:
    """Answers requests of one connection, one after the other."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            got = await request(reader)
            if seen is not None:
                seen.append(got)
            writer.write(answer)
            await writer.drain()
        assert await reader.read() == b""

    return handle


def patient(answer: bytes) -> Handle:
    """Answers every request of a connection in the same way."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(answer)

    return handle


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Any) -> ssl.SSLContext:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tls_context(str(tmp_path / "ca.pem"))


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(("h2", "http/1.1"))
    authority.issue_cert(*names).configure_cert(context)
    return context


# What is sent


async def test_a_request_is_what_rfc_9112_wants() -> None:
    seen: list[tuple[bytes, bytes]] = []
    async with serving(answering(NO_CONTENT, seen=seen)) as here, asking() as asked:
        await asked.post(here.url + "/a/b?c=d", b"one", b"", b"two")
    [(head, body)] = seen
    assert head == (
        b"POST /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Sent: yes\r\nContent-Length: 6\r\n\r\n" % here.port
    )
    assert body == b"onetwo"


async def test_a_body_of_many_megabytes_arrives_whole() -> None:
    pieces = [bytes([number]) * size for number, size in enumerate((3, 5 << 20, 0, 70_000, 65_536, 1, 1, 2 << 20))]
    seen: list[tuple[bytes, bytes]] = []
    async with serving(answering(NO_CONTENT, seen=seen)) as here, asking() as asked:
        await asked.post(here.url, *pieces)
    assert seen[0][1] == b"".join(pieces)


def test_large_pieces_are_cut_without_a_copy_and_small_ones_joined() -> None:
    large = bytes(200_000)
    parts = list(slices([b"head", b"small", large, b"x" * SLICE_BYTES, b"y", b""]))
    assert parts[0] == b"headsmall"
    cut = parts[1:5]
    assert all(isinstance(part, memoryview) and part.obj is large for part in cut)
    assert [len(part) for part in cut] == [65_536, 65_536, 65_536, 200_000 - 3 * 65_536]
    assert parts[5:] == [b"x" * SLICE_BYTES, b"y"]
    assert list(slices([])) == []


async def test_a_server_that_does_not_read_is_not_buffered_for() -> None:
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        begun.set()
        await go_on.wait()

    buffered: list[int] = []
    real = asyncio.selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]

    def noted(transport: Any, data: Any) -> None:
        real(transport, data)
        buffered.append(transport.get_write_buffer_size())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncio.selector_events._SelectorSocketTransport, "write", noted)
        async with serving(stuck) as here, asking(within_seconds=0.3) as asked:
            with pytest.raises(TimeoutError):
                await asked.post(here.url, bytes(32 << 20))
            assert begun.is_set()
            go_on.set()
    assert buffered
    assert max(buffered) <= 2 * SLICE_BYTES


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_server_that_reads_late_gets_every_byte(
    with_tls: bool, authority: trustme.CA, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = asyncio.Event()
    pauses: list[int] = []
    real = Connection.pause_writing

    def noted(connection: Connection) -> None:
        real(connection)
        pauses.append(1)
        crowded.set()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        await crowded.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        await answering(NO_CONTENT, seen=seen)(reader, writer)

    seen: list[tuple[bytes, bytes]] = []
    pieces = [bytes([number]) * 100_000 for number in range(200)]
    monkeypatch.setattr(Connection, "pause_writing", noted)
    async with (
        serving(late, server_tls(authority, "127.0.0.1") if with_tls else None) as here,
        asking(trusting) as asked,
    ):
        await asked.post(f"http{'s' * with_tls}://127.0.0.1:{here.port}/", *pieces)
    assert pauses
    assert seen[0][1] == b"".join(pieces)


async def test_a_connection_that_ends_while_there_is_no_room_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    crowded = asyncio.Event()
    monkeypatch.setattr(
        Connection, "pause_writing", lambda connection: (setattr(connection, "_crowded", True), crowded.set())
    )

    async def shut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        await crowded.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async with serving(shut) as here, asking(within_seconds=3600.0) as asked:
        with pytest.raises(ConnectionError):
            await asked.post(here.url, bytes(32 << 20))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host/", (False, "host", 80, "host", "/")),
        ("http://host", (False, "host", 80, "host", "/")),
        ("https://host:443/x", (True, "host", 443, "host", "/x")),
        ("https://host:80/x", (True, "host", 80, "host:80", "/x")),
        ("http://user:secret@host:81/x?y=z", (False, "host", 81, "host:81", "/x?y=z")),
        ("http://[::1]:3100/x", (False, "::1", 3100, "[::1]:3100", "/x")),
        ("https://[fe80::1%25eth0]/", (True, "fe80::1%25eth0", 443, "[fe80::1%25eth0]", "/")),
        ("http://HOST/a b/ü%20", (False, "host", 80, "host", "/a%20b/%C3%BC%20")),
        ("http://bücher.example/", (False, "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/")),
    ],
)
def test_a_url_is_taken_apart_and_its_user_left_out(url: str, expected: tuple[object, ...]) -> None:
    target = target_of(url)
    assert (target.encrypted, target.host, target.port, target.authority, target.path) == expected


async def test_an_ipv6_address_is_reached() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    seen: list[tuple[bytes, bytes]] = []
    async with serving(answering(NO_CONTENT, seen=seen), host="::1") as here, asking() as asked:
        assert (await asked.post(f"http://[::1]:{here.port}/")).status == 204
    assert b"\r\nHost: [::1]:%d\r\n" % here.port in seen[0][0]


@pytest.mark.parametrize("value", ["a\r\nX-Admin: yes", "a\nb", "a\0b"])
async def test_no_value_can_add_a_header(value: str) -> None:
    async with serving(answering()) as here, asking() as asked:
        with pytest.raises(Exception, match=r"[Ii]llegal header value"):
            await asked.client.request("POST", here.url, {"X": value}, (), most_bytes=1)
        assert here.connections == 0


# Which connection


async def test_requests_follow_each_other_over_one_connection() -> None:
    async with serving(answering(*[NO_CONTENT] * 5)) as here, asking() as asked:
        for _ in range(5):
            await asked.post(here.url, b"x")
        assert here.connections == 1


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    both = asyncio.Barrier(2)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        await both.wait()
        writer.write(NO_CONTENT)
        await reader.read()

    async with serving(handle) as here, asking() as asked:
        await asyncio.gather(asked.post(here.url, b"x"), asked.post(here.url, b"x"))
        assert here.connections == 2


async def test_a_connection_nobody_uses_is_closed_by_us() -> None:
    async with serving(answering(NO_CONTENT)) as here, asking(idle_seconds=0.01) as asked:
        await asked.post(here.url, b"x")
        await here.closed.wait()
        assert here.connections == 1


@pytest.mark.parametrize(
    ("said", "connections"),
    [(b"timeout=5, max=100", 1), (b"max=5,TIMEOUT = 60", 1), (b"timeout=1", 3), (b"timeout=0", 3), (b"timeout=x", 1)],
)
async def test_a_connection_is_not_used_when_the_server_is_about_to_close_it(said: bytes, connections: int) -> None:
    answer = b"HTTP/1.1 204 No Content\r\nKeep-Alive: " + said + b"\r\n\r\n"
    async with serving(patient(answer)) as here, asking() as asked:
        for _ in range(3):
            await asked.post(here.url, b"x")
        assert here.connections == connections


@pytest.mark.parametrize("with_reset", [False, True])
async def test_a_connection_that_the_server_closed_meanwhile_fails_no_request(with_reset: bool) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        async with asking() as asked:
            for _ in range(5):
                posting = asyncio.ensure_future(asked.post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"x"))
                accepted, _ = await loop.sock_accept(listening)
                with accepted:
                    while not (await loop.sock_recv(accepted, 65536)).endswith(b"x"):
                        pass
                    accepted.send(NO_CONTENT)
                    assert (await posting).status == 204
                    if with_reset:
                        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # It is closed now, and the loop has had no turn in which to tell.


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"x"])
async def test_an_answer_nobody_asked_for_is_never_taken_for_one(unasked: bytes) -> None:
    async with serving(answering(NO_CONTENT + unasked, NO_CONTENT)) as here, asking() as asked:
        for _ in range(3):
            assert (await asked.post(here.url, b"x")).status == 204
        assert here.connections == 3


async def test_a_connection_the_server_wants_closed_is_not_kept() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody")) as here, asking() as asked:

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

        here._handle = one
        for _ in range(2):
            assert (await asked.post(here.url, b"x")).status == 200
        assert here.connections == 2


async def test_a_request_that_is_cancelled_takes_its_connection_with_it() -> None:
    asked_for = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        asked_for.set()
        await reader.read()

    async with serving(hang) as here, asking() as asked:
        posting = asyncio.ensure_future(asked.post(here.url, b"x"))
        await asked_for.wait()
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
        await here.closed.wait()


async def test_closing_closes_what_was_kept() -> None:
    async with serving(answering(NO_CONTENT)) as here:
        async with asking() as asked:
            await asked.post(here.url, b"x")
        await here.closed.wait()


# What is answered


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", 200, b"body"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\nA: b\r\n\r\n",
            200,
            b"body",
        ),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + NO_CONTENT, 204, b""),
    ],
)
async def test_answers_are_read_to_their_end_and_the_connection_kept(answer: bytes, status: int, body: bytes) -> None:
    async with serving(answering(answer, answer)) as here, asking() as asked:
        for _ in range(2):
            reply = await asked.post(here.url, b"x")
            assert (reply.status, reply.body) == (status, body)
        assert here.connections == 1


async def test_an_answer_in_single_bytes_is_one_too() -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        for number in b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody":
            writer.write(bytes([number]))
            await asyncio.sleep(0)

    async with serving(slowly) as here, asking() as asked:
        assert (await asked.post(here.url, b"x")).body == b"body"


async def test_a_body_may_end_with_the_connection() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nbody")

    async with serving(old) as here, asking() as asked:
        assert (await asked.post(here.url, b"x")).body == b"body"


async def test_headers_are_found_by_lower_case_and_joined() -> None:
    answer = b"HTTP/1.1 429 X\r\nRetry-After: 3\r\nWarning: a\r\nwarning: \xc3\xa4\xff\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(answer)) as here, asking() as asked:
        reply = await asked.post(here.url, b"x")
    assert reply.headers == {"retry-after": "3", "warning": "a, ä\ufffd", "content-length": "0"}


async def test_of_a_large_answer_the_wanted_part_is_given_and_the_connection_closed() -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"y" * 100_000
    async with serving(answering(large)) as here, asking() as asked:
        reply = await asked.post(here.url, b"x", most_bytes=1000)
        assert reply.body == b"y" * 1000
        await here.closed.wait()


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * (2 * MOST_HEAD_BYTES),
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * MOST_HEAD_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"",
    ],
)
async def test_what_is_no_answer_is_a_lost_one(said: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(said)

    async with serving(say) as here, asking() as asked:
        with pytest.raises(LostError):
            await asked.post(here.url, b"x")
        await here.closed.wait()


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize("taken_bytes", [1, 100_000, 1_000_000])
async def test_an_answer_that_comes_before_all_was_sent_is_seen(
    taken_bytes: int, with_tls: bool, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(taken_bytes)
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge")
        await writer.drain()
        # Closed over what is unread: the client is sent a reset right behind the answer.

    tls = server_tls(authority, "127.0.0.1") if with_tls else None
    async with serving(too_large, tls) as here, asking(trusting) as asked:
        for _ in range(10):
            reply = await asked.post(f"http{'s' * with_tls}://127.0.0.1:{here.port}/", b"x" * (4 << 20))
            assert (reply.status, reply.body) == (413, b"large")
        assert here.connections == 10


async def test_an_answer_is_seen_that_only_the_reset_behind_it_tells_of() -> None:
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)

        async def peer() -> None:
            accepted, _ = await loop.sock_accept(listening)
            with accepted:
                await loop.sock_recv(accepted, 1)
                accepted.send(b"HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n")
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            answered.set()

        async with asking() as asked:
            serving_one = asyncio.ensure_future(peer())
            reply = await asked.post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"x" * (8 << 20))
            await serving_one
    assert answered.is_set()
    assert reply.status == 413


# Getting there


async def test_a_name_that_is_no_name_was_certainly_not_received() -> None:
    async with asking() as asked:
        with pytest.raises(NotConnectedError) as caught:
            await asked.post("http://no-such-host.invalid/")
        assert isinstance(caught.value.why, socket.gaierror)


@pytest.mark.parametrize("bound", ["connecting_seconds", "within_seconds"])
async def test_a_server_that_does_not_accept_is_given_up_and_was_sent_nothing(bound: str) -> None:
    with deaf() as port:
        async with asking(**{bound: 0.05}) as asked:
            with pytest.raises(NotConnectedError) as caught:
                await asked.post(f"http://127.0.0.1:{port}/", b"x")
    assert caught.value.why is None


async def test_a_server_that_does_not_shake_hands_is_given_up_and_was_sent_nothing(trusting: ssl.SSLContext) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as here, asking(trusting, connecting_seconds=0.05) as asked:
        with pytest.raises(NotConnectedError) as caught:
            await asked.post(f"https://127.0.0.1:{here.port}/", b"x")
        await here.closed.wait()
    assert caught.value.why is None


class deaf:  # noqa: N801 - reads as a function
    """A port whose queue is full, so that a connection is neither accepted nor refused."""

    def __enter__(self) -> int:
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(0)
        address = self._listening.getsockname()
        self._queued = [socket.socket() for _ in range(4)]
        for each in self._queued:
            each.setblocking(False)
            each.connect_ex(address)
        port: int = address[1]
        return port

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *self._queued):
            each.close()


@pytest.mark.parametrize("with_reset", [False, True])
async def test_a_server_that_closes_at_once_is_never_waited_for(with_reset: bool) -> None:
    async def shut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if with_reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async with serving(shut) as here, asking(within_seconds=3600.0) as asked:
        for size in (1, 5_000_000) * 5:
            with pytest.raises((NotConnectedError, ConnectionError)):
                await asked.post(here.url, b"x" * size)


async def test_a_server_that_answers_no_more_is_given_up_and_may_have_received_it() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(hang) as here, asking(within_seconds=0.05) as asked:
        with pytest.raises(TimeoutError):
            await asked.post(here.url, b"x")
        await here.closed.wait()


# TLS


async def test_tls_tells_the_name_and_speaks_http_1(
    authority: trustme.CA, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    context = server_tls(authority, "loki.example")
    context.sni_callback = lambda _, name, __: told.append(name)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answering(NO_CONTENT)(reader, writer)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **more: real("127.0.0.1", *rest, **more))
    async with serving(handle, context) as here, asking(trusting) as asked:
        assert (await asked.post(f"https://loki.example:{here.port}/", b"x")).status == 204
        with pytest.raises(NotConnectedError) as caught:
            await asked.post(f"https://other.example:{here.port}/", b"x")
        assert isinstance(caught.value.why, ssl.SSLCertVerificationError)
    assert told[:2] == ["loki.example", "http/1.1"]


@pytest.mark.parametrize("names", [("localhost",), ("127.0.0.2",)])
async def test_an_address_must_stand_in_the_certificate(
    names: tuple[str, ...], authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    async with serving(answering(), server_tls(authority, *names)) as here, asking(trusting) as asked:
        with pytest.raises(NotConnectedError) as caught:
            await asked.post(f"https://127.0.0.1:{here.port}/", b"x")
    assert isinstance(caught.value.why, ssl.SSLCertVerificationError)


async def test_without_a_context_only_the_systems_authorities_are_trusted(authority: trustme.CA) -> None:
    async with serving(answering(), server_tls(authority, "127.0.0.1")) as here, asking() as asked:
        with pytest.raises(NotConnectedError) as caught:
            await asked.post(f"https://127.0.0.1:{here.port}/", b"x")
    assert isinstance(caught.value.why, ssl.SSLCertVerificationError)


async def test_large_bodies_arrive_whole_over_tls(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    seen: list[tuple[bytes, bytes]] = []
    tls = server_tls(authority, "127.0.0.1")
    async with serving(answering(NO_CONTENT, NO_CONTENT, seen=seen), tls) as here, asking(trusting) as asked:
        for _ in range(2):
            await asked.post(f"https://127.0.0.1:{here.port}/", b"a" * 3_000_000, b"b" * 3_000_000)
        assert here.connections == 1
    assert [body for _, body in seen] == [b"a" * 3_000_000 + b"b" * 3_000_000] * 2


# Proxies


def tunnelling(seen: list[bytes], port: int) -> Handle:
    """A proxy that opens a tunnel to ``port`` whatever it is asked for."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        onward, outward = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, outward), copy(onward, writer), return_exceptions=True)

    return handle


@pytest.mark.parametrize("proxy_tls", [False, True])
async def test_a_tunnel_hides_the_request_from_the_proxy_and_is_kept(
    proxy_tls: bool, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    seen: list[tuple[bytes, bytes]] = []
    told: list[bytes] = []
    tls = server_tls(authority, "127.0.0.1")
    async with (
        serving(answering(NO_CONTENT, NO_CONTENT, seen=seen), tls) as here,
        serving(tunnelling(told, here.port), tls if proxy_tls else None) as proxy,
        asking(trusting) as asked,
    ):
        via = Via(f"http{'s' * proxy_tls}://127.0.0.1:{proxy.port}", {"Proxy-Authorization": "Basic abc"})
        for _ in range(2):
            reply = await asked.post(f"https://127.0.0.1:{here.port}/push", b"z" * 300_000, proxy=via)
            assert reply.status == 204
        assert (here.connections, proxy.connections) == (1, 1)
    where = b"127.0.0.1:%d" % here.port
    assert told == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic abc\r\n\r\n" % (where, where)]
    for head, body in seen:
        assert head.startswith(b"POST /push HTTP/1.1\r\n")
        assert b"Proxy-Authorization" not in head
        assert body == b"z" * 300_000


async def test_the_end_of_a_tunnel_must_show_its_certificate(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    told: list[bytes] = []
    async with (
        serving(answering(), server_tls(authority, "elsewhere.example")) as here,
        serving(tunnelling(told, here.port)) as proxy,
        asking(trusting) as asked,
    ):
        with pytest.raises(NotConnectedError) as caught:
            await asked.post("https://loki.example/push", b"x", proxy=Via(proxy.url, {}))
        assert isinstance(caught.value.why, ssl.SSLCertVerificationError)
    assert told[0].startswith(b"CONNECT loki.example:443 HTTP/1.1\r\nHost: loki.example:443\r\n")


async def test_a_plain_request_by_a_proxy_names_the_whole_url() -> None:
    seen: list[tuple[bytes, bytes]] = []
    async with serving(answering(NO_CONTENT, NO_CONTENT, seen=seen)) as proxy, asking() as asked:
        for _ in range(2):
            await asked.post("http://loki.example:3100/push", b"x", proxy=Via(proxy.url, {"Proxy-Authorization": "p"}))
        assert proxy.connections == 1
    assert seen[1][0].startswith(b"POST http://loki.example:3100/push HTTP/1.1\r\nHost: loki.example:3100\r\n")
    assert b"\r\nProxy-Authorization: p\r\n" in seen[1][0]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 X\r\nContent-Length: 9999\r\n\r\n<html>", b"HTTP/1.1 502 X\r\n\r\n"])
async def test_a_proxy_that_opens_no_tunnel_says_why(answer: bytes, trusting: ssl.SSLContext) -> None:
    async with serving(answering(answer)) as proxy, asking(trusting) as asked:

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

        proxy._handle = refuse
        with pytest.raises(ProxyRefusedError) as caught:
            await asked.post("https://loki.example/push", b"x", proxy=Via(proxy.url, {}))
        assert caught.value.status == int(answer[9:12])
        await proxy.closed.wait()


@pytest.mark.parametrize("length", [b"Content-Length: 0\r\n", b"", b"Content-Length: 9\r\n"])
async def test_the_connection_to_a_proxy_that_opens_no_tunnel_is_closed_whether_or_not_it_goes_on(
    length: bytes, trusting: ssl.SSLContext
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 502 X\r\n%b\r\n" % length)
        await reader.read()

    async with serving(refuse) as proxy, asking(trusting) as asked:
        with pytest.raises(ProxyRefusedError):
            await asked.post("https://loki.example/push", b"x", proxy=Via(proxy.url, {}))
        async with asyncio.timeout(30):
            await proxy.closed.wait()


@pytest.mark.parametrize("said", [b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nand more"])
async def test_a_proxy_that_talks_nonsense_was_no_way_there(said: bytes, trusting: ssl.SSLContext) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    async with serving(nonsense) as proxy, asking(trusting) as asked:
        with pytest.raises(NotConnectedError) as caught:
            await asked.post("https://loki.example/push", b"x", proxy=Via(proxy.url, {}))
        assert isinstance(caught.value.why, OSError)
