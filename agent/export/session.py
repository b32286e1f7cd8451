"""This file posts requests for every destination that speaks HTTP, and says what became of each.

What comes back is an Answer, whatever its status: what a status means is a table of each protocol. What does not come
back is raised: Retry with ``answered`` False when the request may have arrived all the same, Hold when only a person
can help (a secret or certificate that cannot be read or is not trusted).
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from base64 import b64encode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec import Struct

from agent import __version__
from agent.errors import Hold, Retry
from agent.export.proxy import Proxy, proxy_of
from agent.http.addresses import Resolver
from agent.http.client import Client, NotConnectedError, ProxyRefusedError
from agent.secrets import resolve
from agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.contract import Context
    from agent.export.http_options import HttpDestinationOptions

MOST_ANSWER_BYTES: Final = 64 << 10
MOST_DETAIL_BYTES: Final = 1 << 10
REFUSING_WHO_ASKS: Final = frozenset({401, 403})
USER_AGENT: Final = f"telemetry-agent/{__version__}"
IDLE_SECONDS: Final = 50.0
"""Longer than most intervals, shorter than the minute after which load balancers close what is idle."""


class Answer(Struct, frozen=True):
    """What a server answered: header names in lower case, at most 64 KiB of the body, and the URL that was asked.

    ``text`` is the body for people: one line, at most 1 KiB, without secrets and without what a terminal would obey.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    text: str = ""

    @property
    def content_type(self) -> str:
        """The media type alone, in lower case; empty when the server gave none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def retry_after_seconds(self, now_ns: int) -> float | None:
        """What ``Retry-After`` asks for (RFC 9110, section 10.2.3: seconds or a date); None without one."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return float(value[:9])
        return _seconds_until(value, now_ns) if value else None


def _seconds_until(date: str, now_ns: int) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - now_ns / 1e9)


def printable(text: str, most_bytes: int = MOST_DETAIL_BYTES) -> str:
    """``text`` cut to ``most_bytes`` and made one line, other unprintable characters replaced."""
    line = " ".join(text[:most_bytes].split())
    return "".join(c if c.isprintable() else "\ufffd" for c in line).encode()[:most_bytes].decode(errors="ignore")


