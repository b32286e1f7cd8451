"""This file feeds bytes to both sides of HTTP without a socket, and tells what became of them."""

from __future__ import annotations

import asyncio
from typing import Any

import h11

from agent.http.answering import Answering, Sent
from agent.http.asked import Asked
from agent.http.exchange import Connection, LostError


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
