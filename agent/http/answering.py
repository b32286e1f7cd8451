"""This file is a server's connection: requests come in, one after the other, and each gets its answer in order.

  reading ──▶ handling ──▶ sent ──▶ reading                       kept alive
     │                       ├──▶ closed                          the client asked for that, or the agent ends
     │                       └──▶ lingering ──▶ closed            the client may still be sending what nobody reads
     ├── no HTTP: 400 ────────────▶ lingering
     └── no whole request in time ──▶ closed

A handler that returns at once is answered in the turn of the loop in which its request arrived.
When the agent ends, a connection between two requests is closed, unless the kernel holds something of it unread. One
that has not asked yet, and any request of which a part is there, has ASKING_SECONDS to be asked and is answered.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

import h11
from msgspec import Struct

from agent.http.asked import Asked, combined, path_and_query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger("telemetry_agent.http")

MOST_HEAD_BYTES: Final = 16 << 10
MOST_HEADERS: Final = 100
MOST_UNWANTED_BYTES: Final = 64 << 10
"""Of a body that nobody asked for this much is read for the sake of the next request; above it the connection ends."""

ASKING_SECONDS: Final = 0.05
"""How long, when the agent ends, a client may take for a request that it has not asked yet: it connected to do so."""
LINGERING_SECONDS: Final = 1.0
LEAVING_SECONDS: Final = 0.25
"""The same when the agent ends."""
LINGERING_BYTES: Final = 4 << 20
SMALL_BYTES: Final = 64 << 10
"""A body up to this size is copied behind its head, so that both leave together."""

VERSIONS: Final = (b"1.1", b"1.0")
REASONS: Final = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 405: b"Method Not Allowed",
    500: b"Internal Server Error", 503: b"Service Unavailable",
}  # fmt: skip
READ: Final = (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
"""What h11 says of a client whose request has been read to its end."""

RECEIVED = bytearray(8 << 10)
"""Where bytes arrive, for every connection: what they say is taken out before the loop goes on. Its size bounds, with
MOST_HEAD_BYTES, how much is parsed at once."""

_received = memoryview(RECEIVED)


class Sent(Struct, frozen=True):
    """A whole answer. ``close`` ends the connection after it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    close: bool = False


class Service(Protocol):
    """What answers. ``idle_seconds`` is how long a client may take for a whole request, or for taking an answer."""

    idle_seconds: float

    def answer(self, asked: Asked) -> Sent | Coroutine[Any, Any, Sent]:
        """Never raises."""
        ...

    def unreadable(self, why: str) -> Sent:
        """The answer to what is no HTTP request."""
        ...

    def not_taken(self) -> None:
        """Told of a client that did not take its answer."""
        ...


