"""This file talks to systemd: ready, status, stopping, and a watchdog fed from real progress (sd_notify(3))."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import sdnotify

from agent.clock import Clock


class Notify:
    """Messages to the service manager; where there is none they go nowhere."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._notifier = sdnotify.SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None
        self.watchdog_seconds = _watchdog_seconds(environ)

    def ready(self, status: str) -> None:
        """Says that the agent is up."""
        self._say(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Sets the line that ``systemctl status`` shows."""
        self._say(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """Says that the agent is on its way out."""
        self._say("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._say("WATCHDOG=1")

    def _say(self, message: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(message)


async def feed_watchdog(notify: Notify, clock: Clock, stuck: Callable[[], str | None]) -> str:
    """Feeds it every half of its time while ``stuck`` names nothing; returns what is stuck."""
    assert notify.watchdog_seconds, "asked for only where systemd wants it"
    while (reason := stuck()) is None:
        notify.alive()
        await clock.sleep(notify.watchdog_seconds / 2)
    return reason


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 or None


def _line(text: str) -> str:
    return " ".join(text.split())
