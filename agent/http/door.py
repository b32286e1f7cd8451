"""This file counts who is in: every connection to a listening socket, from when it was accepted until it is over.

accepted ──▶ opening (with TLS: shaking hands) ──▶ answered ──▶ gone
   └── one more than there may be: closed at once, before any handshake
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.http.answering import Answering

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.http.answering import Service


class Door:
    """Makes the protocol of each connection: what ``create_server`` calls. ``turned_away`` is told of each one more
    than ``most``."""

    def __init__(self, service: Service, most: int, turned_away: Callable[[], None]) -> None:
        self._service = service
        self._most = most
        self._turned_away = turned_away
        self._opening: dict[Answering, asyncio.Task[Any]] = {}
        self._open: set[Answering] = set()
        self._empty: asyncio.Future[None] | None = None

    def __call__(self) -> asyncio.BaseProtocol:
        """What asyncio calls for an accepted connection, in a task that ends when it is open or has failed to."""
        opening = asyncio.current_task()
        if len(self._open) + len(self._opening) >= self._most:
            self._turned_away()
            if opening is not None:
                opening.cancel()
            return Closed()
        connection = Answering(self._service, self._entered, self._left)
        if opening is not None:
            self._opening[connection] = opening
            opening.add_done_callback(lambda _: self._opening.pop(connection, None))
        return connection

    async def close(self, within_seconds: float) -> None:
        """Ends handshakes and idle connections at once, the others after their answer, or after ``within_seconds``."""
        for opening in list(self._opening.values()):
            opening.cancel()
        for connection in list(self._open):
            connection.finish()
        await self._gone(within_seconds)
        for connection in list(self._open):
            connection.abort()
        await self._gone(within_seconds)

    def _entered(self, connection: Answering) -> None:
        self._opening.pop(connection, None)
        self._open.add(connection)

    def _left(self, connection: Answering) -> None:
        self._open.discard(connection)
        if not self._open and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def _gone(self, within_seconds: float) -> None:
        if self._open:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=within_seconds)


class Closed(asyncio.Protocol):
    """A connection more than there may be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
