"""This file starts what is measured, the agent and its sink, and reads what they cost from the kernel."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import corpus

COMMAND = str(Path(sys.executable).parent / "telemetry-agent")
READY_WITHIN_SECONDS = 60.0
SAMPLE_SECONDS = 0.02
MB = 1_000_000


class NotMeasuredError(Exception):
    """A row that could not be measured, and why."""


@dataclass(frozen=True)
class Spent:
    """What one process took from start to exit, its children included."""

    cpu_seconds: float
    status: int


def spend(command: list[str]) -> Spent:
    """Runs ``command`` to its end with its output thrown away."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        return waited(process)


def as_installed() -> dict[str, str]:
    """The environment in which it is measured: an installed agent has its bytecode beside its source."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def waited(process: subprocess.Popen[Any]) -> Spent:
    """Waits for the end of a process that is still unreaped."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Spent(usage.ru_utime + usage.ru_stime, process.returncode)


def gzip_cpu_seconds(path: Path) -> float:
    """User and system time of ``gzip -1`` on the file."""
    return spend(["gzip", "-1", "-c", str(path)]).cpu_seconds


def wall_seconds(command: list[str], **options: Any) -> float:
    """How long ``command`` takes; raises where it fails."""
    began = time.perf_counter()
    run = subprocess.run(command, env=as_installed(), capture_output=True, text=True, check=False, **options)
    took = time.perf_counter() - began
    if run.returncode:
        raise NotMeasuredError(f"{' '.join(command)} exited {run.returncode}: {(run.stderr or run.stdout).strip()}")
    return took


@dataclass
class Sink:
    """The backend that is running."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def wait_for(self, lines: int, within_seconds: float, must_live: Callable[[], object]) -> dict[str, Any]:
        """The counters once ``lines`` lines have arrived; ``must_live`` raises when none can come any more."""
        deadline = time.monotonic() + within_seconds
        while (counters := self.ask("/counters"))["lines"] < lines:
            if time.monotonic() > deadline:
                raise NotMeasuredError(f"{counters['lines']} of {lines} lines within {within_seconds:.0f} s")
            must_live()
            time.sleep(0.1)
        return dict(counters)


@contextmanager
def sink(delay_seconds: float = 0.0) -> Iterator[Sink]:
    """A sink that listens, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sink", "--delay-seconds", str(delay_seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Sink(int(process.stdout.readline()))
        finally:
            process.terminate()


def status_bytes(pid: int, *names: str) -> tuple[int, ...]:
    """The values of /proc/PID/status under those names, 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return tuple(0 for _ in names)
    table = dict(line.split(":", 1) for line in lines)
    return tuple(int(table.get(name, "0 kB").split()[0]) * 1024 for name in names)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far, to a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def task_seconds(pid: int) -> float:
    """CPU time of all threads that live now, to the nanosecond (the first figure of /proc/PID/task/TID/schedstat)."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python_bytes() -> int:
    """The peak memory of a Python that does nothing else than tell it."""
    tell = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    return 1024 * int(subprocess.run([sys.executable, "-c", tell], capture_output=True, check=True).stdout)


class Agent:
    """An agent that is running; its memory is sampled while it does."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, began: float) -> None:
        self.process = process
        self.log = log
        self.began = began
        self.ready_seconds = 0.0
        self.ready_cpu_seconds = 0.0
        self.stop_seconds = 0.0
        self.peak_bytes = 0
        self.peak_anonymous_bytes = 0
        self.spent: Spent | None = None
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            peak, anonymous = status_bytes(self.process.pid, "VmHWM", "RssAnon")
            self.peak_bytes = max(self.peak_bytes, peak)
            self.peak_anonymous_bytes = max(self.peak_anonymous_bytes, anonymous)

    def must_live(self) -> None:
        """Raises with the end of its log when it has exited."""
        if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise NotMeasuredError(f"the agent exited by itself: {self.log.read_text()[-2000:]}")

    def wait_until(self, reached: Callable[[], bool], what: str, within_seconds: float) -> None:
        deadline = time.monotonic() + within_seconds
        while not reached():
            self.must_live()
            if time.monotonic() > deadline:
                raise NotMeasuredError(f"{what}: not within {within_seconds:.0f} s")
            time.sleep(0.1)

    def stop(self) -> Spent:
        """SIGTERM, and what it had taken when it was gone."""
        if self.spent is None:
            began = time.perf_counter()
            self.process.send_signal(signal.SIGTERM)
            self.spent = waited(self.process)
            self.stop_seconds = time.perf_counter() - began
            self._ended.set()
            self._sampler.join()
        return self.spent


@contextmanager
def configured(text: str, **values: object) -> Iterator[Path]:
    """A configuration file in a folder of its own, which also holds the state; ``{folder}`` in ``text`` is its path."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=corpus.folder()) as folder:
        config = Path(folder) / "config.toml"
        config.write_text(text.format(folder=folder, **values))
        yield config


@contextmanager
def agent(config: Path, *, prefix: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Iterator[Agent]:
    """The agent, from READY on; stopped at the end, and killed where that does not help. ``prefix`` is the command that
    becomes it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        address = f"{folder}/notify"
        notified.bind(address)
        log = config.parent / "agent.log"
        began = time.perf_counter()
        with (
            log.open("ab") as stderr,
            subprocess.Popen(
                [*prefix, COMMAND, "run", "--config", str(config)],
                env=as_installed() | {"NOTIFY_SOCKET": address} | dict(environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            ) as process,
        ):
            running = Agent(process, log, began)
            try:
                _wait_for_ready(running, notified)
                yield running
            finally:
                killer = threading.Timer(READY_WITHIN_SECONDS, process.kill)
                killer.start()
                running.stop()
                killer.cancel()


def _wait_for_ready(running: Agent, notified: socket.socket) -> None:
    notified.settimeout(0.5)
    while time.perf_counter() - running.began < READY_WITHIN_SECONDS:
        try:
            said = notified.recv(4096)
        except TimeoutError:
            running.must_live()
            continue
        if b"READY=1" in said.split(b"\n"):
            running.ready_seconds = time.perf_counter() - running.began
            running.ready_cpu_seconds = cpu_seconds(running.process.pid)
            return
    raise NotMeasuredError(f"not ready within {READY_WITHIN_SECONDS:.0f} s: {running.log.read_text()[-2000:]}")
