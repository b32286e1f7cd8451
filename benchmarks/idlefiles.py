"""This file measures ten thousand log files to which nobody writes: what watching them costs, and starting on them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import corpus
from benchmarks.figures import Figure
from benchmarks.processes import MB, agent, free_port, python_bytes, sink, task_seconds

FILES = 10_000
DIRECTORIES = 100
SETTLE_SECONDS = 30
REST_SECONDS = 120

CONFIG = """
[agent]
state_dir = "{folder}/state"
run_dir = "{folder}/run"

[collect.file]
paths = ["{logs}/*/*.log"]
start_at = "{start_at}"

[export.loki]
url = "{url}"

[serve]
listen = "127.0.0.1:{port}"
"""


def write(logs: Path) -> None:
    """The files, each with a few lines of its own."""
    for number in range(FILES):
        path = logs / f"app-{number % DIRECTORIES}" / f"{number}.log"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(b"line %d of %d\n" % (line, number) for line in range(20)))


def at_rest(_repeat: int) -> Iterator[Figure]:
    """CPU over two minutes and memory, once all was read; then how long another start takes to READY."""
    with (
        sink() as backend,
        tempfile.TemporaryDirectory(prefix="bench-", dir=corpus.folder()) as made,
    ):
        folder, logs = Path(made), Path(made) / "logs"
        logs.mkdir()
        write(logs)
        config = folder / "config.toml"
        text = CONFIG.format(folder=folder, logs=logs, url=backend.url, port=free_port(), start_at="beginning")
        config.write_text(text)
        with agent(config) as running:
            backend.wait_for(20 * FILES, 120, running.must_live)
            time.sleep(SETTLE_SECONDS)
            began, began_seconds = time.monotonic(), task_seconds(running.process.pid)
            time.sleep(REST_SECONDS)
            running.must_live()
            spent = task_seconds(running.process.pid) - began_seconds
            took = time.monotonic() - began
            peak_bytes, first_ready_seconds = running.peak_bytes, running.ready_seconds
        with agent(config) as running:
            time.sleep(1)
            ready_seconds = running.ready_seconds
    name = f"{FILES:,} files at rest"
    yield Figure(f"{name}: CPU in a minute", spent * 60 / took, "s", "a core", 60.0, 0.005, "ratio")
    yield Figure(f"{name}: peak memory", peak_bytes / MB, "MB", "Python doing nothing", python_bytes() / MB, 100.0)
    yield Figure(f"{name}: first start to READY", first_ready_seconds, "s", "with positions", ready_seconds, 0.5)
    yield Figure(f"{name}: start to READY", ready_seconds, "s", "the first start", first_ready_seconds, 0.5)
