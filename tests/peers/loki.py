"""This file is a Loki for tests: strict as the real one, and it misbehaves on command.

In a test:

    async with open_receiver() as loki:
        loki.script(answers(429, retry_after="3"), reset(ingest=True))
        …
        assert loki.judge.lines() == [...]

As a process of its own, for benchmarks and crash tests (prints its port; ``GET /counts``, ``POST /script``):

    python -m tests.peers.loki --port 0 --keep hashes
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import socket
import ssl
import struct
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from tests.peers.lokijudge import Judge, Limits

PUSH = "/loki/api/v1/push"


@dataclass(frozen=True)
class Scripted:
    """One answer out of turn. ``ingest`` stores what came first; ``cut`` resets the connection instead of answering;
    ``status`` 0 is the judge's own answer."""

    status: int = 0
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    ingest: bool = False
    cut: bool = False


def answers(status: int, text: str = "", *, retry_after: str | None = None, ingest: bool = False) -> Scripted:
    """A status with a text."""
    return Scripted(status, text, {"Retry-After": retry_after} if retry_after is not None else {}, ingest=ingest)


def html(status: int = 200) -> Scripted:
    """What a captive portal or a proxy answers."""
    return Scripted(status, "<html><body>Please log in</body></html>", {"Content-Type": "text/html; charset=utf-8"})


def redirect(location: str, status: int = 302) -> Scripted:
    """A redirect."""
    return Scripted(status, headers={"Location": location})


def reset(*, ingest: bool = False) -> Scripted:
    """The connection is reset after the request was received, and stored where ``ingest`` says so."""
    return Scripted(ingest=ingest, cut=True)


def hang() -> Scripted:
    """No answer at all."""
    return Scripted(delay_seconds=float("inf"), cut=True)


def slow(seconds: float) -> Scripted:
    """The judge's own answer, late."""
    return Scripted(delay_seconds=seconds, ingest=True)


@dataclass(frozen=True)
class Request:
    """One push request as it came, and the status it was answered with (0: not answered)."""

    headers: dict[str, str]
    body_bytes: int
    status: int


class Receiver:
    """The server. ``always`` is scripted for every request that nothing else is scripted for."""

    def __init__(self, judge: Judge, wall_ns: Callable[[], int], path: str = PUSH) -> None:
        self.judge = judge
        self.path = path
        self.always: Scripted | None = None
        self.requests: deque[Request] = deque(maxlen=10_000)
        self.statuses: Counter[int] = Counter()
        self.port = 0
        self._wall_ns = wall_ns
        self._script: deque[Scripted] = deque()
        self._closing = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, *scripted: Scripted) -> None:
        """What the next requests are answered with, one each."""
        self._script.extend(scripted)

    def counts(self) -> dict[str, Any]:
        """Everything that was counted, for reading from another process."""
        judge = self.judge
        return {
            "stored": judge.stored,
            "stored_bytes": judge.stored_bytes,
            "duplicates": judge.duplicates,
            "refused": dict(judge.refused),
            "streams": len(judge.streams),
            "statuses": {str(status): count for status, count in self.statuses.items()},
        }

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answers one request."""
        body = await request.content.read()
        if request.path == "/counts":
            return Response(text=json.dumps(self.counts()), content_type="application/json")
        if request.path == "/lines":
            return Response(text="\n".join(self.judge.lines()))
        if request.path == "/script" and request.method == "POST":
            self._scripted_from(json.loads(body))
            return Response(status=204)
        if request.path != self.path:
            return Response(status=404, text="404 page not found")
        if request.method != "POST":
            return Response(status=405)
        return await self._push(request, body)

    def _scripted_from(self, told: dict[str, Any]) -> None:
        self.script(*(Scripted(**one) for one in told.get("next", ())))
        if "always" in told:
            self.always = Scripted(**told["always"]) if told["always"] else None
        if "limits" in told:
            self.judge.limits = dataclasses.replace(self.judge.limits, **told["limits"])

    async def _push(self, request: BaseRequest, body: bytes) -> StreamResponse:
        scripted = self._script.popleft() if self._script else self.always
        status, text, headers = 0, "", {}
        if scripted is None or scripted.ingest:
            content_type = request.headers.get("Content-Type", "").partition(";")[0]
            encoding = request.headers.get("Content-Encoding", "")
            tenant = request.headers.get("X-Scope-OrgID", "")
            status, text = self.judge.push(body, content_type, encoding, tenant, self._wall_ns())
        if scripted is not None:
            await self._wait(scripted.delay_seconds)
            if scripted.status:
                status, text, headers = scripted.status, scripted.text, dict(scripted.headers)
        answered = 0 if scripted is not None and scripted.cut else status
        self.requests.append(Request(dict(request.headers), len(body), answered))
        self.statuses[answered] += 1
        if not answered:
            _reset(request)
        if text:
            headers.setdefault("Content-Type", "text/plain; charset=utf-8")
        return Response(status=status or 500, body=text.encode() if text else None, headers=headers)

    async def _wait(self, seconds: float) -> None:
        if seconds:
            try:
                await asyncio.wait_for(self._closing.wait(), None if seconds == float("inf") else seconds)
            except TimeoutError:
                return

    def close(self) -> None:
        """Ends every hanging request."""
        self._closing.set()


def _reset(request: BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


@asynccontextmanager
async def open_receiver(
    judge: Judge | None = None,
    *,
    port: int = 0,
    wall_ns: Callable[[], int] = time.time_ns,
    tls: ssl.SSLContext | None = None,
    path: str = PUSH,
) -> AsyncIterator[Receiver]:
    """A receiver that listens on 127.0.0.1; leaving closes it and every connection."""
    receiver = Receiver(judge or Judge(), wall_ns, path)
    server = Server(receiver.handle, auto_decompress=False)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, ssl=tls)
    receiver.port = listening.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.close()
        listening.close()
        server.pre_shutdown()
        await server.shutdown(0.5)


async def _serve(port: int, judge: Judge) -> None:
    async with open_receiver(judge, port=port) as receiver:
        print(receiver.port, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serves until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--keep", choices=("all", "hashes", "count"), default="all")
    parser.add_argument("--limits", type=json.loads, default={}, help="JSON object of limits to change")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, Judge(limits=Limits(**arguments.limits), keep=arguments.keep)))


if __name__ == "__main__":
    main()