class Answering(asyncio.BufferedProtocol):
    """One connection. ``entered`` and ``left`` are told of it when it is open and when it is over."""

    def __init__(
        self, service: Service, entered: Callable[[Answering], None], left: Callable[[Answering], None]
    ) -> None:
        self._service = service
        self._entered = entered
        self._left = left
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._transport: asyncio.Transport
        self._client = ""
        self._handling: asyncio.Task[None] | None = None
        self._asked: h11.Request | None = None
        self._crowded = self._held = self._lingering = self._leaving = self._closing = self._ended = False
        self._answered = False
        self._unwanted_bytes = 0
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def finish(self) -> None:
        """Ends it: between two requests at once, else behind the answer to the one that is under way."""
        self._leaving = True
        if self._lingering:
            self._within(LEAVING_SECONDS)
        elif self._closing or self._handling is not None or self._crowded:
            return  # what is under way is the last
        elif self._asks():
            self._within(ASKING_SECONDS)
        else:
            self._close()

    def abort(self) -> None:
        self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._client = str((transport.get_extra_info("peername") or ("",))[0])
        self._within(self._service.idle_seconds)
        self._entered(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _received

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            self._unwanted_bytes += nbytes
            if self._unwanted_bytes > LINGERING_BYTES:
                self.abort()
            return
        self._http.receive_data(_received[:nbytes])  # type: ignore[arg-type] # any bytes: they are copied
        if self._handling is not None or self._crowded:
            self._held = True
            self._transport.pause_reading()  # what comes after this request waits with the client
        else:
            self._advance()

    def eof_received(self) -> bool:
        self._ended = True
        if self._lingering or (self._closing and self._handling is None):
            return False
        self._http.receive_data(b"")
        if self._handling is None and not self._crowded:
            self._advance()
        # A client that has said all it has to say may still wait for its answer. TLS knows no such half.
        return not self._transport.is_closing() and self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._handling is not None:
            self._handling.cancel()
        self._closing = True
        self._left(self)

    def pause_writing(self) -> None:
        self._crowded = True

    def resume_writing(self) -> None:
        self._crowded = False
        if self._handling is None and not self._closing:
            self._within(self._service.idle_seconds)
            self._advance()
            if self._leaving:
                self.finish()

    # Reading

    def _asks(self) -> bool:
        """Whether a request is expected: it is the first, a part of it is here, or the kernel has something unread."""
        if not self._answered or self._asked is not None or self._http.trailing_data[0]:
            return True
        opened = self._transport.get_extra_info("socket")
        if opened is None:  # TLS: it is lost, and we hear of that in the next turn
            return False
        unread = select.poll()
        unread.register(opened.fileno(), select.POLLIN)
        return bool(unread.poll(0))

    def _advance(self) -> None:
        """Answers what has arrived, as far as it goes."""
        try:
            while self._handling is None and not (self._crowded or self._closing):
                event = self._http.next_event()
                match event:
                    case h11.Request():
                        self._begin(event)
                    case h11.Data():
                        self._leave_out(len(event.data))
                    case h11.EndOfMessage():
                        self._go_on()
                    case h11.ConnectionClosed():
                        self._close()
                    case _:
                        break
        except (h11.RemoteProtocolError, ValueError) as error:
            self._refuse(error)
        if self._held and not (self._crowded or self._closing):
            self._held = False
            self._transport.resume_reading()

    def _begin(self, request: h11.Request) -> None:
        self._asked = request
        if request.http_version not in VERSIONS or len(request.headers) > MOST_HEADERS or request.method == b"CONNECT":
            raise ValueError("another version of HTTP, too many headers, or meant for a proxy")
        path, query = path_and_query(request.target)
        asked = Asked(request.method.decode("ascii"), path, query, combined(request.headers), self._client)
        bodies = ("content-length" in asked.headers) + ("transfer-encoding" in asked.headers)
        if bodies == 2:
            raise ValueError("two lengths: whoever passed it on may see another end of it")
        if bodies == 0:
            self._http.next_event()  # the end of the request
        self._unwanted_bytes = 0
        answer = self._service.answer(asked)
        if isinstance(answer, Sent):
            self._send(answer)
        else:
            self._deadline = None  # a handler has bounds of its own
            self._handling = asyncio.get_running_loop().create_task(self._handle(answer))

    async def _handle(self, answer: Coroutine[Any, Any, Sent]) -> None:
        try:
            sent = await answer
        except Exception as error:  # noqa: BLE001 - any fault of a service
            log.error("a request could not be answered: %s: %s", type(error).__name__, error)
            self.abort()
            return
        finally:
            self._handling = None
        if not self._transport.is_closing():
            self._send(sent)
            self._advance()

    def _leave_out(self, count: int) -> None:
        self._unwanted_bytes += count
        if self._unwanted_bytes > MOST_UNWANTED_BYTES:
            self._linger()

    def _refuse(self, error: Exception) -> None:
        if self._ended:  # half a request, and its client is gone
            self._close()
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(self._service.unreadable(type(error).__name__))
        if not self._closing:  # the body of a request that has been answered
            self._linger()

    # Answering

    def _send(self, sent: Sent) -> None:
        http, asked = self._http, self._asked
        headers = [*sent.headers.items(), ("Content-Length", str(len(sent.body)))]
        ends = sent.close or self._leaving or http.they_are_waiting_for_100_continue
        if ends:
            headers.append(("Connection", "close"))
        head = http.send(h11.Response(status_code=sent.status, headers=headers, reason=REASONS.get(sent.status, b"")))
        body = b"" if asked is not None and asked.method == b"HEAD" else sent.body
        if body:
            http.send_with_data_passthrough(h11.Data(data=body))
        http.send(h11.EndOfMessage())
        self._answered = True
        self._within(self._service.idle_seconds)
        self._write(head or b"", body)
        self._go_on()

    def _go_on(self) -> None:
        """An answer has been sent, or its request been read to the end: what follows."""
        http = self._http
        read = http.their_state in READ
        if http.our_state is h11.MUST_CLOSE:
            (self._close if read and not http.trailing_data[0] else self._linger)()
        elif read:
            http.start_next_cycle()
            self._asked = None

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) <= SMALL_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    # Ending

    def _close(self) -> None:
        """Closes when all is written, which has its time too."""
        self._closing = True
        self._within(self._service.idle_seconds)
        self._transport.close()

    def _linger(self) -> None:
        """Says that this is all, and lets the client say the rest, which nobody reads: closed over bytes unread, it
        would see a reset in place of its answer."""
        self._closing = True
        if self._ended:
            self._close()
            return
        self._lingering = True
        self._unwanted_bytes = 0
        self._within(LEAVING_SECONDS if self._leaving else LINGERING_SECONDS)
        if self._held:
            self._held = False
            self._transport.resume_reading()
        if self._transport.can_write_eof():  # TLS has no such half: the client goes by the header alone
            try:
                self._transport.write_eof()
            except OSError:  # it is gone already
                self.abort()

    def _within(self, seconds: float) -> None:
        """Sets the time by which something has to have happened. The timer is one, and moves when it is due."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, self._due)
        elif self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = loop.call_at(self._deadline, self._due)

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if self._deadline is None:
            return
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._due)
        elif self._transport.get_write_buffer_size():
            self._service.not_taken()
            self.abort()
        else:
            self._close()
