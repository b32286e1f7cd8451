"""This file is what is measured: one function a row or a family of rows, each beside something else."""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import corpus, endpoint, formats, host, idlefiles, journal, rest
from benchmarks.figures import Figure
from benchmarks.processes import (
    COMMAND,
    MB,
    NotMeasuredError,
    agent,
    configured,
    free_port,
    gzip_cpu_seconds,
    python_bytes,
    sink,
    wall_seconds,
)

SHIP_WITHIN_SECONDS = 240.0
SLOW_SINK_SECONDS = 30.0
LARGE_SPOOL_BYTES = 2 << 30
PROBES = 20
PYTHON = [sys.executable, "-c", "pass"]
DEAD = "http://127.0.0.1:9"


CONFIG = """
[agent]
state_dir = "{folder}/state"
run_dir = "{folder}/run"

[spool]
max_bytes = 4294967296

[collect.file]
paths = ["{paths}"]
start_at = "beginning"

[process.redact]
enabled = {redact}

[export.loki]
url = "{url}"

[serve]
listen = "127.0.0.1:{port}"
"""


def following(paths: Path | str, url: str, *, redact: bool = True, port: int = 0) -> AbstractContextManager[Path]:
    """The configuration of an agent that ships files."""
    return configured(CONFIG, paths=paths, url=url, redact="true" if redact else "false", port=port)


def python_seconds(times: int = 5) -> float:
    """How long Python itself takes to start and stop."""
    return statistics.median(wall_seconds(PYTHON) for _ in range(times))


@dataclass(frozen=True)
class Shipped:
    """One trip of a whole file."""

    cpu_seconds: float
    running_cpu_seconds: float
    gzip_cpu_seconds: float
    peak_bytes: int
    peak_anonymous_bytes: int


def ship(kind: str, *, redact: bool) -> Shipped:
    """The file from the first byte to the last acknowledgement, and the books checked afterwards."""
    path = corpus.log(kind)
    before = gzip_cpu_seconds(path)
    with sink() as backend, following(path, backend.url, redact=redact) as config:
        with agent(config) as running:
            counters = backend.wait_for(corpus.LINES, SHIP_WITHIN_SECONDS, running.must_live)
            spent = running.stop()
        wall_seconds([COMMAND, "ledger", "--check", "--config", str(config)])
    _verify(kind, counters, path, redact=redact)
    return Shipped(
        spent.cpu_seconds,
        spent.cpu_seconds - running.ready_cpu_seconds,
        (before + gzip_cpu_seconds(path)) / 2,
        running.peak_bytes,
        running.peak_anonymous_bytes,
    )


def _verify(kind: str, counters: dict[str, int], path: Path, *, redact: bool) -> None:
    if counters["lines"] != corpus.LINES:
        raise NotMeasuredError(f"{counters['lines']} lines arrived of {corpus.LINES}")
    if (kind == "plain" or not redact) and counters["line_bytes"] != path.stat().st_size - corpus.LINES:
        raise NotMeasuredError(f"{counters['line_bytes']} bytes of lines arrived of {path.stat().st_size}")
    if redact and counters["leaked"]:
        raise NotMeasuredError(f"{counters['leaked']} secrets got through")


