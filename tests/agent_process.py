"""This file starts the agent as a process of its own, as systemd does: told READY over a socket, never polled for.

    config = written(tmp_path, '[export.loki]\\nurl = "http://127.0.0.1:9"')
    with running(config) as agent:          # returns when the agent has said READY=1
        agent.endpoint()                    # "http://127.0.0.1:40321": it listens on a port of its own
        agent.kill()                        # SIGKILL; agent.stop() is SIGTERM; both return the exit status
        with running(config) as again: …    # the same state
    agent.stderr()                          # everything it wrote

Every wait has a deadline and ends at once when the process does.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.cli.control import ask, socket_path

COMMAND = str(Path(sys.executable).parent / "telemetry-agent")
WITHIN_SECONDS = 60.0
"""More than any wait takes on a machine that is only slow."""

DEAD_LOKI = '[export.loki]\nurl = "http://127.0.0.1:9"\n'
"""A destination where nobody listens: everything stays in the spool."""


class AgentProcessError(AssertionError):
    """The agent did not do what was waited for; what it wrote is in the message."""


class AgentProcess:
    """An agent that was started. Its standard error goes to ``agent.log`` beside its configuration."""

    def __init__(self, process: subprocess.Popen[bytes], config: Path, notified: socket.socket, log: Path) -> None:
        self.process = process
        self.config = config
        self.said: list[str] = []
        """Every line it told the service manager, in order."""
        self._notified = notified
        self._log = log
        self._log_start = log.stat().st_size
        self._ended = os.pidfd_open(process.pid)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def socket(self) -> Path:
        """Its control socket."""
        return socket_path(self.config, {})

    def stderr(self) -> str:
        """What this process wrote so far; nothing of those before it."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    # Waiting

    def wait_ready(self, within_seconds: float = WITHIN_SECONDS) -> None:
        """Returns when it has said READY=1."""
        self.wait_said("READY=1", within_seconds)

    def wait_said(self, wanted: str, within_seconds: float = WITHIN_SECONDS) -> str:
        """The first line it told the service manager that starts with ``wanted``, now or earlier."""
        deadline = time.monotonic() + within_seconds
        while (found := next((line for line in self.said if line.startswith(wanted)), None)) is None:
            if not self._hear(deadline):
                raise self._failed(f"{wanted} was not said within {within_seconds:g} s")
        return found

    def _hear(self, deadline: float) -> bool:
        """Takes in one message; False after the deadline. Raises where the agent is gone and has said no more."""
        waiting = select.poll()
        waiting.register(self._notified, select.POLLIN)
        waiting.register(self._ended, select.POLLIN)
        ready = {descriptor for descriptor, _ in waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)}
        if self._notified.fileno() in ready:
            self.said += self._notified.recv(65536).decode().splitlines()
        elif ready:
            raise self._failed("it exited")
        return bool(ready)

    def wait_exit(self, within_seconds: float = WITHIN_SECONDS) -> int:
        """Its exit status, or minus the number of the signal that ended it."""
        waiting = select.poll()
        waiting.register(self._ended, select.POLLIN)
        if self.process.returncode is None and not waiting.poll(within_seconds * 1000):
            raise self._failed(f"it did not exit within {within_seconds:g} s")
        return self.process.wait()

    # Acting

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def stop(self, within_seconds: float = WITHIN_SECONDS) -> int:
        """SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait_exit(within_seconds)

    def kill(self) -> int:
        """SIGKILL: no chance to put anything in order."""
        self.signal(signal.SIGKILL)
        return self.wait_exit()

    # Asking

    def ask(self, command: str, **request: Any) -> dict[str, Any]:
        """What it answers on its control socket."""
        return ask(self.socket, {"command": command, **request}, WITHIN_SECONDS)

    def status(self) -> dict[str, Any]:
        """Its status document."""
        return self.ask("status")

    def endpoint(self) -> str:
        """The URL it answers on."""
        url = self.status()["endpoint"]
        assert isinstance(url, str), "it has no endpoint"
        return url

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs ``telemetry-agent ARGUMENTS --config …`` with its configuration."""
        return command(self.config, *arguments, **options)

    def close(self) -> None:
        """Ends it however it can be ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ended)

    def _failed(self, what: str) -> AgentProcessError:
        return AgentProcessError(
            f"agent {self.pid}: {what}; exit status {self.process.poll()}; it wrote:\n{self.stderr()}"
        )


@contextmanager
def started(config: Path, environ: Mapping[str, str] | None = None, *before: str) -> Iterator[AgentProcess]:
    """An agent from its first moment on, perhaps not yet ready; ``before`` is put before the command (``strace`` …)."""
    log = config.parent / "agent.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, log.open("ab") as stderr:
        notified.bind("")  # an address that the kernel chooses, and that no long path is in the way of
        process = subprocess.Popen(
            [*before, COMMAND, "run", "--config", str(config)],
            env=clean_environ() | {"NOTIFY_SOCKET": f"@{notified.getsockname()[1:].decode()}"} | dict(environ or {}),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
        agent = AgentProcess(process, config, notified, log)
        try:
            yield agent
        finally:
            agent.close()


@contextmanager
def running(
    config: Path, environ: Mapping[str, str] | None = None, *, within_seconds: float = WITHIN_SECONDS
) -> Iterator[AgentProcess]:
    """An agent from READY on. At the end it is stopped in good order where it still runs, which must succeed."""
    with started(config, environ) as agent:
        agent.wait_ready(within_seconds)
        yield agent
        if agent.process.poll() is None:
            status = agent.stop()
            if status:
                raise AgentProcessError(f"the agent exited {status} when it was stopped; it wrote:\n{agent.stderr()}")


def written(
    folder: Path, body: str = DEAD_LOKI, *, name: str = "config.toml", agent: str = "", serve: str = ""
) -> Path:
    """A configuration in ``folder`` with its state and socket beside it and a port that the kernel chooses.

    ``agent`` and ``serve`` are lines for those tables, ``body`` is everything else.
    """
    path = folder / name
    path.write_text(
        f'[agent]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n{agent}\n'
        f'[serve]\nlisten = "127.0.0.1:0"\n{serve}\n{body}\n'
    )
    return path


def command(config: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs ``telemetry-agent ARGUMENTS --config CONFIG`` to its end; text in, text out."""
    given = {"env": clean_environ(), "capture_output": True, "text": True, "timeout": WITHIN_SECONDS} | options
    return subprocess.run([COMMAND, *arguments, "--config", str(config)], check=False, **given)


def clean_environ() -> dict[str, str]:
    """This process's environment without what would configure an agent, or make it talk to a service manager."""
    ours = ("TELEMETRY_AGENT__", "NOTIFY_", "WATCHDOG_", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def unmeasured_environ() -> dict[str, str]:
    """The same without the measuring of coverage, which imports modules, and writes where another user may not."""
    return {name: value for name, value in clean_environ().items() if not name.startswith("COVERAGE")}
