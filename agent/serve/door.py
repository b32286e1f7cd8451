"""This file counts who is in: every connection to the local endpoint, from when it was accepted until it is over.

    accepted ──▶ opening (with TLS: shaking hands) ──▶ answered ──▶ gone
       └── one more than there may be: closed at once, before any handshake

aiohttp knows a connection once it is open, which is a turn of the loop after it was accepted, and with TLS as late as
its client likes: until then it is counted here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.http import Server

if TYPE_CHECKING:
    from collections.abc import Callable


class Door(Server):
    """Makes the protocol of each connection. ``turned_away`` is told of each one more than ``most``."""

    def __init__(self, handler: Any, most: int, turned_away: Callable[[], None], **options: Any) -> None:
        super().__init__(handler, **options)
        self._most = most
        self._turned_away = turned_away
        self._opening: dict[Any, asyncio.Task[Any]] = {}

    def __call__(self) -> Any:
        """What asyncio calls for an accepted connection, in a task that ends when it is open or has failed to."""
        opening = asyncio.current_task()
        if len(self.connections) + len(self._opening) >= self._most:
            self._turned_away()
            if opening is not None:
                opening.cancel()
            return Closed()
        protocol = super().__call__()
        if opening is not None:
            self._opening[protocol] = opening
            opening.add_done_callback(lambda _: self._opening.pop(protocol, None))
        return protocol

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """Told by the protocol: from here on aiohttp counts it."""
        self._opening.pop(handler, None)
        super().connection_made(handler, transport)

    def close_unopened(self) -> None:
        """Ends handshakes that are under way."""
        for opening in self._opening.values():
            opening.cancel()


class Closed(asyncio.Protocol):
    """A connection more than there may be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