class Session:
    """One destination's connections. Secrets and certificates are read at the first request, and again after a 401,
    a 403 or a Hold: the file may hold a new token, or another authority, by then. Where it does, it is asked again."""

    def __init__(self, options: HttpDestinationOptions, ctx: Context, worker: Worker) -> None:
        self._options = options
        self._ctx = ctx
        self._worker = worker
        self._client: Client | None = None
        self._headers: dict[str, str] = {}
        self._opening = asyncio.Lock()

    async def post(self, url: str, body: bytes | Sequence[bytes], headers: Mapping[str, str]) -> Answer:
        """Posts ``body`` and returns the answer, redirects not followed. Raises Retry or Hold as this file says."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        client = await self._open(url)
        sent = self._headers
        answer = await self._answer(client, url, pieces, headers)
        if answer.status in REFUSING_WHO_ASKS and await self._reads_another(url, sent):
            answer = await self._answer(await self._open(url), url, pieces, headers)
        if answer.status in REFUSING_WHO_ASKS:
            await self.close()
        return answer

    async def _reads_another(self, url: str, sent: dict[str, str]) -> bool:
        """Whether a secret was rotated since ``sent`` was made of it."""
        if self._headers is sent:
            await self.close()
            await self._open(url)
        return self._headers != sent

    async def _answer(self, client: Client, url: str, pieces: list[bytes], headers: Mapping[str, str]) -> Answer:
        proxy = proxy_of(url, self._ctx.host.environ)
        try:
            return await self._exchange(client, url, pieces, headers, proxy)
        except (NotConnectedError, ProxyRefusedError, OSError) as error:
            refusal = _refusal_of(error, url, self._options.timeout_seconds)
            refusal.detail = self.mask(refusal.detail)
            refusal.args = (f"{refusal.reason}: {refusal.detail}",)
            if isinstance(refusal, Hold):
                await self.close()
            raise refusal from None

    def mask(self, text: str) -> str:
        """``text`` without this agent's secrets: a server may quote what it was sent."""
        return self._ctx.secrets.mask(text)

    async def close(self) -> None:
        """Lets go of the connections; the next request reads secrets and certificates anew."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _exchange(
        self, client: Client, url: str, pieces: list[bytes], headers: Mapping[str, str], proxy: Proxy | None
    ) -> Answer:
        sent = {**self._headers, **headers}
        reply = await client.request("POST", url, sent, pieces, proxy=proxy, most_bytes=MOST_ANSWER_BYTES)
        text = printable(self.mask(reply.body.decode(errors="replace"))) if reply.body else ""
        return Answer(url, reply.status, reply.headers, reply.body, text)

    async def _open(self, url: str) -> Client:
        async with self._opening:
            if self._client is None:
                proxy = proxy_of(url, self._ctx.host.environ)
                encrypted = url.startswith("https:") or (proxy is not None and proxy.url.startswith("https:"))
                self._headers, context = await self._worker.run(self._read_files, encrypted)
                if proxy is not None:
                    self._ctx.secrets.register(proxy.password)
                self._client = Client(
                    Resolver(self._worker),
                    context,
                    within_seconds=self._options.timeout_seconds,
                    connecting_seconds=self._options.connect_timeout_seconds,
                    idle_seconds=IDLE_SECONDS,
                )
            return self._client

    def _read_files(self, encrypted: bool) -> tuple[dict[str, str], ssl.SSLContext | None]:
        options = self._options
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"} | options.headers
        for value in options.headers.values():
            self._ctx.secrets.register(value)
        try:
            headers |= self._authorization()
        except (OSError, ValueError) as error:
            raise Hold("secret_unreadable", str(error)) from None
        if not encrypted:
            return headers, None
        from agent.http.tls import tls_context

        given = (options.ca_file, options.cert_file, options.key_file)
        try:
            files = [str(resolve(file, self._ctx.host.environ)) if file else None for file in given]
            context = tls_context(*files)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            named = ", ".join(filter(None, given)) or "the system's certificates"
            why = getattr(error, "strerror", None) or error
            raise Hold("certificate_unreadable", f"{named}: {why}; give PEM files") from None
        if options.key_file:
            self._ctx.secrets.was_read(options.key_file)
        return headers, context

    def _authorization(self) -> dict[str, str]:
        options = self._options
        file = options.password_file or options.token_file
        if file is None:
            return {}
        secret = self._ctx.secrets.read_file(file, self._ctx.host.environ)
        if not secret.isprintable():
            raise ValueError(f"{file}: holds more than one line; write the secret as its only line")
        if options.user is None:
            return {"Authorization": f"Bearer {secret}"}
        both = f"{options.user}:{secret}".encode()
        return {"Authorization": f"Basic {b64encode(both).decode()}"}


def _refusal_of(  # noqa: PLR0911 - one case a line: a table
    error: NotConnectedError | ProxyRefusedError | OSError, url: str, timeout_seconds: float
) -> Retry | Hold:
    """What an exchange without an answer means."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    match error:
        case NotConnectedError(why=ssl.SSLCertVerificationError() as distrust):
            why = printable(_said(distrust))
            return Hold("certificate_not_trusted", f"{where}: {why}; set ca_file to the authority that signed it")
        case ProxyRefusedError(status=407):
            return Hold("proxy_refused", f"the proxy on the way to {where} wants a password: put it in the proxy's URL")
        case ProxyRefusedError():
            return Retry("proxy_failed", f"the proxy on the way to {where} answered {error.status}")
        case NotConnectedError(why=None):
            return Retry("unreachable", f"{where}: no connection within the time for connecting")
        case NotConnectedError():
            return Retry("unreachable", f"{where}: {_refused(error.why)}")
        case TimeoutError():
            return Retry("timeout", f"{where}: no answer within {timeout_seconds:g} s", answered=False)
        case OSError():
            return Retry("connection_lost", f"{where}: {_why(error)}", answered=False)


def _said(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's words without the place in its own code."""
    return error.verify_message or str(error)


def _refused(error: Exception | None) -> str:
    """The system's words where it has some: asyncio's are a failed call and a tuple. OpenSSL numbers its own."""
    number = getattr(error, "errno", None)
    if number is None or number not in errno.errorcode or isinstance(error, ssl.SSLError):
        return _why(error)
    return os.strerror(number)


def _why(error: Exception | None) -> str:
    strerror = getattr(error, "strerror", None)
    return printable(str(strerror or error or type(error).__name__))


@asynccontextmanager
async def open_session(options: HttpDestinationOptions, ctx: Context) -> AsyncIterator[Session]:
    """A session for one destination. Entering reads nothing and connects nowhere; leaving closes what was opened."""
    with Worker(f"{ctx.name}-files") as worker:
        session = Session(options, ctx, worker)
        try:
            yield session
        finally:
            await session.close()
