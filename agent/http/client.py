"""This file sends requests over connections that it keeps: to a server, through a proxy, or through a proxy's tunnel.

http://server                    connection to the server
http://server    by a proxy      connection to the proxy; the request names the whole URL
https://server                   connection to the server, TLS
https://server   by a proxy      connection to the proxy, CONNECT, TLS with the server inside
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import h11
from msgspec import Struct

from agent.http.addresses import connected
from agent.http.exchange import Connection, LostError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.http.addresses import Resolver
    from agent.http.exchange import Reply

SHUTDOWN_SECONDS: Final = 1.0
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_keep_alive: Final = re.compile(r"(?:^|[,\s])timeout\s*=\s*(\d{1,9})", re.IGNORECASE).search
SAFE: Final = "%/:@!$&'()*+,;=~?[]"
"""What a path and a query may hold as it is (RFC 3986, section 3.3)."""


class NotConnectedError(Exception):
    """Nothing was sent: there is no connection. ``why`` is what the system said, None when it took too long."""

    def __init__(self, why: Exception | None = None) -> None:
        super().__init__(str(why or "no connection within the time for connecting"))
        self.why = why


class ProxyRefusedError(Exception):
    """The proxy did not open a tunnel."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy answered {status}")
        self.status = status


class Via(Struct, frozen=True):
    """A proxy, and the headers that it wants."""

    url: str
    headers: Mapping[str, str]


class Target(Struct, frozen=True):
    """A URL taken apart: where to connect to, what the ``Host`` header says, and the path with the query."""

    encrypted: bool
    host: str
    port: int
    authority: str
    path: str


class Client:
    """Connections of one kind: the same patience, the same TLS. Nothing is resolved or opened before it is needed."""

    def __init__(
        self,
        resolver: Resolver,
        tls: ssl.SSLContext | None,
        *,
        within_seconds: float,
        connecting_seconds: float,
        idle_seconds: float,
    ) -> None:
        self._resolver = resolver
        self._tls = tls
        self._within_seconds = within_seconds
        self._connecting_seconds = connecting_seconds
        self._idle_seconds = idle_seconds
        self._idle: dict[tuple[str, str], list[tuple[Connection, asyncio.TimerHandle]]] = {}
        self._closed = False

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        pieces: Sequence[bytes],
        *,
        proxy: Via | None = None,
        most_bytes: int,
    ) -> Reply:
        """The answer, with at most ``most_bytes`` of its body; redirects are not followed.

        Raises NotConnectedError or ProxyRefusedError where nothing was sent, TimeoutError, LostError or OSError where
        an answer was not seen.
        """
        target = target_of(url)
        asked = _request(method, target, headers, pieces, proxy)
        key = (f"{target.encrypted}{target.authority}", proxy.url if proxy else "")
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._within_seconds):
                connection = self._kept(key) or await self._connected(target, proxy)
                if not connection.idle:
                    raise NotConnectedError(LostError("the connection was closed before the request"))
                reply = await connection.exchange(asked, pieces, most_bytes)
        except TimeoutError:
            if connection is None:
                raise NotConnectedError from None
            raise
        self._keep(key, connection, min(self._idle_seconds, _kept_seconds(reply)))
        return reply

    async def close(self) -> None:
        """Closes what is kept; requests under way keep their connections, which are closed after them."""
        self._closed = True
        self._resolver.close()
        while self._idle:
            for connection, timer in self._idle.popitem()[1]:
                timer.cancel()
                connection.abort()
        await asyncio.sleep(0)  # the loop closes sockets on its next turn

    def _kept(self, key: tuple[str, str]) -> Connection | None:
        while kept := self._idle.get(key):
            connection, timer = kept.pop()
            timer.cancel()
            if connection.usable:
                return connection
            connection.abort()
        return None

    def _keep(self, key: tuple[str, str], connection: Connection, seconds: float) -> None:
        if self._closed or not connection.idle or seconds <= 0:
            connection.abort()
            return
        timer = asyncio.get_running_loop().call_later(seconds, connection.abort)
        self._idle.setdefault(key, []).append((connection, timer))

    async def _connected(self, target: Target, proxy: Via | None) -> Connection:
        try:
            async with asyncio.timeout(self._connecting_seconds):
                return await self._to(target) if proxy is None else await self._by(proxy, target)
        except TimeoutError as error:
            raise NotConnectedError(error if error.errno else None) from None
        except OSError as error:
            raise NotConnectedError(error) from None

    async def _by(self, proxy: Via, target: Target) -> Connection:
        connection = await self._to(target_of(proxy.url))
        if not target.encrypted:
            return connection
        where = target.authority if _has_port(target.authority) else f"{target.authority}:{target.port}"
        headers = [("Host", where), *proxy.headers.items()]
        try:
            reply = await connection.exchange(h11.Request(method="CONNECT", target=where, headers=headers), (), 0)
            if not 200 <= reply.status < 300:
                raise ProxyRefusedError(reply.status)
            await connection.encrypt(self._context(), target.host, self._connecting_seconds)
        except BaseException:  # cancelled as well: half a tunnel is of use to nobody
            connection.abort()
            raise
        return connection

    async def _to(self, target: Target) -> Connection:
        opened = await connected(await self._resolver.resolve(target.host, target.port))
        loop = asyncio.get_running_loop()
        if not target.encrypted:
            return (await loop.create_connection(Connection, sock=opened))[1]
        _, connection = await loop.create_connection(
            Connection,
            sock=opened,
            ssl=self._context(),
            server_hostname=target.host.rstrip("."),
            ssl_handshake_timeout=self._connecting_seconds,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
        return connection

    def _context(self) -> ssl.SSLContext:
        from agent.http.tls import default_ssl_context

        return self._tls or default_ssl_context()


@functools.lru_cache(maxsize=64)
def target_of(url: str) -> Target:
    """The parts of an ``http`` or ``https`` URL; a user and a password in it are left out."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode()
    default = DEFAULT_PORTS[parts.scheme]
    port = parts.port or default
    named = f"[{host}]" if ":" in host else host
    path = quote(parts.path or "/", SAFE) + (f"?{quote(parts.query, SAFE)}" if parts.query else "")
    return Target(parts.scheme == "https", host, port, named if port == default else f"{named}:{port}", path)


def _kept_seconds(reply: Reply) -> float:
    """For how long the server will keep the connection, less a second in which its end may be on the way.

    ``Keep-Alive: timeout=5``, as most servers write it that close so early (RFC 2068, section 19.7.1.1).
    """
    found = _keep_alive(reply.headers.get("keep-alive", ""))
    return float(found[1]) - 1.0 if found else float("inf")


def _has_port(authority: str) -> bool:
    return authority.rpartition(":")[2].isdigit() and not authority.endswith("]")


def _request(
    method: str, target: Target, headers: Mapping[str, str], pieces: Sequence[bytes], proxy: Via | None
) -> h11.Request:
    where = target.path
    given = [(b"Host", target.authority.encode())]
    given += [(name.encode(), value.strip().encode()) for name, value in headers.items()]
    if proxy is not None and not target.encrypted:
        where = f"http://{target.authority}{target.path}"
        given += [(name.encode(), value.encode()) for name, value in proxy.headers.items()]
    given.append((b"Content-Length", b"%d" % sum(map(len, pieces))))
    return h11.Request(method=method, target=where, headers=given)
