"""This file measures logs whose lines are understood: parsed, joined, with times and levels of their own."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import corpus
from benchmarks.figures import Figure
from benchmarks.processes import (
    COMMAND,
    MB,
    Agent,
    NotMeasuredError,
    agent,
    configured,
    free_port,
    gzip_cpu_seconds,
    python_bytes,
    sink,
    wall_seconds,
)

WITHIN_SECONDS = 240.0
LOADED_FILES = 6
PROBES = 16
"""Twice a second: the load lasts longer than that."""

CONFIG = """
[agent]
state_dir = "{folder}/state"
run_dir = "{folder}/run"
[spool]
max_bytes = 4294967296
[collect.host]
enabled = false
[collect.agent]
enabled = false
{source}
[process.redact]
enabled = false
[export.loki]
url = "{url}"
[serve]
listen = "127.0.0.1:0"
"""
FILE = '[collect.file]\npaths = ["{path}"]\nstart_at = "beginning"\nparse = "{parse}"'
CONTAINER = '[collect.container]\npaths = ["{path}"]\nstart_at = "beginning"'
CONTAINER_CONFIG = '{"Name":"/shop","Config":{"Image":"shop:3","Labels":{"com.docker.compose.project":"shop"}}}'
SYSLOG = '[collect.syslog]\ntcp_listen = "127.0.0.1:{port}"'


def shipping(name: str, kind: str, target: float) -> Callable[[int], Iterator[Figure]]:
    """The rows of one format read from a file."""

    def measure(repeat: int) -> Iterator[Figure]:
        yield from _rows(name, target, [_trip(kind) for _ in range(repeat)])

    return measure


def syslog(name: str, target: float) -> Callable[[int], Iterator[Figure]]:
    """The rows of syslog received over TCP."""

    def measure(repeat: int) -> Iterator[Figure]:
        yield from _rows(name, target, [_received() for _ in range(repeat)])

    return measure


def containers(name: str, target: float) -> Callable[[int], Iterator[Figure]]:
    """The rows of a container's log as Docker writes it."""

    def measure(repeat: int) -> Iterator[Figure]:
        yield from _rows(name, target, [_unwrapped() for _ in range(repeat)])

    return measure


def latency(_repeat: int) -> Iterator[Figure]:
    """From a line written to its arrival, while half a gigabyte beside it is being read, parsed and sent."""
    sample = corpus.sample("json")
    with sink() as backend, tempfile.TemporaryDirectory(prefix="bench-", dir=corpus.folder()) as folder:
        for number in range(LOADED_FILES):
            (Path(folder) / f"{number}.log").write_bytes(b'{"copy":%d}\n' % number + sample.path.read_bytes())
        probes = Path(folder) / "probe.log"
        probes.touch()
        source = FILE.format(path=f"{folder}/*.log", parse="json")
        with (
            configured(CONFIG, source=source, url=backend.url) as config,
            agent(config) as running,
            probes.open("ab", buffering=0) as app,
        ):
            written: dict[str, float] = {}
            for number in range(PROBES):
                line = f"probe {number}"
                written[line] = time.monotonic()
                app.write(line.encode() + b"\n")
                time.sleep(0.5)
            backend.wait_for(LOADED_FILES * (sample.records + 1) + len(written), WITHIN_SECONDS, running.must_live)
            arrived = {line: at for at, line in backend.ask("/arrivals")}
            peak_bytes = running.peak_bytes
    took = sorted(arrived[line] - at for line, at in written.items())
    began = time.monotonic()
    time.sleep(1)
    second = time.monotonic() - began
    yield Figure("line to backend under full load, slowest", took[-1], "s", "sleep 1", second, 5.0)
    yield Figure(
        "under full load: peak memory", peak_bytes / MB, "MB", "Python doing nothing", python_bytes() / MB, 100.0
    )


Trip = tuple[float, float, int, int]
"""CPU of the agent and of gzip, in seconds; peak memory and peak anonymous memory, in bytes."""


def _rows(name: str, target: float, trips: list[Trip]) -> Iterator[Figure]:
    trips.sort(key=lambda trip: trip[0] / trip[1])
    cpu_seconds, gzip_seconds, _, _ = trips[len(trips) // 2]
    yield Figure(f"{name}: CPU", cpu_seconds, "s", "gzip -1 of the same bytes", gzip_seconds, target, "ratio")
    peak_bytes = max(trip[2] for trip in trips)
    yield Figure(f"{name}: peak memory", peak_bytes / MB, "MB", "Python doing nothing", python_bytes() / MB, 100.0)


def _trip(kind: str) -> Trip:
    sample = corpus.sample(kind)
    return _measured(sample, FILE.format(path=sample.path, parse=kind), lambda running: None)


def _unwrapped() -> Trip:
    sample = corpus.sample("docker")
    home = corpus.folder() / "containers" / ("d" * 64)
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.v2.json").write_text(CONTAINER_CONFIG)
    log = home / f"{home.name}-json.log"
    log.unlink(missing_ok=True)
    log.symlink_to(sample.path)
    with sample.path.open("rb") as file:
        printed_bytes = sum(len(json.loads(line)["log"]) - 1 for line in file)
    return _measured(sample, CONTAINER.format(path=log), lambda running: None, printed_bytes)


def _received() -> Trip:
    sample, port = corpus.sample("syslog"), free_port()

    def send(running: Agent) -> None:
        with _connected(port, running) as sending, sample.path.open("rb") as file:
            sending.sendfile(file)

    return _measured(sample, SYSLOG.format(port=port), send)


def _connected(port: int, running: Agent) -> socket.socket:
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        running.must_live()
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise NotMeasuredError(f"nobody listens on port {port}") from None
            time.sleep(0.05)


def _measured(sample: corpus.Sample, source: str, feed: Callable[[Agent], None], line_bytes: int | None = None) -> Trip:
    before = gzip_cpu_seconds(sample.path)
    with sink() as backend, configured(CONFIG, source=source, url=backend.url) as config:
        with agent(config) as running:
            feed(running)
            counters = backend.wait_for(sample.records, WITHIN_SECONDS, running.must_live)
            spent = running.stop()
        wall_seconds([COMMAND, "ledger", "--check", "--config", str(config)])
    if counters["lines"] != sample.records:
        raise NotMeasuredError(f"{counters['lines']} records arrived of {sample.records}")
    expected_bytes = sample.path.stat().st_size - sample.records if line_bytes is None else line_bytes
    if counters["line_bytes"] != expected_bytes:
        raise NotMeasuredError(f"{counters['line_bytes']} bytes of lines arrived of {expected_bytes}")
    gzip_seconds = (before + gzip_cpu_seconds(sample.path)) / 2
    return spent.cpu_seconds, gzip_seconds, running.peak_bytes, running.peak_anonymous_bytes
