"""This file is journalctl as a child process: what it prints comes in whole lines, what it complains of is kept.

Nobody reads ahead: what is not asked for stays in the pipe, and journalctl waits. When the agent is killed the pipe
closes, and journalctl, which watches its output while it follows, ends at once (systemd, src/journal/journalctl.c,
wait_for_change); one that is printing dies of SIGPIPE.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress

PIPE_BYTES = 1 << 20
STDERR_BYTES = 4096
ENDS_WITHIN_SECONDS = 2.0


class Child:
    """One run of a command. ``start`` and ``end`` may block; the loop waits in ``readable``; ``read`` never blocks."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._stdout = self._stderr = -1
        self._said = b""
        self.status: int | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def waiting_bytes(self) -> int:
        """What it has printed and nobody has read."""
        return int(struct.unpack("i", fcntl.ioctl(self._stdout, termios.FIONREAD, b"\0" * 4))[0])

    @property
    def stderr(self) -> str:
        """The end of what it wrote to standard error so far."""
        with suppress(OSError):
            while self._stderr >= 0 and (data := os.read(self._stderr, STDERR_BYTES)):
                self._said = (self._said + data)[-STDERR_BYTES:]
        return self._said.decode(errors="replace")

    def start(self) -> None:
        """Starts it. Raises OSError where there is no such command."""
        self._stdout, stdout = _pipe()
        self._stderr, stderr = _pipe()
        os.set_blocking(stderr, False)  # a long complaint is cut short; it must not wait for a reader
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is the operator's
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self._environ,
                cwd="/",
                process_group=0,  # a Ctrl-C on the terminal is the agent's to answer
            )
        except BaseException:  # cancelled or interrupted as well: the pipes have no other owner
            self._close()
            raise
        finally:
            os.close(stdout)
            os.close(stderr)

    async def readable(self) -> None:
        """Returns once there is something to read, or the end."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._stdout, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._stdout)

    def read(self, most_bytes: int) -> bytes | None:
        """What there is, empty when there is nothing now; None at the end."""
        try:
            return os.read(self._stdout, most_bytes) or None
        except BlockingIOError:
            return b""

    def end(self) -> None:
        """Ends it where it still runs, and closes what was open; ``status`` and ``stderr`` stay."""
        process = self._process
        if process is not None and self.status is None:
            self.status = process.poll()
            for ask in (process.terminate, process.kill):
                if self.status is None:
                    ask()
                    with suppress(subprocess.TimeoutExpired):
                        self.status = process.wait(ENDS_WITHIN_SECONDS)
        self._close()

    def wait(self) -> None:
        """Gives it a moment to exit after its output ended."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.status = self._process.wait(ENDS_WITHIN_SECONDS)

    def _close(self) -> None:
        _ = self.stderr
        for descriptor in (self._stdout, self._stderr):
            if descriptor >= 0:
                os.close(descriptor)
        self._stdout = self._stderr = -1


def _pipe() -> tuple[int, int]:
    """A pipe whose end that is read does not block, as large as the kernel allows up to PIPE_BYTES."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    with suppress(OSError):
        fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write


def output_of(
    command: Sequence[str], environ: Mapping[str, str], within_seconds: float
) -> tuple[int | None, bytes, str]:
    """The exit status (None where it did not end in time), output and complaints of a command. Raises OSError."""
    try:
        ran = subprocess.run(  # noqa: S603 - the command is the operator's
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(environ),
            cwd="/",
            timeout=within_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        return None, b"", (expired.stderr or b"").decode(errors="replace")
    return ran.returncode, ran.stdout, ran.stderr.decode(errors="replace")
