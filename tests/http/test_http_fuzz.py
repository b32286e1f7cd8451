"""Whatever bytes come, nothing is raised and every request has its answer; in what pieces they come changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.http.answering import Answering, Sent
from agent.http.asked import Asked
from agent.http.exchange import Connection, LostError

PARTS = [
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /c HTTP/1.0\r\n\r\n",
    b"GET /d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /g HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
    b"CONNECT h:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /h HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /i HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n", b"\0", b"GET", b" HTTP/1.1", b":", b"\n", b"X: y\r\n", b"\xff\xfe",
]  # fmt: skip
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n",
    b"0\r\n\r\n", b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n", b"abc", b"\r\n", b"\0",
    b"HTTP/1.1 ", b"Content-Length: 7\r\n", b"\xff",
]  # fmt: skip


class Wire(asyncio.Transport):
    """A transport that takes everything, and keeps it."""

    def __init__(self) -> None:
        super().__init__(extra={"ssl_object": "so that nothing is read behind its back"})
        self.written = b""
        self.closing = self.aborted = self.half = False

    def write(self, data: Any) -> None:
        assert (self.closing, self.half) == (False, False)
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None:
        raise AssertionError("nothing here keeps it waiting")


class Echo:
    idle_seconds = 3600.0

    def __init__(self) -> None:
        self.answered: list[str] = []

    def answer(self, asked: Asked) -> Sent:
        self.answered.append(asked.path)
        return Sent(200, {}, b"x", close=asked.method not in ("GET", "HEAD"))

    def unreadable(self, why: str) -> Sent:
        self.answered.append("unreadable")
        return Sent(400, {}, b"", close=True)

    def not_taken(self) -> None:
        raise AssertionError


def feed(protocol: asyncio.BufferedProtocol, wire: Wire, data: bytes) -> None:
    """Gives ``data`` as a loop does: as much as there is room for, and nothing to what is closed."""
    while data and not wire.closing:
        room = protocol.get_buffer(-1)
        count = min(len(room), len(data))
        room[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]


async def told(pieces: list[bytes]) -> tuple[bytes, list[str], bool]:
    """What a server's connection writes and answers for ``pieces``, and whether it is over at their end."""
    echo, wire, left = Echo(), Wire(), []
    connection = Answering(echo, lambda _: None, left.append)
    connection.connection_made(wire)
    for piece in pieces:
        feed(connection, wire, piece)
    over = wire.closing or wire.half
    if not wire.closing:
        connection.eof_received()
    connection.connection_lost(None)
    assert left == [connection]
    return wire.written, echo.answered, over


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(PARTS) | st.binary(max_size=20), max_size=8), st.lists(st.integers(0, 9999), max_size=6)
)
@example([PARTS[7]], [])
def test_a_server_answers_the_same_however_the_bytes_come(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    whole = asyncio.run(told([data]))
    assert asyncio.run(told(cut(data, places))) == whole
    written, answered, over = whole
    assert written.count(b"HTTP/1.1 ") == len(answered)
    assert "unreadable" not in answered[:-1]
    if answered[-1:] == ["unreadable"]:
        assert over


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(ANSWERS) | st.binary(max_size=20), max_size=8),
    st.lists(st.integers(0, 9999), max_size=6),
    st.booleans(),
)
def test_a_client_understands_the_same_however_the_bytes_come(
    parts: list[bytes], places: list[int], reset: bool
) -> None:
    data = b"".join(parts)
    assert asyncio.run(understood(cut(data, places), reset)) == asyncio.run(understood([data], reset))


async def understood(pieces: list[bytes], reset: bool) -> object:
    """The answer, or the kind of its failure, and whether the connection may be used again."""
    wire = Wire()
    connection = Connection()
    connection.connection_made(wire)
    request = h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "1")])
    asking = asyncio.ensure_future(connection.exchange(request, [b"x"], 50))
    await asyncio.sleep(0)
    for piece in pieces:
        feed(connection, wire, piece)
    if not wire.closing and connection._over is not None and not connection._over.done():
        if reset:
            connection.connection_lost(ConnectionResetError())
        else:
            connection.eof_received()
    try:
        reply = await asking
    except (LostError, ConnectionResetError) as error:
        assert wire.closing or connection._transport is None
        return type(error)
    return reply, connection.idle
