"""A server's connection, over real sockets: in order, within bounds, and with a clean end."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme

from agent.http import answering
from agent.http import door as doors
from agent.http.answering import MOST_HEADERS, MOST_UNWANTED_BYTES, Sent
from agent.http.asked import Asked, http_date, parameters, path_and_query
from agent.http.door import Door

OK = "HTTP/1.1 200 OK"
BIG = b"0123456789" * 100_000


class Echo:
    """Answers what it was asked; ``/wait`` when ``go_on`` is set, ``/post`` with a refusal that ends the connection."""

    def __init__(self, idle_seconds: float = 20.0) -> None:
        self.idle_seconds = idle_seconds
        self.asked: list[Asked] = []
        self.counted: Counter[str] = Counter()
        self.go_on = asyncio.Event()
        self.waiting = asyncio.Event()

    def answer(self, asked: Asked) -> Sent | Coroutine[Any, Any, Sent]:
        self.asked.append(asked)
        if asked.path == "/wait":
            return self._later()
        if asked.path == "/raises":
            return self._raise()
        if asked.path == "/big":
            return Sent(200, {}, BIG)
        if asked.path == "/post":
            return Sent(405, {}, b"no", close=True)
        return Sent(200, {"X-Path": asked.path}, asked.path.encode())

    async def _later(self) -> Sent:
        self.waiting.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.counted["cancelled"] += 1
            raise
        return Sent(200, {}, b"waited")

    async def _raise(self) -> Sent:
        raise RuntimeError("inside")

    def unreadable(self, why: str) -> Sent:
        self.counted["unreadable"] += 1
        return Sent(400, {}, b"bad", close=True)

    def not_taken(self) -> None:
        self.counted["not taken"] += 1


class Served:
    def __init__(self, echo: Echo, door: Door, port: int) -> None:
        self.echo = echo
        self.door = door
        self.port = port
        self.turned_away = 0

    async def connect(
        self, tls: ssl.SSLContext | None = None, limit: int = 1 << 21
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=limit, ssl=tls)

    async def raw(self, *data: bytes, eof: bool = False, tls: ssl.SSLContext | None = None) -> bytes:
        """Everything answered to ``data`` until the end; a reset in place of an end is an error."""
        reader, writer = await self.connect(tls)
        for part in data:
            writer.write(part)
            await writer.drain()
        if eof:
            writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def free(self) -> None:
        """Returns when there is a place for one more."""
        while True:
            with suppress(ConnectionError):
                if (await self.raw(get("/x", "Connection: close"))).endswith(b"/x"):
                    return


@asynccontextmanager
async def served(
    echo: Echo | None = None, tls: ssl.SSLContext | None = None, most: int = 100, within_seconds: float = 5.0
) -> AsyncIterator[Served]:
    echo = echo or Echo()
    turned_away: list[None] = []
    door = Door(echo, most, lambda: turned_away.append(None))
    bound = socket.create_server(("127.0.0.1", 0))  # as one that systemd hands over
    door.open([bound], tls)
    try:
        yield Served(echo, door, bound.getsockname()[1])
    finally:
        await door.close(within_seconds)


def get(path: str, *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join((f"GET {path} HTTP/{version}", "Host: x", *headers, "", "")).encode()


async def one(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
    return head, await reader.readexactly(length)


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


# What is asked


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", ("/", "")),
        (b"/a%20b?c=d&e", ("/a b", "c=d&e")),
        (b"/a?b?c#d", ("/a", "b?c")),
        (b"//a", ("//a", "")),
        (b"*", ("*", "")),
        (b"host:1", ("host:1", "")),
        (b"http://other/a?b", ("/a", "b")),
        (b"http://other", ("/", "")),
        (b"/http://x", ("/http://x", "")),
        (b"/%ff", ("/\ufffd", "")),
    ],
)
def test_a_target_is_a_path_and_a_query(target: bytes, expected: tuple[str, str]) -> None:
    assert path_and_query(target) == expected


@pytest.mark.parametrize("target", [b"http://[::1/x", b"http://x:99999/", b"http://x:y/", b"/\xff"])
def test_a_target_that_is_none_is_refused(target: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        path_and_query(target)


def test_parameters_are_the_last_of_their_name() -> None:
    assert parameters("a=1&b=&a=2&c&=&&%zz=%ff") == {"a": "2", "b": "", "c": "", "": "", "%zz": "\ufffd"}
    assert parameters("") == {}


def test_a_date_is_written_as_rfc_9110_writes_it() -> None:
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(951782400) == "Tue, 29 Feb 2000 00:00:00 GMT"


async def test_a_handler_is_told_what_was_asked_and_by_whom() -> None:
    async with served() as here:
        await here.raw(get("/a%20b?c=d", "A: 1", "a: 2", "B: \xfcb", "Connection: close"))
        [asked] = here.echo.asked
    assert (asked.method, asked.path, asked.query, asked.client) == ("GET", "/a b", "c=d", "127.0.0.1")
    assert asked.headers == {"host": "x", "a": "1, 2", "b": "\xfcb", "connection": "close"}


# In order


async def test_requests_in_one_packet_are_answered_in_their_order_also_behind_a_slow_one() -> None:
    async with served() as here:
        reader, writer = await here.connect()
        writer.write(get("/1") + get("/wait") + get("/2") + get("/3", "Connection: close"))
        assert (await one(reader))[1] == b"/1"
        await here.echo.waiting.wait()
        assert [asked.path for asked in here.echo.asked] == ["/1", "/wait"]
        here.echo.go_on.set()
        assert [(await one(reader))[1] for _ in range(3)] == [b"waited", b"/2", b"/3"]
        assert await reader.read() == b""
        await gone(writer)


async def test_what_comes_behind_a_slow_request_waits_with_the_client() -> None:
    async with served() as here:
        reader, writer = await here.connect()
        writer.write(get("/wait"))
        await here.echo.waiting.wait()
        writer.write(get("/x") * 600_000)
        for _ in range(50):
            await asyncio.sleep(0)
        assert writer.transport.get_write_buffer_size() > 0
        assert len(here.echo.asked) == 1
        here.echo.go_on.set()
        assert (await one(reader))[1] == b"waited"
        assert (await one(reader))[1] == b"/x"
        writer.transport.abort()


async def test_a_request_in_single_bytes_is_one_too() -> None:
    async with served() as here:
        assert (await here.raw(*(bytes([number]) for number in get("/x", "Connection: close")))).endswith(b"/x")


async def test_a_client_that_has_said_all_still_gets_its_answers() -> None:
    async with served() as here:
        assert (await here.raw(get("/1") + get("/2"), eof=True)).count(OK.encode()) == 2
        reader, writer = await here.connect()
        writer.write(get("/wait"))
        writer.write_eof()
        await here.echo.waiting.wait()
        here.echo.go_on.set()
        assert (await reader.read()).endswith(b"waited")
        await gone(writer)


async def test_a_client_that_goes_away_takes_its_handler_with_it() -> None:
    async with served() as here:
        _, writer = await here.connect()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.write(get("/wait"))
        await here.echo.waiting.wait()
        writer.transport.abort()
        while not here.echo.counted["cancelled"]:
            await asyncio.sleep(0)


async def test_a_large_answer_arrives_whole() -> None:
    async with served() as here:
        answer = await here.raw(get("/big") + get("/big", "Connection: close"))
    assert answer.count(BIG) == 2


# How it ends


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (get("/x"), True),
        (get("/x", "Connection: keep-alive"), True),
        (get("/x", "Connection: close"), False),
        (get("/x", version="1.0"), False),
        (b"GET /x HTTP/1.0\r\n\r\n", False),
        (b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (get("/x", "Content-Length: 0"), True),
        (get("/x", "Content-Length: 5") + b"hello", True),
        (get("/x", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", True),
        (get("/x", f"Content-Length: {MOST_UNWANTED_BYTES}") + bytes(MOST_UNWANTED_BYTES), True),
        (get("/x", f"Content-Length: {MOST_UNWANTED_BYTES + 1}") + bytes(MOST_UNWANTED_BYTES + 1), False),
        (get("/x", "Content-Length: 5", "Connection: close"), False),
        (get("/x", "Content-Length: 5", "Expect: 100-continue"), False),
        (get("/post", "Content-Length: 5") + b"hello", False),
    ],
)
async def test_a_connection_is_kept_where_the_next_request_is_known_to_be_one(request_: bytes, kept: bool) -> None:
    async with served() as here:
        reader, writer = await here.connect()
        writer.write(request_)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ")
        assert b" 100 " not in head
        if not request_.startswith(b"HEAD"):
            await reader.readexactly(2)
        if kept:
            writer.write(get("/next", "Connection: close"))
            assert (await one(reader))[1] == b"/next"
        assert await reader.read() == b""
        await gone(writer)
        assert here.echo.counted == {}


async def test_head_has_a_length_and_no_body() -> None:
    async with served() as here:
        answer = await here.raw(b"HEAD /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"\r\nContent-Length: 1000000\r\n" in answer


async def test_an_answer_to_a_body_nobody_reads_is_not_lost_to_a_reset() -> None:
    async with served() as here:
        for _ in range(5):
            answer = await here.raw(get("/post", "Content-Length: 2000000"), bytes(1_000_000), bytes(1_000_000))
            assert answer.startswith(b"HTTP/1.1 405 ")
            assert answer.endswith(b"no")


async def test_a_client_that_sends_on_and_on_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "LINGERING_BYTES", 1 << 20)
    async with served() as here:
        _, writer = await here.connect()
        writer.write(get("/post", "Content-Length: 99999999999"))
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
        writer.transport.abort()


async def test_a_client_that_lingers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "LINGERING_SECONDS", 0.01)
    async with served(most=1) as here:
        reader, writer = await here.connect()
        writer.write(get("/post", "Content-Length: 5"))
        assert (await reader.read()).endswith(b"no")
        await here.free()  # it never closes: its place is free all the same, once it has had its time
        writer.transport.abort()


UNREADABLE = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a head too large": get("/x", *(f"X-{number}: {'x' * 1000}" for number in range(40))),
    "too many headers": get("/x", *(f"X: {number}" for number in range(MOST_HEADERS))),
    "two lengths": get("/x", "Content-Length: 5", "Transfer-Encoding: chunked"),
    "a length that is none": get("/x", "Content-Length: +5"),
    "a folded name": get("/x", "A b: c"),
    "a space before the colon": get("/x", "Content-Length : 5"),
    "another encoding": get("/x", "Transfer-Encoding: gzip"),
    "another version": get("/x", version="3.0"),
    "no version": b"GET /x\r\n\r\n",
    "a port that is none": get("http://x:99999/"),
    "a tunnel": b"CONNECT h:1 HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_is_no_request_is_told_so_and_the_connection_ends(what: str) -> None:
    async with served() as here:
        answer = await here.raw(UNREADABLE[what] + get("/x"))
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"\r\nConnection: close\r\n\r\nbad")
        assert here.echo.counted == {"unreadable": 1}
        assert here.echo.asked == []
        assert (await here.raw(get("/x", "Connection: close"))).endswith(b"/x")


async def test_as_many_headers_as_there_may_be_are_read() -> None:
    async with served() as here:
        many = (f"X: {number}" for number in range(MOST_HEADERS - 2))
        assert (await here.raw(get("/x", *many, "Connection: close"))).endswith(b"/x")


async def test_chunks_that_are_none_end_the_connection_behind_its_answer() -> None:
    async with served() as here:
        answer = await here.raw(get("/x", "Transfer-Encoding: chunked") + b"what?\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.endswith(b"/x")


async def test_half_a_request_is_no_fault() -> None:
    async with served() as here:
        assert await here.raw(b"GET /x HTT", eof=True) == b""
        assert await here.raw(b"", eof=True) == b""
        assert here.echo.counted == {}


async def test_a_handler_that_raises_ends_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as here:
        with suppress(ConnectionError):
            assert await here.raw(get("/raises")) == b""
        assert (await here.raw(get("/x", "Connection: close"))).endswith(b"/x")
    assert "could not be answered" in caplog.text


# Time


@pytest.mark.parametrize("drip", [b"x", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
async def test_a_request_that_never_ends_is_cut_off_however_often_something_comes(drip: bytes) -> None:
    async with served(Echo(idle_seconds=0.05)) as here:
        reader, writer = await here.connect()
        ended = asyncio.ensure_future(reader.read())
        writer.write(drip)
        while not ended.done():
            await asyncio.wait([ended], timeout=0.005)
            if not writer.transport.is_closing():
                writer.write(b"x")
        assert ended.exception() is not None or ended.result() == b""
        writer.transport.abort()


async def test_the_time_begins_again_behind_each_answer() -> None:
    async with served() as here:
        reader, writer = await here.connect()
        writer.write(get("/x"))
        await one(reader)
        [connection] = here.door._open
        before = connection._deadline
        writer.write(get("/x"))
        await one(reader)
        assert connection._deadline is not None
        assert before is not None
        assert connection._deadline > before
        await gone(writer)


async def test_a_handler_has_no_part_in_the_clients_time() -> None:
    async with served(Echo(idle_seconds=0.02)) as here:
        reader, writer = await here.connect()
        writer.write(get("/wait"))
        await here.echo.waiting.wait()
        asyncio.get_running_loop().call_later(0.1, here.echo.go_on.set)
        assert (await one(reader))[1] == b"waited"
        await gone(writer)


async def test_who_does_not_take_an_answer_is_cut_off_and_counted() -> None:
    async with served(Echo(idle_seconds=0.1)) as here:
        _, writer = await here.connect(limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        writer.write(get("/big") * 20)
        while not here.echo.counted["not taken"]:
            await asyncio.sleep(0.005)
        writer.transport.abort()


async def test_who_takes_answers_late_gets_them_all_and_more() -> None:
    async with served() as here:
        reader, writer = await here.connect(limit=1 << 22)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        writer.write(get("/big") * 20)
        while not here.door._open or not next(iter(here.door._open))._crowded:
            await asyncio.sleep(0)
        asked_before = len(here.echo.asked)
        assert asked_before < 20
        writer.write(get("/x"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(here.echo.asked) == asked_before
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(20):
            assert (await one(reader))[1] == BIG
        assert (await one(reader))[1] == b"/x"
        await gone(writer)


async def test_who_asks_for_the_end_and_takes_nothing_is_cut_off_too() -> None:
    async with served(Echo(idle_seconds=0.1)) as here:
        _, writer = await here.connect(limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        writer.write(get("/big") * 20 + get("/big", "Connection: close"))
        writer.write_eof()
        while not here.echo.counted["not taken"]:
            await asyncio.sleep(0.005)
        writer.transport.abort()


# Who is in


async def test_one_too_many_is_closed_and_a_place_is_free_again() -> None:
    async with served(most=2) as here:
        held = [await here.connect() for _ in range(2)]
        for reader, writer in held:
            writer.write(get("/x"))
            await one(reader)
        assert await here.raw() == b""
        await gone(held[0][1])
        await here.free()
        await gone(held[1][1])


async def test_leaving_ends_idle_connections_at_once_and_others_behind_their_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "LINGERING_SECONDS", 0.05)
    async with served() as here:
        idle, busy, half = [await here.connect() for _ in range(3)]
        idle[1].write(get("/x"))
        await one(idle[0])
        half[1].write(b"GET /x HT")
        busy[1].write(get("/wait") + get("/never"))
        await here.echo.waiting.wait()
        asyncio.get_running_loop().call_later(0.02, here.echo.go_on.set)
    assert await idle[0].read() == b""
    assert await half[0].read() == b""
    answer = await busy[0].read()
    assert answer.endswith(b"\r\nConnection: close\r\n\r\nwaited")
    for _, writer in (idle, busy, half):
        await gone(writer)


async def test_leaving_does_not_wait_for_a_handler_longer_than_it_was_told() -> None:
    async with served(within_seconds=0.05) as here:
        reader, writer = await here.connect()
        writer.write(get("/wait"))
        await here.echo.waiting.wait()
    assert here.echo.counted == {"cancelled": 1}
    assert await reader.read() == b""
    await gone(writer)


async def test_what_an_accepted_client_has_asked_is_answered_also_when_nobody_has_read_it_yet() -> None:
    async with served() as here:
        new, kept = [await here.connect() for _ in range(2)]
        kept[1].write(get("/first"))
        await one(kept[0])
        for _, writer in (new, kept):  # into the kernel, at once; the loop does not turn before the door closes
            writer.get_extra_info("socket")._sock.send(get("/last"))
    for reader, writer in (new, kept):
        assert (await reader.read()).endswith(b"\r\nConnection: close\r\n\r\n/last")
        await gone(writer)


async def test_a_client_that_connected_a_moment_ago_may_still_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "ASKING_SECONDS", 5.0)
    monkeypatch.setattr(answering, "ASKING_SECONDS", 5.0)
    async with served() as here:
        new, half = [await here.connect() for _ in range(2)]
        half[1].write(b"GET /half HTTP/1.1\r\nHo")
        await here.raw(get("/x", "Connection: close"))
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, new[1].write, get("/new"))
        loop.call_later(0.02, half[1].write, b"st: x\r\n\r\n")
    assert (await new[0].read()).endswith(b"Connection: close\r\n\r\n/new")
    assert (await half[0].read()).endswith(b"Connection: close\r\n\r\n/half")
    for _, writer in (new, half):
        await gone(writer)


async def test_who_is_accepted_in_the_turn_in_which_the_door_closes_is_answered() -> None:
    async with served() as here:
        client = socket.create_connection(("127.0.0.1", here.port))
        client.send(get("/x"))
        await asyncio.sleep(0)  # the loop looks at its sockets once
        while not here.door._opening:
            await asyncio.sleep(0)
    client.setblocking(False)
    assert (await asyncio.get_running_loop().sock_recv(client, 4096)).endswith(b"Connection: close\r\n\r\n/x")
    client.close()


async def test_who_waits_to_be_accepted_waits_for_the_next_one_who_holds_the_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        first, second = (Door(Echo(), 10, lambda: None) for _ in range(2))
        first.open([held.dup()])
        await first.close(5.0)
        reader, writer = await asyncio.open_connection(*held.getsockname())
        writer.write(get("/x"))
        second.open([held.dup()])
        assert (await one(reader))[1] == b"/x"
        await gone(writer)
        await second.close(5.0)


async def test_an_answer_that_is_still_being_taken_when_the_agent_ends_arrives_whole() -> None:
    async with served() as here:
        reader, writer = await here.connect(limit=1 << 12)
        writer.write(get("/big"))
        await here.raw(get("/x", "Connection: close"))
        taking = asyncio.create_task(reader.read())
    assert (await taking).endswith(b"\r\n\r\n" + BIG)
    await gone(writer)


async def test_without_descriptors_nobody_is_accepted_until_there_are_some_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "telemetry_agent.http")
    monkeypatch.setattr(doors, "NO_ROOM_SECONDS", 0.01)
    rests: list[OSError] = []
    rest = Door._rest

    def counted(self: Door, listening: socket.socket, error: OSError) -> None:
        rests.append(error)
        rest(self, listening, error)

    monkeypatch.setattr(Door, "_rest", counted)
    async with served() as here:
        client = socket.create_connection(("127.0.0.1", here.port))
        client.send(get("/x", "Connection: close"))
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with open("/dev/null") as free:
            lowest = free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, most[1]))
        try:
            while len(rests) < 3:
                await asyncio.sleep(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
        client.setblocking(False)
        assert (await asyncio.get_running_loop().sock_recv(client, 4096)).endswith(b"/x")
        client.close()
    said, over = (record.getMessage() for record in caplog.records)
    assert said == "no connection can be accepted: Too many open files; raise LimitNOFILE of the unit"
    assert over.startswith("whoever connects is accepted again")


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def both(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def test_over_tls_everything_is_the_same(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "LINGERING_SECONDS", 0.3)
    server, client = both(authority)
    async with served(tls=server) as here:
        assert (await here.raw(get("/1") + get("/big") + get("/2", "Connection: close"), tls=client)).endswith(b"/2")
        answer = await here.raw(get("/post", "Content-Length: 300000"), bytes(300_000), tls=client)
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert (await here.raw(b"\0\0\0\r\n\r\n", tls=client)).startswith(b"HTTP/1.1 400 ")
        reader, writer = await here.connect(client)
        writer.write(get("/wait") + get("/x"))
        await here.echo.waiting.wait()
        writer.write(get("/y", "Connection: close"))
        here.echo.go_on.set()
        assert [(await one(reader))[1] for _ in range(3)] == [b"waited", b"/x", b"/y"]
        await gone(writer)


async def test_leaving_closes_tls_connections_too(authority: trustme.CA) -> None:
    server, client = both(authority)
    async with served(tls=server, within_seconds=0.5) as here:
        reader, writer = await here.connect(client)
        writer.write(get("/x"))
        await one(reader)
    assert await reader.read() == b""
    await gone(writer)


async def test_leaving_ends_well_in_the_turn_in_which_a_tls_client_is_lost(authority: trustme.CA) -> None:
    server, client = both(authority)
    async with served(tls=server) as here:
        reader, writer = await here.connect(client)
        writer.write(get("/x"))
        await one(reader)
        (lost,) = here.door._open
        lost.abort()
        await asyncio.sleep(0)  # its socket is closed, and it hears of that in the next turn
        assert here.door._open == {lost}
    assert here.door._open == set()
    await gone(writer)
