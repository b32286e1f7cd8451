"""This file ends the agent: the first signal asks, the second changes nothing, the third ends it at once.

A thread of its own watches the clock, so that also a stop that hangs is over after HARD_STOP_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("telemetry_agent.supervise")

HARD_STOP_SECONDS = 30.0
FAILED = 1


class Stop:
    """Whether, and why, the agent should end."""

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        self.reason: str | None = None
        self.failed = False
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._signals = 0
        self._leave = leave

    def ask(self, reason: str, *, failed: bool = False) -> None:
        """Asks the agent to end; ``failed`` makes its exit status 1."""
        self.failed = self.failed or failed
        if self.reason is None:
            self.reason = reason
            timer = threading.Timer(HARD_STOP_SECONDS, self._give_up)
            timer.daemon = True
            timer.start()
        self._asked.set()

    def ask_from_thread(self, reason: str) -> None:
        """The same for a failure outside the loop."""
        self._loop.call_soon_threadsafe(lambda: self.ask(reason, failed=True))

    def on_signal(self, number: int) -> None:
        """Counts signals: asks, ignores, ends."""
        self._signals += 1
        if self._signals >= 3:
            log.warning("third signal: leaving at once; what was not sent is in the spool")
            self._leave(FAILED)
        elif self._signals == 2:
            log.info("already stopping (%s); a third signal ends it at once", self.reason)
        self.ask(signal.Signals(number).name)

    async def wait(self) -> str:
        """Returns the reason once somebody has asked."""
        await self._asked.wait()
        return self.reason or ""

    def _give_up(self) -> None:
        log.error("stopping took more than %g s; leaving now, what was not sent is in the spool", HARD_STOP_SECONDS)
        self._leave(FAILED)


@contextmanager
def signals(stop: Stop, reload: Callable[[], object]) -> Iterator[None]:
    """Routes SIGTERM and SIGINT to ``stop`` and SIGHUP to ``reload``; failures of threads and of the loop too."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    hook = threading.excepthook

    def failed_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        log.error("thread %s failed", name, exc_info=args.exc_value)
        stop.ask_from_thread(f"thread {name} failed: {args.exc_type.__name__}")

    threading.excepthook = failed_thread
    try:
        yield
    finally:
        threading.excepthook = hook
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
