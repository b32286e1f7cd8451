"""This file measures the local endpoint: a hundred requests a second while logs flow, and a thousand connections.

Three processes share the machine: the agent with everything it does, the backend it ships to, and the client.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.figures import Figure
from benchmarks.host import exporter
from benchmarks.processes import MB, Agent, NotMeasuredError, agent, free_port, sink, status_bytes

RATE = 100
SECONDS = 10.0
CROWD = 1000
WARM_SECONDS = 3.0
AHEAD_LINES = corpus.LINES
PROBES = ("/health/live", "/health/ready")
PROBE_SECONDS, SCRAPE_SECONDS = 0.010, 0.100
CLOSED_WITHIN_SECONDS = 10.0
RESPONDER = "python -m benchmarks.endpoint"

CONFIG = """
[agent]
state_dir = "{folder}/state"
run_dir = "{folder}/run"

[spool]
max_bytes = 4294967296

[collect.host]

[collect.file]
paths = ["{folder}/logs/*.log"]
start_at = "beginning"

[process.redact]

[export.loki]
url = "{url}"

[serve]
listen = "127.0.0.1:{port}"
max_connections = {crowd}
"""


@contextmanager
def serving() -> Iterator[tuple[Agent, int, Path]]:
    """An agent that reads the host, follows a file and ships it; its port, and the file."""
    port = free_port()
    with sink() as backend, tempfile.TemporaryDirectory(prefix="bench-", dir=corpus.folder()) as folder:
        config, file = Path(folder) / "config.toml", Path(folder) / "logs" / "app.log"
        file.parent.mkdir()
        file.touch()
        config.write_text(CONFIG.format(folder=folder, url=backend.url, port=port, crowd=CROWD + 24))
        with agent(config) as running:
            yield running, port, file


class Flow:
    """Keeps the file ahead of the agent, so that it always has more to read."""

    def __init__(self, port: int, file: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/status"
        self._file = file
        self._written = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._turn)

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def lane(self) -> dict[str, int]:
        """What the ledger has counted."""
        with urllib.request.urlopen(self._url, timeout=30) as response:
            lane: dict[str, int] = json.load(response)["ledger"]["lanes"]["loki/logs"]
            return lane

    def _turn(self) -> None:
        source = corpus.log("plain").read_bytes()
        with self._file.open("ab", buffering=0) as file:
            while not self._ended.is_set():
                if self._written - self.lane()["read"] < AHEAD_LINES:
                    file.write(source)
                    self._written += corpus.LINES
                self._ended.wait(0.5)


def visited(port: int, *arguments: object) -> dict[str, list[float]]:
    """What the client tells."""
    command = [sys.executable, "-m", "benchmarks.visitor", str(port), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise NotMeasuredError(f"the client failed: {done.stderr.strip()[-500:]}")
    told: dict[str, list[float]] = json.loads(done.stdout)
    return told


def percentile(values: list[float], of_hundred: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[of_hundred - 1]


def load(_repeat: int) -> Iterator[Figure]:
    """The agent's answers while it ships, and, right after and under the same load, those of others."""
    with serving() as (running, port, file), Flow(port, file) as flow, responder() as plain, exporter() as beside:
        time.sleep(WARM_SECONDS)
        before, began = flow.lane()["read"], time.monotonic()
        ours = visited(port, "--rate", RATE, "--seconds", SECONDS, PROBES[0], "/metrics", PROBES[1], "/metrics")
        lines_a_second = (flow.lane()["read"] - before) / (time.monotonic() - began)
        theirs = visited(plain, "--rate", RATE, "--seconds", SECONDS, "/health/live")["/health/live"]
        scrapes = visited(beside.port, "--rate", RATE, "--seconds", SECONDS, "/metrics")["/metrics"]
        running.must_live()
    megabytes_a_second = lines_a_second / 1e6 * corpus.log("plain").stat().st_size / corpus.LINES
    print(f"logs flowed at {megabytes_a_second:.0f} MB/s", file=sys.stderr)
    probes = [second for path in PROBES for second in ours[path]]
    yield from spread(
        f"probe, {RATE} requests/s beside logs at full speed", probes, "a bare responder", theirs, PROBE_SECONDS
    )
    yield from spread("/metrics, the other half of them", ours["/metrics"], "node_exporter", scrapes, SCRAPE_SECONDS)


def spread(name: str, ours: list[float], beside: str, theirs: list[float], target_seconds: float) -> Iterator[Figure]:
    """Median, 99th percentile and the slowest."""
    yield Figure(f"{name}: p50", statistics.median(ours), "s", beside, statistics.median(theirs))
    yield Figure(f"{name}: p99", percentile(ours, 99), "s", beside, percentile(theirs, 99), target_seconds)
    yield Figure(f"{name}: slowest", max(ours), "s", beside, max(theirs))


def crowd(_repeat: int) -> Iterator[Figure]:
    """A thousand connections that all ask at once, and what is left of them when they are gone."""
    with serving() as (running, port, _file), exporter("--web.max-requests=0") as beside:
        pid = running.process.pid
        visited(port, "--rate", 10, "--seconds", 1, "/metrics", *PROBES)
        (anonymous,), files = status_bytes(pid, "RssAnon"), descriptors(pid)
        ours = visited(port, "--crowd", CROWD, "/metrics", "/health/live")
        running.wait_until(lambda: descriptors(pid) <= files, "all connections closed", CLOSED_WITHIN_SECONDS)
        (grown,) = (after - anonymous for after in status_bytes(pid, "RssAnon"))
        theirs_before = status_bytes(beside.pid, "RssAnon")[0]
        theirs = visited(beside.port, "--crowd", CROWD, "/metrics", "/")
        theirs_grown = status_bytes(beside.pid, "RssAnon")[0] - theirs_before
    name, other = f"{CROWD:,} connections at once", "node_exporter"
    yield Figure(f"{name}: to the last /metrics", ours["/metrics"][0], "s", other, theirs["/metrics"][0])
    yield Figure(f"{name}: to the last probe", ours["/health/live"][0], "s", f"{other}, its front page", theirs["/"][0])
    yield Figure(f"{name}: memory kept afterwards", grown / MB, "MB", other, theirs_grown / MB)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Bare(asyncio.Protocol):
    """Answers whatever it is sent with as much as a probe says, and does nothing else."""

    BODY = b'{"status":"ok","checks":[],"warnings":[]}'.ljust(800)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(self.BODY)
        self._transport.write((head + self.BODY) * data.count(b"\r\n\r\n"))


@contextmanager
def responder() -> Iterator[int]:
    """The port of a server that has nothing else to do, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.endpoint"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def respond() -> None:
    """Listens until it is ended, and prints its port."""
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(respond())
