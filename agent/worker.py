"""This file runs blocking calls one at a time on a thread of their own.

The thread is a daemon and nothing joins it at exit: a call stuck on a dead NFS mount delays nobody.
(concurrent.futures joins its threads when the interpreter exits, so it is not used.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
R = TypeVar("R")
_Call = tuple[
    "asyncio.AbstractEventLoop", "asyncio.Future[Any]", Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]
]


class Worker:
    """One named daemon thread; calls run in the order in which they were made. Leaving ``with`` ends the thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._turn, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Returns what ``call`` returns or raises what it raises. Cancelling does not stop a call that has begun."""
        import asyncio  # commands that answer at once declare components and never run a loop

        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._calls.put((loop, future, copy_context(), call, args, kwargs))  # its log lines carry our correlation id
        return await future

    async def finish(self, call: Callable[[], object], within_seconds: float) -> None:
        """Makes a last call and waits for it no longer than that; what takes longer goes on with nobody waiting. One
        that fails is said, and raises nothing: whoever ends is not to be kept from it."""
        import asyncio
        import logging

        made = asyncio.ensure_future(self.run(call))
        await asyncio.wait((made,), timeout=within_seconds)
        if not made.done():
            made.cancel()
        elif not made.cancelled() and (error := made.exception()) is not None:
            logging.getLogger("telemetry_agent.worker").error(
                "%s could not be ended in good order", self.name, exc_info=error
            )

    def close(self) -> None:
        """Lets the thread end after the calls already made; does not wait for it."""
        self._calls.put(None)

    def join(self, timeout_seconds: float) -> bool:
        """Waits for the thread after ``close``; False when it was still busy after ``timeout_seconds``."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _turn(self) -> None:
        while (item := self._calls.get()) is not None:
            loop, future, context, call, args, kwargs = item
            try:
                result, error = context.run(call, *args, **kwargs), None
            except BaseException as raised:  # noqa: BLE001 - handed to whoever awaits the call
                result, error = None, raised
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop was closed while the call ran: nobody awaits it any more
                return
            del item, future, context, call, args, kwargs, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
