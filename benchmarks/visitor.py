"""This file is the client of the endpoint's benchmarks, in a process of its own: it asks by a timetable.

A request is due every ``1 / rate`` seconds whether or not those before it were answered, and its time counts from when
it was due, so that an answer that came late hides no one's wait. Connections are kept; where all of them wait for an
answer, one more is opened.

    python -m benchmarks.visitor PORT --rate 100 --seconds 10 /health/live /metrics
        prints {"/metrics": [seconds, …], …} in the order of the timetable
    python -m benchmarks.visitor PORT --crowd 1000 /metrics /health/live
        opens the connections, and asks for one path after the other on all of them at once; prints how long it was to
        the last answer of each, and the number of bytes of the largest; ends when its input does
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import defaultdict

REQUEST = "GET {} HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain;version=0.0.4\r\nAccept-Encoding: gzip\r\n\r\n"
CHUNKED = re.compile(rb"\r\nTransfer-Encoding: *chunked\r\n", re.IGNORECASE)
LAST_CHUNK = b"\r\n0\r\n\r\n"
LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)\r\n", re.IGNORECASE)
PATIENCE_SECONDS = 30.0


class UnansweredError(Exception):
    """An answer that is none, or none at all."""


class Connection(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answered: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return
        if CHUNKED.search(self._received, 0, head_end):
            whole = self._received.endswith(LAST_CHUNK)
        else:
            length = LENGTH.search(self._received, 0, head_end)
            whole = length is not None and len(self._received) >= head_end + int(length[1])
        if whole:
            good = self._received.startswith(b"HTTP/1.1 200")
            self._end(len(self._received) - head_end if good else UnansweredError(bytes(self._received[:200])))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or UnansweredError("closed"))

    def _end(self, outcome: int | Exception) -> None:
        answered, self._answered = self._answered, None
        self._received.clear()
        if answered is None or answered.done():
            return
        if isinstance(outcome, int):
            answered.set_result(outcome)
        else:
            answered.set_exception(outcome)

    async def ask(self, path: str) -> int:
        """The size of the body that is the answer."""
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.write(REQUEST.format(path).encode())
        return await asyncio.wait_for(self._answered, PATIENCE_SECONDS)


async def connected(port: int) -> Connection:
    return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port))[1]


async def by_timetable(port: int, paths: list[str], rate: float, seconds: float) -> dict[str, list[float]]:
    """How long each request took, from when it was due."""
    idle: list[Connection] = [await connected(port) for _ in range(10)]
    took: dict[str, list[float]] = defaultdict(list)

    async def ask(path: str, due: float) -> None:
        connection = idle.pop() if idle else await connected(port)
        await connection.ask(path)
        took[path].append(time.perf_counter() - due)
        idle.append(connection)

    began = time.perf_counter() + 0.1
    asking = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        asking.append(asyncio.ensure_future(ask(paths[number % len(paths)], due)))
    await asyncio.gather(*asking)
    return took


async def as_a_crowd(port: int, paths: list[str], people: int) -> dict[str, list[float]]:
    """Seconds to the last answer and its largest size, for each path; the connections are closed at the end."""
    crowd = [await connected(port) for _ in range(people)]
    took: dict[str, list[float]] = {}
    for path in paths:
        began = time.perf_counter()
        sizes = await asyncio.gather(*(each.ask(path) for each in crowd))
        took[path] = [time.perf_counter() - began, float(max(sizes))]
    for each in crowd:
        each.transport.close()
    await asyncio.sleep(0)
    return took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--crowd", type=int, default=0)
    asked = parser.parse_args()
    visit = (
        as_a_crowd(asked.port, asked.paths, asked.crowd)
        if asked.crowd
        else by_timetable(asked.port, asked.paths, asked.rate, asked.seconds)
    )
    json.dump(asyncio.run(visit), sys.stdout)


if __name__ == "__main__":
    main()
