"""This file runs a real Prometheus that takes remote_write, on storage that outlives it, and asks it what it has.

    with prometheus(tmp_path) as server:        # skips the test where the program is not installed
        server.write_url                        # http://127.0.0.1:PORT/api/v1/write
        server.samples("up")                    # {(("__name__", "up"), …): [(1700000000.0, "1"), …]}
        server.kill(); server.start()           # the same storage, the same port

``relayed(port)`` stands before it and loses answers on command.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(PROGRAM is None, reason="prometheus is not installed: apt install prometheus")
WITHIN_SECONDS = 60
LOOK_SECONDS = 0.02
READY = b"Server is ready to receive web requests"

Labels = tuple[tuple[str, str], ...]


class Prometheus:
    """One server; ``start`` returns when it answers."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        (folder / "prometheus.yml").write_text("global: {}\n")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def write_url(self) -> str:
        return f"{self.url}/api/v1/write"

    def start(self) -> None:
        """Starts it on the storage that is there."""
        assert PROGRAM is not None
        log = self._folder / "prometheus.log"
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    f"--config.file={self._folder}/prometheus.yml",
                    f"--storage.tsdb.path={self._folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--web.enable-remote-write-receiver",
                    *self._arguments,
                ],
                stdout=said,
                stderr=said,
            )
        for _ in range(int(WITHIN_SECONDS / LOOK_SECONDS)):
            if READY in log.read_bytes():
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LOOK_SECONDS)
                break
        raise AssertionError(f"it did not start: {log.read_text()[-1000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it in good order."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(WITHIN_SECONDS)

    def kill(self) -> None:
        """Ends it without a chance to put anything in order."""
        self.stop(signal.SIGKILL)

    # Asking

    def ask(self, path: str, **parameters: str) -> Any:
        """The ``data`` of one answer of its API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=WITHIN_SECONDS) as answer:
            return json.load(answer)["data"]

    def instant(self, query: str, at_seconds: float) -> dict[Labels, str]:
        """The value of every series that the query finds alive at that time."""
        found = self.ask("query", query=query, time=f"{at_seconds:.3f}")["result"]
        return {_labels(each): each["value"][1] for each in found}

    def samples(self, selector: str, until_seconds: float, window: str = "3h") -> dict[Labels, list[tuple[float, str]]]:
        """Every stored sample of every series that the selector finds; markers of an end are not among them."""
        found = self.ask("query", query=f"{selector}[{window}]", time=f"{until_seconds:.3f}")["result"]
        return {_labels(each): [(at, value) for at, value in each["values"]] for each in found}


def _labels(found: dict[str, Any]) -> Labels:
    return tuple(sorted(found["metric"].items()))


def _free_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        return port


@contextmanager
def prometheus(folder: Path, *arguments: str) -> Iterator[Prometheus]:
    """A running server with its storage in ``folder``; ``arguments`` are added to its command line."""
    if PROGRAM is None:
        pytest.skip("prometheus is not installed: apt install prometheus")
    server = Prometheus(folder, *arguments)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Relay:
    """A way to a server that loses answers: those numbered in ``lose``, from 1, which then never come back.

    ``answered`` counts answers that the server gave; ``gave`` is set at each.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.lose: set[int] = set()
        self.answered = 0
        self.statuses: list[int] = []
        self.gave = asyncio.Event()
        self._to = port

    @property
    def write_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    async def wait_answered(self, count: int) -> None:
        """Returns once the server has given that many answers."""
        while self.answered < count:
            self.gave.clear()
            await self.gave.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        up = asyncio.create_task(_copy(reader, back))
        try:
            while data := await there.read(65536):
                self.answered += 1
                self.statuses.append(int(data[9:12]))
                self.gave.set()
                if self.answered in self.lose:
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            writer.close()
            back.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[Relay]:
    """A relay to the server on ``port``; leaving ends every connection."""
    relay = Relay(port)
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await relay.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            connections.discard(task)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    relay.port = listening.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        listening.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