def shipping(name: str, kind: str, target: float, *, redact: bool) -> Callable[[int], Iterator[Figure]]:
    """The rows of one kind of file: CPU beside gzip, and memory beside Python's own."""

    def measure(repeat: int) -> Iterator[Figure]:
        trips = sorted(
            (ship(kind, redact=redact) for _ in range(repeat)), key=lambda t: t.cpu_seconds / t.gzip_cpu_seconds
        )
        trip, bare_bytes = trips[len(trips) // 2], python_bytes()
        gzip = "gzip -1 of the file"
        yield Figure(f"{name}: CPU", trip.cpu_seconds, "s", gzip, trip.gzip_cpu_seconds, target, "ratio")
        yield Figure(f"{name}: CPU after READY", trip.running_cpu_seconds, "s", gzip, trip.gzip_cpu_seconds)
        yield from memory(
            name, max(t.peak_bytes for t in trips), max(t.peak_anonymous_bytes for t in trips), bare_bytes
        )

    return measure


def memory(name: str, peak_bytes: int, peak_anonymous_bytes: int, bare_bytes: int) -> Iterator[Figure]:
    """The most memory a process held, and the part of it that is no file's."""
    bare = "Python doing nothing"
    yield Figure(f"{name}: peak memory", peak_bytes / MB, "MB", bare, bare_bytes / MB, 100.0)
    yield Figure(f"{name}: peak anonymous memory", peak_anonymous_bytes / MB, "MB", bare, bare_bytes / MB)


def slow_sink(_repeat: int) -> Iterator[Figure]:
    """Memory while the backend answers after two seconds, and everything that has a bound is full."""
    with (
        sink(delay_seconds=2.0) as backend,
        following(corpus.log("plain"), backend.url) as config,
        agent(config) as running,
    ):
        time.sleep(SLOW_SINK_SECONDS)
        running.must_live()
        peak_bytes, peak_anonymous_bytes = running.peak_bytes, running.peak_anonymous_bytes
    yield from memory("backend that answers after 2 s", peak_bytes, peak_anonymous_bytes, python_bytes())


def starting_and_stopping(repeat: int) -> Iterator[Figure]:
    """Start to READY and SIGTERM to exit, with nothing to do."""
    ready, stop = [], []
    with sink() as backend, following("/nonexistent/*.log", backend.url) as config:
        for _ in range(2 * repeat):
            with agent(config) as running:
                time.sleep(0.5)
            ready.append(running.ready_seconds)
            stop.append(running.stop_seconds)
    beside = python_seconds()
    yield Figure("start to READY", statistics.median(ready), "s", "python -c pass", beside, 0.5)
    yield Figure("SIGTERM to exit", statistics.median(stop), "s", "python -c pass", beside, 2.0)


def starting_with_a_large_spool(repeat: int) -> Iterator[Figure]:
    """Start to READY with 2 GB that wait for a backend which is not there."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=corpus.folder()) as logs,
        following(f"{logs}/*.log", DEAD, redact=False) as config,
    ):
        corpus.write_incompressible(Path(logs) / "random.log", LARGE_SPOOL_BYTES + (256 << 20))
        spool = config.parent / "state" / "spool" / "spool.db"
        with agent(config) as running:
            large = lambda: spool.exists() and spool.stat().st_size >= LARGE_SPOOL_BYTES  # noqa: E731
            running.wait_until(large, "2 GB in the spool", 600)
        ready, stop = [], []
        for _ in range(repeat):
            with agent(config) as running:
                time.sleep(0.5)
            ready.append(running.ready_seconds)
            stop.append(running.stop_seconds)
    beside = python_seconds()
    yield Figure("start to READY, 2 GB in the spool", statistics.median(ready), "s", "python -c pass", beside, 0.5)
    yield Figure("SIGTERM to exit, 2 GB in the spool", statistics.median(stop), "s", "python -c pass", beside, 2.0)


def commands(repeat: int) -> Iterator[Figure]:
    """The commands that answer at once, against an agent that runs."""
    with (
        sink() as backend,
        tempfile.TemporaryDirectory() as logs,
        following(f"{logs}/*.log", backend.url, port=free_port()) as config,
        agent(config) as running,
    ):
        (Path(logs) / "app.log").write_bytes(b"a line\n" * 1000)
        backend.wait_for(1000, 30, running.must_live)
        for name in ("check", "status", "ledger"):
            command = [COMMAND, name, "--config", str(config)]
            wall_seconds(command)
            pairs = [(wall_seconds(command), wall_seconds(PYTHON)) for _ in range(5 * repeat)]
            took, beside = (statistics.median(column) for column in zip(*pairs, strict=True))
            yield Figure(f"telemetry-agent {name}", took, "s", "python -c pass", beside, 0.1)


def latency(_repeat: int) -> Iterator[Figure]:
    """From a line written to its arrival, with an agent at rest."""
    waits = random.Random(3)
    written: dict[str, float] = {}
    with sink() as backend, tempfile.TemporaryDirectory() as logs, following(f"{logs}/*.log", backend.url) as config:
        file = Path(logs) / "app.log"
        file.touch()
        with agent(config) as running, file.open("ab", buffering=0) as app:
            time.sleep(2)
            for number in range(PROBES):
                line = f"probe {number}"
                written[line] = time.monotonic()
                app.write(line.encode() + b"\n")
                time.sleep(waits.uniform(1.0, 2.0))
            backend.wait_for(PROBES, 30, running.must_live)
            arrived = {line: at for at, line in backend.ask("/arrivals")}
    took = sorted(arrived[line] - at for line, at in written.items())
    began = time.monotonic()
    time.sleep(1)
    second = time.monotonic() - began
    yield Figure("line written to line at the backend, median", statistics.median(took), "s", "sleep 1", second)
    yield Figure("line written to line at the backend, slowest of 20", took[-1], "s", "sleep 1", second, 1.5)


ROWS: dict[str, Callable[[int], Iterator[Figure]]] = {
    "ship": shipping("136 MB of logs to Loki", "plain", 0.9, redact=False),
    "redact": shipping("with redaction, no secret in it", "plain", 1.3, redact=True),
    "redact-hundredth": shipping("with redaction, a secret in every hundredth line", "hundredth", 1.5, redact=True),
    "redact-every": shipping("with redaction, a token= in every line", "token", 4.0, redact=True),
    "slow-backend": slow_sink,
    "rest": rest.at_rest,
    "start-stop": starting_and_stopping,
    "large-spool": starting_with_a_large_spool,
    "commands": commands,
    "latency": latency,
    "host": host.cycles(15, 8, 1.0),
    "host-1s": host.cycles(1, 60, None),
    "journal": journal.shipping,
    "json": formats.shipping("JSON with time and level", "json", 2.5),
    "logfmt": formats.shipping("logfmt", "logfmt", 4.0),
    "nginx": formats.shipping("nginx access log parsed", "nginx", 4.0),
    "java": formats.shipping("Java stack traces joined", "java", 1.5),
    "latency-under-load": formats.latency,
    "syslog": formats.syslog("syslog over TCP", 2.5),
    "containers": formats.containers("Docker's log of a container", 2.5),
    "idle-files": idlefiles.at_rest,
    "endpoint": endpoint.load,
    "endpoint-crowd": endpoint.crowd,
}
"""What ``--rows`` names."""
