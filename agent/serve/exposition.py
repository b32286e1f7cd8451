"""This file answers /metrics and /metrics.json: what every source of metrics says now, and the agent's own numbers.

Who asks while an answer is being made, or within SHARED_SECONDS of it, is given that one: a hundred scrapers a second
cost as much as ten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from agent.ownfamilies import own_families
from agent.serve.routes import JSON, Request, Response, accepts_gzip, gzipped, preferences
from agent.wire.exposition import OPENMETRICS_TYPE, TEXT_TYPE, document, openmetrics, text

if TYPE_CHECKING:
    from agent.batch import Family
    from agent.clock import Clock
    from agent.ownmetrics import Meter, Readings
    from agent.serve.routes import Handler, Routes
    from agent.worker import Worker

log = logging.getLogger("telemetry_agent.serve")

SHARED_SECONDS: Final = 0.1
VIEW_SECONDS: Final = 8.0
"""How long one source may take to say what it reads now; the answer does without it then."""

View = Callable[[], Awaitable[Sequence["Family"]]]


Wanted = tuple[str, bool]
"""A content type, and whether packed."""


class Made(Struct, frozen=True):
    """One answer as it is sent, and when it was made."""

    response: Response
    made_seconds: float


class Exposition:
    """What scrapers read. ``views`` gives the sources' own at the moment, ``read`` the readings; ``worker`` renders
    beside the loop, so it should not be one that a dead disk may block."""

    def __init__(
        self,
        meter: Meter,
        views: Callable[[], Sequence[View]],
        read: Callable[[], Awaitable[Readings]],
        worker: Worker,
        clock: Clock,
    ) -> None:
        self._meter = meter
        self._views = views
        self._read = read
        self._worker = worker
        self._clock = clock
        self._latest: dict[Wanted, Made] = {}
        self._making: dict[Wanted, asyncio.Future[Made]] = {}

    def routes(self) -> Routes:
        """Both paths of the endpoint."""
        return {"/metrics": self._metrics, "/metrics.json": self._handler(JSON)}

    async def _metrics(self, request: Request) -> Response:
        wanted = OPENMETRICS_TYPE if wants_openmetrics(request.headers.get("accept", "")) else TEXT_TYPE
        return await self._handler(wanted)(request)  # type: ignore[no-any-return, misc]  # a handler of ours is a coroutine

    def _handler(self, kind: str) -> Handler:
        async def answer(request: Request) -> Response:
            wanted = kind, accepts_gzip(request.headers.get("accept-encoding", ""))
            made = self._latest.get(wanted)
            if made is None or not 0 <= self._clock.monotonic_seconds() - made.made_seconds < SHARED_SECONDS:
                made = await self._shared(wanted)
            return made.response

        return answer

    async def _shared(self, wanted: Wanted) -> Made:
        """Makes an answer, or waits for the one that is being made. Who asked first may go away meanwhile."""
        making = self._making.get(wanted)
        if making is None:
            making = self._making[wanted] = asyncio.ensure_future(self._make(wanted))
            making.add_done_callback(lambda _: self._making.pop(wanted))
        return await asyncio.shield(making)

    async def _make(self, wanted: Wanted) -> Made:
        found = await asyncio.gather(*(_seen(view, self._clock) for view in self._views()))
        readings = await self._read()
        families = list(chain.from_iterable(found))
        response = await self._worker.run(_rendered, *wanted, families, self._meter, readings)
        made = self._latest[wanted] = Made(response, self._clock.monotonic_seconds())
        asyncio.get_running_loop().call_later(SHARED_SECONDS, self._let_go, wanted, made)
        return made

    def _let_go(self, wanted: Wanted, made: Made) -> None:
        """Who scrapes once a minute need not keep the answer in memory all that time."""
        if self._latest.get(wanted) is made:
            del self._latest[wanted]


def wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is preferred to plain text (RFC 9110, section 12.5.1: the greater weight; the first of
    equals, as Prometheus's own clients decide)."""
    weights = preferences(accept)
    plain = max(weights.get("text/plain", 0.0), weights.get("text/*", 0.0))
    asked = weights.get("application/openmetrics-text", 0.0)
    return asked > 0 and asked >= plain


async def _seen(view: View, clock: Clock) -> Sequence[Family]:
    """What a source says now; nothing where it fails or is late."""
    seeing = asyncio.ensure_future(view())
    late = asyncio.ensure_future(clock.sleep(VIEW_SECONDS))
    try:
        await asyncio.wait((seeing, late), return_when=asyncio.FIRST_COMPLETED)
        return seeing.result() if seeing.done() else ()
    except Exception as error:  # a source may fail in any way; the others are shown all the same
        log.debug("a source could not say what it reads now", exc_info=error)
        return ()
    finally:
        late.cancel()
        if not seeing.done():
            seeing.cancel()
        await asyncio.gather(late, seeing, return_exceptions=True)


def _rendered(kind: str, packed: bool, families: list[Family], meter: Meter, readings: Readings) -> Response:
    body = RENDERERS[kind]([*families, *own_families(meter, readings)])
    headers = {"Vary": "Accept, Accept-Encoding"}
    if packed:
        body, headers = gzipped(body), {**headers, "Content-Encoding": "gzip"}
    return Response(200, body, kind, headers)


def _json(families: Sequence[Family]) -> bytes:
    return msgspec.json.encode(document(families)) + b"\n"


RENDERERS: Final[dict[str, Callable[[Sequence[Family]], bytes]]] = {
    TEXT_TYPE: text,
    OPENMETRICS_TYPE: openmetrics,
    JSON: _json,
}
