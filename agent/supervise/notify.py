"""This file talks to systemd: ready, status, stopping, and a watchdog fed from real progress (sd_notify(3))."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from agent.clock import Clock
from agent.ownlogs.lines import Repeating

log = logging.getLogger("telemetry_agent.supervise")

SAY_SECONDS = 1.0
MOST_LINE_CHARACTERS = 500


class Notify:
    """Messages to the service manager; where there is none they go nowhere."""

    def __init__(self, notifier: Any, watchdog_seconds: float | None) -> None:
        self._notifier = notifier
        self.watchdog_seconds = watchdog_seconds
        self._stopping = False

    @property
    def heard(self) -> bool:
        """Whether there is a service manager to talk to."""
        return self._notifier is not None

    def ready(self, status: str) -> None:
        """Says that the agent is up."""
        self._say(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Sets the line that ``systemctl status`` shows."""
        self._say(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """Says that the agent is on its way out; after that it is not said to be ready any more."""
        self._stopping = True
        self._say("STOPPING=1\nSTATUS=stopping")

    @contextmanager
    def reloading(self, clock: Clock) -> Iterator[None]:
        """Says that the configuration is read again, and, when it is left, that the agent is as ready as before.

        sd_notify(3): a unit of Type=notify-reload waits for both, and for the monotonic time in microseconds.
        """
        self._say(f"RELOADING=1\nMONOTONIC_USEC={int(clock.monotonic_seconds() * 1e6)}")
        try:
            yield
        finally:
            if not self._stopping:
                self._say("READY=1")

    def extend(self, seconds: float) -> None:
        """Asks for that much more time before starting or stopping counts as failed (EXTEND_TIMEOUT_USEC)."""
        self._say(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._say("WATCHDOG=1")

    def trouble(self) -> str:
        """Why the service manager does not hear us; empty where it does, or there is none that wants to."""
        if self._notifier is None:
            return ""
        if self._notifier.socket is None:
            return "its socket could not be opened"
        try:
            address = self._notifier.socket.getpeername()
        except OSError as error:
            return f"its socket is gone: {error.strerror}"
        return "" if not isinstance(address, str) or os.path.exists(address) else f"its socket {address} is gone"

    def _say(self, message: str) -> None:
        if self._notifier is not None:
            # The library encodes Latin-1 and drops a message that has anything else in it, READY=1 included.
            self._notifier.notify(message.encode().decode("latin-1"))


@contextmanager
def notifying(environ: Mapping[str, str]) -> Iterator[Notify]:
    """The way to the service manager that ``NOTIFY_SOCKET`` names, until it is left."""
    if not environ.get("NOTIFY_SOCKET"):
        yield Notify(None, None)
        return
    import sdnotify

    notifier = sdnotify.SystemdNotifier()
    if notifier.socket is not None:
        notifier.socket.settimeout(SAY_SECONDS)
    try:
        yield Notify(notifier, _watchdog_seconds(environ))
    finally:
        if notifier.socket is not None:
            notifier.socket.close()


async def feed_watchdog(notify: Notify, clock: Clock, stuck: Callable[[], Sequence[str]]) -> None:
    """Feeds it every half of its time, for ever, except while something is stuck."""
    assert notify.watchdog_seconds, "asked for only where systemd wants it"
    troubles = Repeating(log, clock.monotonic_seconds)
    while True:
        if reasons := stuck():
            message = f"{'; '.join(reasons)}; the watchdog is not fed, so that systemd starts the agent again"
            troubles.failed("stuck", message, level=logging.ERROR)
        else:
            troubles.recovered("it moves again; the watchdog is fed")
            notify.alive()
        await clock.sleep(notify.watchdog_seconds / 2)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Seconds of ``WATCHDOG_USEC``, where it is meant for this process (sd_watchdog_enabled(3)); else None."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()):
        return None
    if environ.get("WATCHDOG_PID") not in (None, "", str(os.getpid())):
        return None
    return int(microseconds) / 1e6 or None


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_LINE_CHARACTERS else f"{line[: MOST_LINE_CHARACTERS - 1]}…"
