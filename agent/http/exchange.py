"""This file is a client's connection: a request goes out in slices, its answer comes in, and the next may follow.

idle ──▶ writing, and reading ──▶ idle                      kept, where both sides sent all they had to
  │          └── the answer is there before all was written, is cut off, or is larger than wanted ──▶ closed
  └── the server closes, or says something nobody asked for ──▶ closed
"""

from __future__ import annotations

import asyncio
import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import h11
from msgspec import Struct

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence

SLICE_BYTES: Final = 64 << 10
"""What is handed to the socket at once: what it does not take is copied, so more would be memory for nothing."""

TURN_BYTES: Final = 256 << 10
"""After this much the loop turns, whether or not the socket takes more: others have their turn, and an answer that
is there already is seen."""

MOST_HEAD_BYTES: Final = 32 << 10
RECEIVED = bytearray(16 << 10)
"""Where bytes arrive, for every connection: what they say is taken out before the loop goes on."""

_received = memoryview(RECEIVED)


class LostError(ConnectionError):
    """The connection ended, or what came over it was no answer: the request may have arrived all the same."""


class Reply(Struct, frozen=True):
    """What a server answered; header names in lower case, those given more than once as one list."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection(asyncio.BufferedProtocol):
    """One connection. ``exchange`` is called again only where ``usable`` is True."""

    def __init__(self) -> None:
        self._http = _speaking()
        self._transport: asyncio.Transport | None = None
        self._over: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._crowded = False
        self._most_bytes = 0
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._failure: Exception | None = None

    @property
    def idle(self) -> bool:
        """True where it is open and another request may follow the last."""
        return self._transport is not None and not self._transport.is_closing() and self._http.our_state is h11.IDLE

    @property
    def usable(self) -> bool:
        """True where it is idle and nothing has come, be it the end, that the loop has not told yet."""
        if self._transport is None or not self.idle:
            return False
        seen = select.poll()
        seen.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not seen.poll(0)

    async def exchange(self, request: h11.Request, pieces: Sequence[bytes], most_bytes: int) -> Reply:
        """Sends ``request`` with ``pieces`` as its body, and returns the answer with ``most_bytes`` of its body; where
        that is 0 it does not wait for one.

        Raises LostError, or the OSError that ended the connection. The half of a failure is an answer, the half of a
        success is none: it may leave out what was refused.
        """
        self._over = over = asyncio.get_running_loop().create_future()
        self._head, self._failure, self._most_bytes = None, None, most_bytes
        self._body.clear()
        whole = False
        try:
            whole = await self._write(self._started(request, sum(map(len, pieces))), pieces)
            await over
            return self._reply()
        finally:
            self._over = None
            if whole and self._answered_to_the_end():
                self._http.start_next_cycle()
            elif self._http.our_state is not h11.SWITCHED_PROTOCOL:
                self.abort()

    async def encrypt(self, context: ssl.SSLContext, host: str, within_seconds: float) -> None:
        """Speaks TLS from here on, behind a proxy that was asked to CONNECT."""
        if self._transport is None or self._http.trailing_data[0]:
            raise LostError("the proxy said more than its answer")
        loop = asyncio.get_running_loop()
        encrypted = await loop.start_tls(
            self._transport, self, context, server_hostname=host, ssl_handshake_timeout=within_seconds
        )
        if encrypted is None:
            raise LostError("the connection was closed")
        self._http = _speaking()
        self.connection_made(encrypted)

    def abort(self) -> None:
        """Closes it at once."""
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=SLICE_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _received

    def buffer_updated(self, nbytes: int) -> None:
        self._take(_received[:nbytes])

    def eof_received(self) -> None:
        self._take(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._over is not None:
            self._take_what_is_left()
        self._transport = None
        self._end(exc or LostError("the connection was closed before an answer came"))

    def pause_writing(self) -> None:
        self._crowded = True

    def resume_writing(self) -> None:
        self._crowded = False
        _wake(self._room)

    # Sending

    def _started(self, request: h11.Request, body_bytes: int) -> bytes:
        head = self._http.send(request)
        if body_bytes:  # h11 counts a body by its length alone, and the slices need not pass through it
            self._http.send_with_data_passthrough(h11.Data(data=range(body_bytes)))  # type: ignore[arg-type]
        self._http.send(h11.EndOfMessage())
        return head or b""

    async def _write(self, head: bytes, pieces: Sequence[bytes]) -> bool:
        """True when all of it was handed to the socket, False when the answer was there before."""
        written = 0
        for part in slices((head, *pieces)):
            if self._crowded:
                self._room = asyncio.get_running_loop().create_future()
                await self._room
            elif written >= TURN_BYTES:
                written = 0
                await asyncio.sleep(0)
            if self._head is not None or self._transport is None or self._transport.is_closing():
                return False
            self._transport.write(part)
            written += len(part)
        return True

    # Receiving

    def _take(self, data: bytes | memoryview) -> None:
        if self._over is None or self._over.done():
            self.abort()
            return
        try:
            self._http.receive_data(data)  # type: ignore[arg-type] # any bytes: they are copied
            while not self._over.done():
                event = self._http.next_event()
                if event is h11.PAUSED and self._http.our_state is h11.SWITCHED_PROTOCOL:
                    self._end(None)  # a tunnel is open: what follows is no HTTP
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._heard(event)
        except h11.RemoteProtocolError as error:
            self._end(LostError(f"what came is no HTTP answer: {error}"))

    def _heard(self, event: object) -> None:
        match event:
            case h11.Data():
                self._body += event.data
                if len(self._body) >= self._most_bytes:
                    self._end(None)
            case h11.Response():
                self._head = event
                _wake(self._room)
                if not self._most_bytes:
                    self._end(None)
            case h11.EndOfMessage():
                self._end(None)
            case h11.ConnectionClosed():
                self._end(LostError("the connection was closed before an answer came"))

    def _answered_to_the_end(self) -> bool:
        """True where both sides have said all, and nothing came behind it that would pass for the next answer."""
        http = self._http
        return http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]

    def _take_what_is_left(self) -> None:
        """An answer that was sent before the connection was reset, and would be lost with the socket."""
        transport = self._transport
        if transport is None or transport.get_extra_info("ssl_object") is not None:
            return
        with suppress(OSError):
            while data := os.read(transport.get_extra_info("socket").fileno(), len(RECEIVED)):
                self._take(data)
                if self._over is None or self._over.done():
                    return

    def _end(self, failure: Exception | None) -> None:
        if self._over is not None and not self._over.done():
            self._failure = failure
            self._over.set_result(None)
        _wake(self._room)

    def _reply(self) -> Reply:
        if self._failure is not None and (self._head is None or self._head.status_code < 400):
            raise self._failure
        assert self._head is not None
        headers: dict[str, str] = {}
        for name, value in self._head.headers:
            key, text = name.decode(), value.decode("utf-8", "replace")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return Reply(self._head.status_code, headers, bytes(self._body[: self._most_bytes]))


def slices(pieces: Sequence[bytes]) -> Iterator[bytes | memoryview]:
    """``pieces`` in order, none larger than SLICE_BYTES: small ones joined, large ones cut without a copy."""
    small: list[bytes] = []
    size = 0
    for piece in pieces:
        if size + len(piece) > SLICE_BYTES and small:
            yield b"".join(small)
            small, size = [], 0
        if len(piece) <= SLICE_BYTES:
            small.append(piece)
            size += len(piece)
            continue
        view = memoryview(piece)
        yield from (view[start : start + SLICE_BYTES] for start in range(0, len(view), SLICE_BYTES))
    if small:
        yield b"".join(small)


def _speaking() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
