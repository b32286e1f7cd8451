"""This file keeps the latest answer of something that may hang, so that who looks at the agent is always answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

PATIENCE_SECONDS = 1.0

T = TypeVar("T")


class Latest(Generic[T]):
    """Asks anew whenever it is looked at, and gives the last answer where the new one takes too long.

    There is one question at a time: one that hangs is not asked again before it has been answered, and only who looked
    first waits for it.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], first: T, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._ask = ask
        self._latest = first
        self._patience_seconds = patience_seconds
        self._asking: asyncio.Task[None] | None = None
        self._late = False

    async def get(self) -> T:
        """The answer of this moment, or the last there was. Raises what asking raises."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._answer(), name="look")
        asking = self._asking
        await asyncio.wait((asking,), timeout=0 if self._late else self._patience_seconds)
        self._late = not asking.done()
        if asking.done():
            self._asking = None if self._asking is asking else self._asking
            if not asking.cancelled():
                asking.result()
        return self._latest

    async def close(self) -> None:
        """Ends a question that hangs."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _answer(self) -> None:
        self._latest = await self._ask()
