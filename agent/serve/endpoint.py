"""This file is the local endpoint: a handful of paths on one address, for scrapers, probes and people with curl.

Every bound is here: connections, the size of a request, how long one may take to arrive and an answer to be taken.
Whatever arrives that is no HTTP is answered 400, counted, and reaches nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from agent.clock import NANOSECONDS
from agent.errors import AgentError
from agent.http.answering import Sent
from agent.http.asked import http_date, parameters
from agent.ownlogs.audit import Refusals, credential
from agent.ownlogs.lines import Repeating
from agent.secrets import resolve
from agent.serve.options import ServeOptions, split_listen
from agent.serve.routes import (
    METHODS,
    Request,
    Response,
    Routes,
    accepts_gzip,
    gzipped,
    json_response,
    refusal,
    with_aliases,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping, Sequence

    from agent.clock import Clock
    from agent.http.asked import Asked
    from agent.ownmetrics import Meter

log = logging.getLogger("telemetry_agent.serve")

HANDLER_SECONDS: Final = 10.0
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
    sockets: tuple[Any, ...] = ()

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
    sockets: Sequence[socket.socket] = (),
) -> AsyncIterator[Endpoint]:
    """Answers ``routes`` until it is left; raises EndpointError where it cannot listen or read its certificate.

    ``token`` is what ``options.token_file`` holds. ``sockets`` that listen already, and are closed with it, take the
    place of ``options.listen``. Answers under way when it is left have a second to be taken.
    """
    from agent.http.door import Door

    context = _tls(options, environ or {})
    async with _auditing(clock) as refusals:
        service = _Service(with_aliases(routes), token, options.idle_seconds, clock, meter, refusals)
        door = Door(service, options.max_connections, service.turned_away)
        bound = tuple(sockets) or await _bound(options)
        door.open(bound, context)
        try:
            names = (each.getsockname() for each in bound)
            yield Endpoint(tuple((name[0], name[1]) for name in names), "https" if context else "http", bound)
        finally:
            await door.close(SHUTDOWN_SECONDS)


@asynccontextmanager
async def _auditing(clock: Clock) -> AsyncIterator[Refusals]:
    """Takes note of who is refused; the audit log has it once in a while, and all of it in the end."""
    refusals = Refusals(clock)
    telling = asyncio.ensure_future(refusals.turn())
    try:
        yield refusals
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
        refusals.flush()


class _Service:
    """Makes a Request of what was asked, and what is sent of a Response: counted, encoded, within its time."""

    def __init__(
        self, routes: Routes, token: str | None, idle_seconds: float, clock: Clock, meter: Meter, refusals: Refusals
    ) -> None:
        self.idle_seconds = idle_seconds
        self._refusals = refusals
        self._routes = routes
        self._token = token
        self._clock = clock
        self._meter = meter
        self._failing = {path: Repeating(log, clock.monotonic_seconds) for path in routes}
        self._unreadable = Repeating(log, clock.monotonic_seconds)
        self._dated = (0, "")

    def answer(self, asked: Asked) -> Sent | Coroutine[Any, Any, Sent]:
        """What is sent, at once where the handler is a plain function."""
        began = self._clock.monotonic_seconds()
        request = Request(asked.path, asked.method, parameters(asked.query), asked.headers)
        response = refusal(request, self._routes, self._token)
        if response is not None:
            asked_for = {"path": request.path[:100], "method": request.method[:20]}
            self._refusals.note(REFUSED[response.status], client=asked.client, **asked_for)
            return self._sent(request, response, began)
        try:
            made = self._routes[request.path](request)
        except Exception as error:  # noqa: BLE001 - any fault of a handler
            return self._sent(request, self._failed(request, error), began)
        if isinstance(made, Response):
            self._failing[request.path].recovered(f"{request.path} is answered again")
            return self._sent(request, made, began)
        return self._awaited(request, made, began)

    def unreadable(self, why: str) -> Sent:
        """The answer to what is no HTTP request; counted, and logged when it begins."""
        self._meter.add("telemetry_agent_serve_requests_total", labels=("other", "400"))
        self._refusals.note("unreadable", kind=why)
        said = "something that is no HTTP request was refused"
        self._unreadable.failed("unreadable", said, level=logging.INFO, kind=why)
        response = json_response({"error": "this is no HTTP/1.1 request that can be read"}, 400)
        return Sent(400, self._headers(response), response.body, close=True)

    def turned_away(self) -> None:
        """A connection more than there may be was closed."""
        self._meter.add("telemetry_agent_serve_refused_total", labels=("too_many",))
        self._refusals.note("too_many_connections")

    def not_taken(self) -> None:
        """Somebody did not take the answer in time."""
        self._meter.add("telemetry_agent_serve_refused_total", labels=("not_taken",))

    async def _awaited(self, request: Request, made: Awaitable[Response], began: float) -> Sent:
        try:
            async with asyncio.timeout(HANDLER_SECONDS):
                response = await made
        except TimeoutError:
            late = f"{request.path} was not answered within {HANDLER_SECONDS:g} s"
            self._failing[request.path].failed("late", late)
            response = json_response({"error": f"no answer within {HANDLER_SECONDS:g} s; try again"}, 503)
        except Exception as error:  # noqa: BLE001 - any fault of a handler
            response = self._failed(request, error)
        else:
            self._failing[request.path].recovered(f"{request.path} is answered again")
        return self._sent(request, response, began)

    def _failed(self, request: Request, error: Exception) -> Response:
        kind = type(error).__name__
        failing = self._failing[request.path]
        if failing.failed(kind, f"{request.path} could not be answered", error=str(error)):
            log.debug("why %s could not be answered", request.path, exc_info=error)
        return json_response({"error": f"{kind}; the agent's own log says more"}, 500)

    def _sent(self, request: Request, response: Response, began: float) -> Sent:
        path = request.path if request.path in self._routes else "other"
        seconds = self._clock.monotonic_seconds() - began
        self._meter.add("telemetry_agent_serve_requests_total", labels=(path, str(response.status)))
        self._meter.observe("telemetry_agent_serve_duration_seconds", seconds, labels=(path,))
        body, headers = _encoded(request, response, self._headers(response))
        # Of another method the body is of no interest, and what follows it cannot be trusted to be a request.
        return Sent(response.status, headers, body, close=request.method not in METHODS)

    def _headers(self, response: Response) -> dict[str, str]:
        return {
            "Date": self._date(), **SECURITY_HEADERS, **response.headers, "Content-Type": response.content_type
        }  # fmt: skip

    def _date(self) -> str:
        """The time as RFC 9110, section 5.6.7, writes it; made once a second."""
        seconds = self._clock.wall_ns() // NANOSECONDS
        if seconds != self._dated[0]:
            self._dated = (seconds, http_date(seconds))
        return self._dated[1]


def _encoded(request: Request, response: Response, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    if len(response.body) < LEAST_GZIP_BYTES or "Content-Encoding" in headers:
        return response.body, headers
    headers.setdefault("Vary", "Accept-Encoding")
    if not accepts_gzip(request.headers.get("accept-encoding", "")):
        return response.body, headers
    headers["Content-Encoding"] = "gzip"
    return gzipped(response.body), headers


def _tls(options: ServeOptions, environ: Mapping[str, str]) -> ssl.SSLContext | None:
    if not options.cert_file:
        return None
    from agent.http.tls import server_ssl_context

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


async def _bound(options: ServeOptions) -> tuple[socket.socket, ...]:
    """Sockets that listen at every address that ``options.listen`` stands for."""
    host, port = split_listen(options.listen)
    create = asyncio.get_running_loop().create_server
    bound: tuple[socket.socket, ...] = ()
    try:
        server = await create(asyncio.Protocol, host=host, port=port, start_serving=False)
        bound = tuple(socket.socket(fileno=each.dup().detach()) for each in server.sockets)
        server.close()  # asyncio resolves and binds; who is accepted, and until when, is the door's
        for each in bound:
            each.listen(BACKLOG)
    except OSError as error:
        for each in bound:
            each.close()
        raise EndpointError(f'[serve] listen = "{options.listen}": {_next_step(error, port)}') from error
    return bound


def _next_step(error: OSError, port: int) -> str:
    import errno

    steps = {
        errno.EADDRINUSE: f"another program has this port (ss -ltnp 'sport = :{port}' shows which); "
        "stop it or choose another port",
        errno.EACCES: "this user may not open a port below 1024; choose a higher one",
        errno.EADDRNOTAVAIL: "this machine has no such address (ip addr lists them); choose one it has",
    }
    return steps.get(error.errno or 0, f"{error.strerror or error}; choose an address of this machine")
