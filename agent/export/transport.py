"""This file is what the HTTP client is given in place of its own: how a body is written and how a name is resolved."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

from agent import http

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.worker import Worker

SLICE_BYTES: Final = 64 << 10
"""What is handed to the socket at once: what it does not take is copied, so more would be memory for nothing."""

_Address = tuple[socket.AddressFamily, int, str]
"""Family, protocol, numeric address."""


class Pieces(http.Payload):
    """A body of known length, written slice by slice so that the loop turns in between."""

    _autoclose = True

    def __init__(self, pieces: Sequence[bytes]) -> None:
        super().__init__(pieces, content_type="application/octet-stream")
        self._size = sum(map(len, pieces))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text; part of the client's interface."""
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: http.AbstractStreamWriter) -> None:
        """Writes all of it; part of the client's interface."""
        for piece in self._value:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE_BYTES):
                await writer.write(view[start : start + SLICE_BYTES])


class WorkerResolver(http.AbstractResolver):
    """Resolves names on a worker. The loop's own way uses threads the interpreter waits for when it exits, and a
    resolver that does not answer takes up to half a minute."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._under_way: dict[tuple[str, int, int], asyncio.Future[list[_Address]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[http.ResolveResult]:
        """The addresses of ``host``. A second question while the first is under way waits for the same answer."""
        key = (host, port, family)
        asked = self._under_way.get(key)
        if asked is None:
            asked = asyncio.ensure_future(self._worker.run(_addresses, host, port, family))
            self._under_way[key] = asked
            asked.add_done_callback(lambda done: self._forget(key, done))
        return [
            http.ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=found,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, proto, address in await asyncio.shield(asked)
        ]

    def _forget(self, key: tuple[str, int, int], done: asyncio.Future[list[_Address]]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # whoever still waits sees it; nobody else need hear of it

    async def close(self) -> None:
        """Stops waiting for what is under way; part of the client's interface."""
        for asked in list(self._under_way.values()):
            asked.cancel()


def _addresses(host: str, port: int, family: int) -> list[_Address]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(family, proto, str(address[0])) for family, _, proto, _, address in found]
