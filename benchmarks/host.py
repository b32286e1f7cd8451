"""This file measures the metrics of the host: a cycle beside a scrape of node_exporter, and a whole agent at rest."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import NotMeasuredError, agent, free_port, sink, task_seconds

SETTLE_SECONDS = 68
EXPORTER = "prometheus-node-exporter"
ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""What Prometheus asks for."""

HOST = """
[agent]
state_dir = "{folder}/state"
run_dir = "{folder}/run"

[collect.host]
interval_seconds = {interval_seconds}

[export.remote_write]
url = "{url}/api/v1/write"

[serve]
listen = "127.0.0.1:0"
"""


class Exporter:
    """A node_exporter that is running."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def scrape(self) -> bytes:
        """One scrape as Prometheus makes it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"})
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def exporter(*arguments: str) -> Iterator[Exporter]:
    """Debian's node_exporter with its defaults, but for the arguments."""
    program = shutil.which(EXPORTER)
    if program is None:
        raise NotMeasuredError(f"{EXPORTER} is not installed: apt-get install {EXPORTER}")
    port = free_port()
    command = [program, f"--web.listen-address=127.0.0.1:{port}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        running = Exporter(process.pid, port)
        try:
            for _ in range(100):
                try:
                    running.scrape()
                    break
                except OSError:
                    time.sleep(0.1)
            yield running
        finally:
            process.terminate()


def cycles(interval_seconds: int, count: int, target: float | None) -> Callable[[int], Iterator[Figure]]:
    """The row of one interval: everything the agent does, its rest between two cycles included."""

    def measure(_repeat: int) -> Iterator[Figure]:
        with (
            sink() as backend,
            tempfile.TemporaryDirectory(prefix="bench-") as folder,
            exporter() as beside,
        ):
            config = Path(folder) / "config.toml"
            config.write_text(HOST.format(folder=folder, url=backend.url, interval_seconds=interval_seconds))
            with agent(config) as running:
                time.sleep(SETTLE_SECONDS)  # what only the first minute does is over
                requests = backend.ask("/counters")["requests"]
                began, theirs = task_seconds(running.process.pid), task_seconds(beside.pid)
                for _ in range(count):
                    time.sleep(interval_seconds)
                    beside.scrape()
                running.must_live()
                ours = (task_seconds(running.process.pid) - began) / count
                per_scrape = (task_seconds(beside.pid) - theirs) / count
                sent = backend.ask("/counters")["requests"] - requests
        if sent < count - 1:
            raise NotMeasuredError(f"{sent} requests arrived in {count} cycles")
        name = f"host metrics every {interval_seconds} s, collected, spooled and sent: CPU a cycle"
        yield Figure(name, ours, "s", "node_exporter, a scrape", per_scrape, target, "ratio")

    return measure
