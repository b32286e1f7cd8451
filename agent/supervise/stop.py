"""This file ends the agent: the first signal asks, the second changes nothing, the third ends it at once.

A thread of its own hears the signals and watches the clock, so that a loop that hangs is ended too, and a stop that
hangs is over after HARD_STOP_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

from agent.clock import SystemClock

log = logging.getLogger("telemetry_agent.supervise")

HARD_STOP_SECONDS = 30.0
ENDS_AT_ONCE = 3
FAILED = 1

OVER, ASKED = "over", "asked"


class Stop:
    """Whether, and why, the agent should end."""

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        self.reason: str | None = None
        self.failed = False
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._leave = leave
        self._heard: SimpleQueue[str] = SimpleQueue()

    def ask(self, reason: str, *, failed: bool = False) -> None:
        """Asks the agent to end; ``failed`` makes its exit status 1."""
        self.failed = self.failed or failed
        if self.reason is None:
            self.reason = reason
        self._heard.put(ASKED)
        self._asked.set()

    def ask_from_thread(self, reason: str, *, failed: bool = False) -> None:
        """The same from outside the loop."""
        with suppress(RuntimeError):  # the loop has ended meanwhile, and with it everything there was to stop
            self._loop.call_soon_threadsafe(lambda: self.ask(reason, failed=failed))

    def hear(self, number: int, _frame: object = None) -> None:
        """A signal handler: it may run between any two instructions, so it takes no lock and writes no line."""
        self._heard.put(signal.Signals(number).name)

    async def wait(self) -> str:
        """Returns the reason once somebody has asked."""
        await self._asked.wait()
        return self.reason or ""

    def watch(self) -> None:
        """The thread: hears until it is over, or leaves."""
        clock = SystemClock()
        deadline: float | None = None
        signals = 0
        while True:
            try:
                heard = self._heard.get(
                    timeout=None if deadline is None else max(0.0, deadline - clock.monotonic_seconds())
                )
            except Empty:
                self._give_up()
                return
            if heard == OVER:
                return
            deadline = deadline or clock.monotonic_seconds() + HARD_STOP_SECONDS
            if heard != ASKED:
                signals += 1
                self._count(signals, heard)

    def over(self) -> None:
        """Ends the thread."""
        self._heard.put(OVER)

    def _count(self, signals: int, name: str) -> None:
        if signals == 1:
            self.ask_from_thread(name)
        elif signals < ENDS_AT_ONCE:
            log.info("already stopping (%s); one more signal ends it at once", self.reason or name)
        else:
            log.warning("%d signals: leaving at once; what was not sent is in the spool", signals)
            self._leave(FAILED)

    def _give_up(self) -> None:
        log.error("stopping took more than %g s; leaving now, what was not sent is in the spool", HARD_STOP_SECONDS)
        self._leave(FAILED)


@contextmanager
def stopping(reload: Callable[[], object]) -> Iterator[Stop]:
    """Routes SIGTERM and SIGINT, and failures of threads and forgotten tasks, to a stop, and SIGHUP to ``reload``."""
    loop = asyncio.get_running_loop()
    stop = Stop()
    watching = threading.Thread(target=stop.watch, name="stop", daemon=True)
    watching.start()
    loop.add_signal_handler(signal.SIGHUP, reload)  # also makes every signal wake the loop
    before = {number: signal.signal(number, stop.hear) for number in (signal.SIGTERM, signal.SIGINT)}
    hook, threading.excepthook = threading.excepthook, _thread_failed(stop)
    loop.set_exception_handler(_loop_failed(stop))
    try:
        yield stop
    finally:
        loop.set_exception_handler(None)
        threading.excepthook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        loop.remove_signal_handler(signal.SIGHUP)
        stop.over()


def unheard() -> list[str]:
    """The names of the signals that would not be heard now, of those that ``stopping`` routes."""
    stops = (signal.SIGTERM, signal.SIGINT)
    deaf = [each for each in stops if getattr(signal.getsignal(each), "__func__", None) is not Stop.hear]
    if signal.getsignal(signal.SIGHUP) in (signal.SIG_DFL, signal.SIG_IGN, None):
        deaf.append(signal.SIGHUP)
    return [each.name for each in deaf]


def _thread_failed(stop: Stop) -> Callable[[threading.ExceptHookArgs], None]:
    def failed(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        log.error("thread %s failed", name, exc_info=args.exc_value)
        stop.ask_from_thread(f"thread {name} failed: {args.exc_type.__name__}", failed=True)

    return failed


def _loop_failed(stop: Stop) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """A task that failed and that nobody awaited ends the agent; what a peer did to a connection does not."""

    def failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, task = context.get("exception"), context.get("task") or context.get("future")
        log.error("%s", context.get("message", "the loop met an error"), exc_info=error)
        if error is not None and isinstance(task, asyncio.Task):
            stop.ask(f"{task.get_name()} failed: {type(error).__name__}", failed=True)

    return failed
