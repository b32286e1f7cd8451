"""This file lets clients in and counts who is there: every connection from when it is accepted until it is over.

waiting in the kernel ──▶ accepted ──▶ opening (with TLS: shaking hands) ──▶ answered ──▶ gone
                             └── one more than there may be: closed at once, before any handshake

A door that closes leaves who has not been accepted to whoever else holds the sockets: the next one of a reload, or
systemd. Who has been accepted is answered what was asked; who asks nothing within a moment is let go.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from agent.http.answering import ASKING_SECONDS, Answering
from agent.ownlogs.lines import Repeating

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from agent.http.answering import Service

log = logging.getLogger("telemetry_agent.http")

MOST_ACCEPTED: Final = 64
"""How many are accepted before whatever else the loop has to do."""
NO_ROOM_SECONDS: Final = 1.0
TLS_END_SECONDS: Final = 1.0
_NO_ROOM: Final = {
    errno.EMFILE: "raise LimitNOFILE of the unit",
    errno.ENFILE: "raise fs.file-max",
    errno.ENOBUFS: "the kernel has no memory for it",
    errno.ENOMEM: "the kernel has no memory for it",
}
"""Why nobody can be accepted for a while, and what helps."""


class Door:
    """Lets at most ``most`` in at a time; ``turned_away`` is told of each one more."""

    def __init__(self, service: Service, most: int, turned_away: Callable[[], None]) -> None:
        self._service = service
        self._most = most
        self._turned_away = turned_away
        self._listening: list[socket.socket] = []
        self._resting: set[asyncio.TimerHandle] = set()
        self._tls: ssl.SSLContext | None = None
        self._opening: dict[Answering, asyncio.Task[None]] = {}
        self._open: set[Answering] = set()
        self._empty: asyncio.Future[None] | None = None
        self._closing = False
        self._no_room = Repeating(log)

    def open(self, listening: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Accepts from these sockets, which listen already, from now on; closing the door closes them."""
        self._tls = tls
        for each in listening:
            each.setblocking(False)
            self._listening.append(each)
            self._accept_from(each)

    async def close(self, within_seconds: float) -> None:
        """Accepts nobody any more and ends every connection: between two requests at once, behind the answer to what
        was asked, and after ``within_seconds`` whatever it is about."""
        self._closing = True
        self._stop_accepting()
        for connection in list(self._open):
            connection.finish()
        if self._opening:
            await asyncio.wait(self._opening.values(), timeout=min(ASKING_SECONDS, within_seconds))
        for opening in list(self._opening.values()):
            opening.cancel()
        await self._gone(within_seconds)
        for connection in list(self._open):
            connection.abort()
        await self._gone(within_seconds)

    # Accepting

    def _accept_from(self, listening: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _stop_accepting(self) -> None:
        loop = asyncio.get_running_loop()
        for each in self._listening:
            loop.remove_reader(each.fileno())
            each.close()
        self._listening.clear()
        for timer in self._resting:
            timer.cancel()
        self._resting.clear()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(MOST_ACCEPTED):
            try:
                accepted, _address = listening.accept()
            except (BlockingIOError, InterruptedError):
                self._no_room.recovered("whoever connects is accepted again")
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._rest(listening, error)
                    return
                continue  # gone before it was accepted
            self._let_in(accepted)

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        """Without room the kernel would tell of who waits again and again: a while without it."""
        why = f"{error.strerror}; {_NO_ROOM[error.errno or 0]}"
        self._no_room.failed(why, f"no connection can be accepted: {why}")
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())

        def again() -> None:
            self._resting.discard(timer)
            self._accept_from(listening)

        timer = loop.call_later(NO_ROOM_SECONDS, again)
        self._resting.add(timer)

    def _let_in(self, accepted: socket.socket) -> None:
        if len(self._open) + len(self._opening) >= self._most:
            self._turned_away()
            accepted.close()
            return
        accepted.setblocking(False)
        connection = Answering(self._service, self._entered, self._left)
        opening = asyncio.get_running_loop().create_task(self._opened(connection, accepted))
        self._opening[connection] = opening
        opening.add_done_callback(lambda _: self._opening.pop(connection, None))

    async def _opened(self, connection: Answering, accepted: socket.socket) -> None:
        """Returns when it is open, or has failed to: shaking hands takes as long as a request may."""
        tls_seconds = self._service.idle_seconds if self._tls else None
        with suppress(OSError):  # ssl.SSLError, a reset and no handshake in time are such
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=tls_seconds,
                ssl_shutdown_timeout=TLS_END_SECONDS if self._tls else None,
            )

    # Who is in

    def _entered(self, connection: Answering) -> None:
        self._opening.pop(connection, None)
        self._open.add(connection)
        if self._closing:
            connection.finish()

    def _left(self, connection: Answering) -> None:
        self._open.discard(connection)
        if not self._open and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def _gone(self, within_seconds: float) -> None:
        if self._open:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=within_seconds)
