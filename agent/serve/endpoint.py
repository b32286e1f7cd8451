"""This file is the local endpoint: a handful of paths on one address, for scrapers, probes and people with curl.

Every bound is here: connections, the size of a request, how long one may take to arrive and an answer to be taken.
Whatever arrives that is no HTTP is answered 400, counted, and reaches nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from agent.audit import Refusals, credential
from agent.errors import AgentError
from agent.ownlogs import Repeating
from agent.secrets import resolve
from agent.serve.options import ServeOptions, split_listen
from agent.serve.routes import (
    METHODS,
    Request,
    Response,
    Routes,
    accepts_gzip,
    combined,
    gzipped,
    json_response,
    refusal,
    with_aliases,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

    from agent.clock import Clock
    from agent.http import BaseRequest, StreamResponse
    from agent.ownmetrics import Meter

log = logging.getLogger("telemetry_agent.serve")

HANDLER_SECONDS: Final = 10.0
LINGERING_SECONDS: Final = 1.0
SHUTDOWN_SECONDS: Final = 1.0
LEAST_GZIP_BYTES: Final = 1024
BACKLOG: Final = 1024
REFUSED: Final = {401: "unauthorized", 404: "unknown_path", 405: "method_not_allowed"}
"""What a refusal is called in the audit log."""
SECURITY_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class EndpointError(AgentError):
    """The endpoint cannot be opened; the message says why and what to do."""


class Endpoint(Struct, frozen=True):
    """Where it listens. ``addresses`` holds the address and the port of each socket, as the kernel gave them."""

    addresses: tuple[tuple[str, int], ...]
    scheme: str = "http"

    @property
    def url(self) -> str:
        """The URL of its root, on the first address."""
        host, port = self.addresses[0]
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@asynccontextmanager
async def open_endpoint(
    options: ServeOptions,
    routes: Routes,
    *,
    clock: Clock,
    meter: Meter,
    token: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Endpoint]:
    """Answers ``routes`` until it is left; raises EndpointError where it cannot listen or read its certificate.

    ``token`` is what ``options.token_file`` holds. Answers under way when it is left have a second to be taken.
    """
    from agent.serve.door import Door

    context = _tls(options, environ or {})
    refusals = Refusals(clock)
    answering = _Answering(with_aliases(routes), token, options, clock, meter, refusals)

    def turned_away() -> None:
        meter.add("telemetry_agent_serve_refused_total", labels=("too_many",))
        refusals.note("too_many_connections")

    door = Door(
        answering.answer,
        options.max_connections,
        turned_away,
        access_log=None,
        logger=_Unreadable(meter, clock, refusals),
        keepalive_timeout=options.idle_seconds,
        lingering_time=LINGERING_SECONDS,
    )
    listening = await _listen(options, door, context)
    counting = asyncio.ensure_future(refusals.turn())
    try:
        sockets = (bound.getsockname() for bound in listening.sockets)
        yield Endpoint(tuple((name[0], name[1]) for name in sockets), "https" if context else "http")
    finally:
        listening.close()
        door.close_unopened()
        door.pre_shutdown()
        await door.shutdown(SHUTDOWN_SECONDS)
        await listening.wait_closed()
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting
        refusals.flush()


class _Answering:
    """Turns what aiohttp parsed into a Request, and a Response into what it sends."""

    def __init__(
        self,
        routes: Routes,
        token: str | None,
        options: ServeOptions,
        clock: Clock,
        meter: Meter,
        refusals: Refusals,
    ) -> None:
        self._refusals = refusals
        self._routes = routes
        self._token = token
        self._take_seconds = options.idle_seconds
        self._clock = clock
        self._meter = meter
        self._failing = {path: Repeating(log, clock.monotonic_seconds) for path in routes}

    async def answer(self, asked: BaseRequest) -> StreamResponse:
        from agent import http

        began = self._clock.monotonic_seconds()
        request = Request(
            asked.path,
            asked.method,
            dict(asked.query),
            combined(asked.headers.items()),
        )
        refused = refusal(request, self._routes, self._token)
        if refused is not None:
            asked_for = {"path": request.path[:100], "method": request.method[:20]}
            self._refusals.note(REFUSED[refused.status], client=asked.remote, **asked_for)
        response = refused or await self._handled(request)
        self._count(request, response, began)
        body, headers = _encoded(request, response)
        sent = http.Response(status=response.status, body=body, headers=headers)
        if request.method not in METHODS:
            sent.force_close()  # its body is of no interest, and what follows it cannot be trusted to be a request
        await self._send(asked, sent)
        return sent

    async def _handled(self, request: Request) -> Response:
        failing = self._failing[request.path]
        try:
            async with asyncio.timeout(HANDLER_SECONDS):
                made = self._routes[request.path](request)
                response = await made if inspect.isawaitable(made) else made
        except TimeoutError:
            failing.failed("late", f"{request.path} was not answered within {HANDLER_SECONDS:g} s")
            return json_response({"error": f"no answer within {HANDLER_SECONDS:g} s; try again"}, 503)
        except Exception as error:
            kind = type(error).__name__
            if failing.failed(kind, f"{request.path} could not be answered", error=str(error)):
                log.debug("why %s could not be answered", request.path, exc_info=error)
            return json_response({"error": f"{kind}; the agent's own log says more"}, 500)
        failing.recovered(f"{request.path} is answered again")
        return response

    async def _send(self, asked: BaseRequest, sent: Any) -> None:
        try:
            async with asyncio.timeout(self._take_seconds):
                await sent.prepare(asked)
                await sent.write_eof()
        except TimeoutError:
            self._meter.add("telemetry_agent_serve_refused_total", labels=("not_taken",))
            if asked.transport is not None:
                asked.transport.abort()
            raise ConnectionResetError("the client did not take the answer") from None

    def _count(self, request: Request, response: Response, began: float) -> None:
        path = request.path if request.path in self._routes else "other"
        self._meter.add("telemetry_agent_serve_requests_total", labels=(path, str(response.status)))
        self._meter.observe(
            "telemetry_agent_serve_duration_seconds", self._clock.monotonic_seconds() - began, labels=(path,)
        )


class _Unreadable:
    """The logger given to aiohttp: what it would log, with a stack, for each thing that is no HTTP is counted."""

    def __init__(self, meter: Meter, clock: Clock, refusals: Refusals) -> None:
        self._meter = meter
        self._refusals = refusals
        self._failing = Repeating(log, clock.monotonic_seconds)

    def debug(self, message: str, *_: object, exc_info: object = None) -> None:
        self._note(message, exc_info)

    def exception(self, message: str, *_: object, exc_info: object = None) -> None:
        self._note(message, exc_info)

    def warning(self, message: str, *_: object) -> None:
        self._failing.failed("warning", message)

    def _note(self, message: str, error: object) -> None:
        if not message.startswith("Error handling request"):
            return
        self._meter.add("telemetry_agent_serve_requests_total", labels=("other", "400"))
        self._refusals.note("unreadable", kind=type(error).__name__)
        self._failing.failed(
            "unreadable", "something that is no HTTP request was refused", level=logging.INFO, kind=type(error).__name__
        )


def _encoded(request: Request, response: Response) -> tuple[bytes, dict[str, str]]:
    headers = {**SECURITY_HEADERS, **response.headers, "Content-Type": response.content_type}
    if len(response.body) < LEAST_GZIP_BYTES or "Content-Encoding" in headers:
        return response.body, headers
    headers["Vary"] = "Accept-Encoding"
    if not accepts_gzip(request.headers.get("accept-encoding", "")):
        return response.body, headers
    headers["Content-Encoding"] = "gzip"
    return gzipped(response.body), headers


def _tls(options: ServeOptions, environ: Mapping[str, str]) -> ssl.SSLContext | None:
    if not options.cert_file:
        return None
    from agent.http import server_ssl_context

    files = (options.cert_file, options.key_file, options.client_ca_file)
    try:
        cert, key, authorities = (str(resolve(file, environ)) if file else None for file in files)
        context = server_ssl_context(str(cert), key, authorities)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise EndpointError(
            f"[serve] cert_file {options.cert_file}, key_file {options.key_file}: {error}; "
            "give PEM files that belong together and that this user may read"
        ) from error
    if options.key_file:
        credential("read", options.key_file)
    return context


async def _listen(options: ServeOptions, connection: Any, context: ssl.SSLContext | None) -> asyncio.Server:
    host, port = split_listen(options.listen)
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(
            connection,
            host,
            port,
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=options.idle_seconds if context else None,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS if context else None,
        )
    except OSError as error:
        raise EndpointError(f'[serve] listen = "{options.listen}": {_next_step(error, port)}') from error


def _next_step(error: OSError, port: int) -> str:
    import errno

    steps = {
        errno.EADDRINUSE: f"another program has this port (ss -ltnp 'sport = :{port}' shows which); "
        "stop it or choose another port",
        errno.EACCES: "this user may not open a port below 1024; choose a higher one",
        errno.EADDRNOTAVAIL: "this machine has no such address (ip addr lists them); choose one it has",
    }
    return steps.get(error.errno or 0, f"{error.strerror or error}; choose an address of this machine")
