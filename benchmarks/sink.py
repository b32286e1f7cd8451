"""This file is the backend of the benchmarks: a Loki as fast as Python allows, in a process of its own.

It answers every push 204, after ``--delay-seconds`` where given, and looks inside when no more come: entries and
their bytes are counted by walking the protobuf, so that what arrived can be compared with what was written. Nothing
it does is charged to the agent. ``GET /counters`` tells the counts as JSON; ``GET /arrivals`` when each line of small
requests came.

    python -m benchmarks.sink [--delay-seconds 2]      prints its port, ends when its stdin does
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from dataclasses import dataclass, field

import cramjam

from benchmarks.corpus import MARKER

NO_CONTENT = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
MOST_ARRIVALS = 10_000
SMALL_REQUEST_LINES = 50
QUIET_SECONDS = 0.3
STREAM, ENTRY, LINE = 0x0A, 0x12, 0x12

PROBE = b"probe "
"""How lines begin whose arrival is told also where they came among many others."""


@dataclass
class Counters:
    """What arrived. Times are of the machine's monotonic clock, None before the first request."""

    requests: int = 0
    body_bytes: int = 0
    lines: int = 0
    line_bytes: int = 0
    leaked: int = 0
    first_seconds: float | None = None
    last_seconds: float | None = None
    arrivals: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=MOST_ARRIVALS))
    unread: list[tuple[float, bytes]] = field(default_factory=list)

    def take(self, body: bytes, arrived_seconds: float) -> None:
        self.requests += 1
        self.body_bytes += len(body)
        self.first_seconds = self.first_seconds or arrived_seconds
        self.last_seconds = arrived_seconds
        if body:
            self.unread.append((arrived_seconds, body))

    def told(self) -> dict[str, object]:
        """All counts; requests are looked into once none has come for a moment, so that nobody waits for that."""
        if time.monotonic() - (self.last_seconds or 0.0) > QUIET_SECONDS:
            unread, self.unread = self.unread, []
            for arrived_seconds, body in unread:
                self.look_into(bytes(cramjam.snappy.decompress_raw(body)), arrived_seconds)
        return {name: value for name, value in vars(self).items() if name not in {"unread", "arrivals"}}

    def look_into(self, request: bytes, arrived_seconds: float) -> None:
        lines = [line for stream in fields(request, 0, len(request), STREAM) for line in entries(request, *stream)]
        self.lines += len(lines)
        self.line_bytes += sum(end - start for start, end in lines)
        self.leaked += request.count(MARKER)
        if len(lines) > SMALL_REQUEST_LINES and PROBE in request:
            lines = [line for line in lines if request.startswith(PROBE, line[0])]
        if len(lines) <= SMALL_REQUEST_LINES:
            self.arrivals.extend((arrived_seconds, request[start:end].decode()) for start, end in lines)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def fields(data: bytes, at: int, end: int, wanted: int) -> list[tuple[int, int]]:
    """Start and end of every length-delimited field with the tag ``wanted`` in ``data[at:end]``."""
    found = []
    while at < end:
        tag = data[at]
        length = data[at + 1]
        at += 2
        if tag & 7 == 0:
            at = at if length < 0x80 else varint(data, at)[1]
            continue
        if length >= 0x80:
            length, at = varint(data, at - 1)
        if tag == wanted:
            found.append((at, at + length))
        at += length
    return found


def entries(data: bytes, at: int, end: int) -> list[tuple[int, int]]:
    """Start and end of the line of every entry of the stream in ``data[at:end]``."""
    return [line for entry in fields(data, at, end, ENTRY) for line in fields(data, *entry, LINE)]


class Connection(asyncio.Protocol):
    """HTTP/1.1 with Content-Length, one request after the other."""

    def __init__(self, counters: Counters, delay_seconds: float) -> None:
        self.counters = counters
        self.delay_seconds = delay_seconds
        self.received: list[bytes] = []
        self.size = 0
        self.needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received.append(data)
        self.size += len(data)
        if self.size < self.needed:
            return
        whole = b"".join(self.received)
        while (head_end := whole.find(b"\r\n\r\n")) >= 0:
            head = whole[:head_end]
            self.needed = head_end + 4 + content_length(head)
            if len(whole) < self.needed:
                break
            self.answer(head, whole[head_end + 4 : self.needed])
            whole, self.needed = whole[self.needed :], 0
        self.received, self.size = [whole], len(whole)

    def answer(self, head: bytes, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        if head.startswith(b"GET"):
            told = self.counters.told()
            self.reply(self.counters.arrivals if head.startswith(b"GET /arrivals") else told)
        elif self.delay_seconds:
            self.counters.take(body, time.monotonic())
            loop.call_later(self.delay_seconds, self.transport.write, NO_CONTENT)
        else:
            self.transport.write(NO_CONTENT)
            self.counters.take(body if head.startswith(b"POST /loki") else b"", time.monotonic())

    def reply(self, told: object) -> None:
        text = json.dumps(told, default=list).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


def content_length(head: bytes) -> int:
    """The value of the header, 0 without one."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main(delay_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    counters = Counters()
    server = await loop.create_server(lambda: Connection(counters, delay_seconds), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay-seconds", type=float, default=0.0)
    asyncio.run(main(parser.parse_args().delay_seconds))
