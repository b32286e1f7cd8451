"""This file measures the whole default job at rest: host, files, journal, remote_write, Loki and the endpoint.

Memory is counted as systemd counts a unit's ``Memory:``: what the kernel charges to a control group of its own, with
the children and the page cache that start-up filled; cold, after the kernel was told to forget its caches, and for a
later start, each in a group of its own. That takes root and a memory controller; where there is none, those rows are
left out. Bytecode is what an installation has: compiled before, with the optimisation that the unit asks for. What the
disk reads ahead stands in the cold figure: 128 KiB unless /sys/block/*/queue/read_ahead_kb was changed, and 4 MiB more
of the page cache at 8 MiB.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import MB, agent, free_port, python_bytes, sink, status_bytes, task_seconds

COMPILE_SECONDS = 20
SETTLE_SECONDS = 66
REST_SECONDS = 60
SCRAPE_SECONDS = 15
LINE_SECONDS = 10
MIB = 1 << 20
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
GROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.usage_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.current"),
)
"""Where control groups with a memory controller are made, version 1 and 2, and the file that tells the charge."""

UNIT = {"MALLOC_ARENA_MAX": "1", "PYTHONNODEBUGRANGES": "1", "PYTHONOPTIMIZE": "2"}
"""What a unit sets in the agent's environment, beside the directory of the bytecode."""

DEFAULT_JOB = """
[agent]
state_dir = "{folder}/state"
run_dir = "{folder}/run"

[collect.file]
paths = ["{folder}/*.log"]

[collect.journal]

[export.remote_write]
url = "{url}/api/v1/write"

[export.loki]
url = "{url}"

[serve]
listen = "127.0.0.1:{port}"
"""


@contextmanager
def group() -> Iterator[tuple[Path, str] | None]:
    """A control group of its own and the file that tells its charge; None where none can be made."""
    for root, usage in GROUPS:
        made = root / f"telemetry-agent-bench-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        if not (made / usage).exists():
            made.rmdir()
            continue
        try:
            yield made, usage
        finally:
            made.rmdir()
        return
    yield None


def at_rest(_repeat: int) -> Iterator[Figure]:
    """CPU over a minute, and memory: cold first, then for a start that finds its files in the page cache."""
    bare = python_bytes()
    with sink() as backend, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        job = Job(Path(folder), backend.url, free_port())
        with agent(job.config(), environ=job.environ):
            job.live(COMPILE_SECONDS)
        for start in ("cold", "restarted"):
            if start == "cold" and os.access(DROP_CACHES, os.W_OK):
                os.sync()
                DROP_CACHES.write_text("3\n")
            with group() as made:
                yield from _one_start(start, job, made, bare)


class Job:
    """The default job in a folder of its own."""

    def __init__(self, folder: Path, url: str, port: int) -> None:
        self.environ = UNIT | {"PYTHONPYCACHEPREFIX": str(folder / "pycache")}
        self._folder = folder
        self._url = url
        self._port = port

    def config(self) -> Path:
        """Its configuration, written."""
        path = self._folder / "config.toml"
        path.write_text(DEFAULT_JOB.format(folder=self._folder, url=self._url, port=self._port))
        return path

    def live(self, seconds: int) -> None:
        """Lets a line come in now and then, and a scrape as often as Prometheus would."""
        with (self._folder / "app.log").open("ab", buffering=0) as app:
            for second in range(seconds):
                if second % LINE_SECONDS == 0:
                    app.write(b"a line of an application that has little to say\n")
                if second % SCRAPE_SECONDS == 0:
                    _scrape(self._port)
                time.sleep(1)


def _one_start(start: str, job: Job, made: tuple[Path, str] | None, bare: int) -> Iterator[Figure]:
    joining = ["sh", "-c", f'echo $$ > {made[0]}/cgroup.procs && exec "$@"', "sh"] if made else []
    with agent(job.config(), prefix=joining, environ=job.environ) as running:
        pid = running.process.pid
        job.live(SETTLE_SECONDS)
        began, began_seconds = time.monotonic(), task_seconds(pid)
        job.live(REST_SECONDS)
        spent, took = task_seconds(pid) - began_seconds, time.monotonic() - began
        running.must_live()
        pids = [pid, *_children(pid)]
        resident, anonymous = map(sum, zip(*(status_bytes(each, "VmRSS", "RssAnon") for each in pids), strict=True))
        charged = int((made[0] / made[1]).read_text()) if made else None
    name = f"the whole default job at rest, {start}"
    if start == "restarted":
        yield Figure(f"{name}: CPU in a minute", spent * REST_SECONDS / took, "s", "a core", 60.0, 0.005, "ratio")
    beside = "Python doing nothing"
    yield Figure(f"{name}: resident memory", resident / MB, "MB", beside, bare / MB)
    yield Figure(f"{name}: anonymous memory", anonymous / MB, "MB", beside, bare / MB, 28.0)
    if charged is not None:
        yield Figure(f"{name}: charged to its control group", charged / MIB, "MiB", beside, bare / MIB, 37.4)


def _scrape(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        connection.getresponse().read()
    finally:
        connection.close()


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for listed in lists for child in listed.read_text().split()]
