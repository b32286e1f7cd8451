"""This file is the clock and the context that tests hand to whatever they test."""

from __future__ import annotations

import asyncio
import heapq
from pathlib import Path
from typing import Any

from agent.contract import Context
from agent.host import Host
from agent.ownmetrics import Meter


class FakeClock:
    """A clock that stands still until ``advance`` is awaited; sleepers wake in order of their time."""

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._wall_ns = wall_ns
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0

    def wall_ns(self) -> int:
        return self._wall_ns

    def monotonic_seconds(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._order, future))
        await future

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def set_wall(self, wall_ns: int) -> None:
        """Steps the wall clock alone, as an administrator or NTP does."""
        self._wall_ns = wall_ns

    def move(self, seconds: float) -> None:
        """Moves both clocks without waking anybody."""
        self._wall_ns += round(seconds * 1e9)
        self._monotonic += seconds

    async def advance(self, seconds: float) -> None:
        """Moves both clocks, waking each sleeper at its time and letting it run until it waits again."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            if due > self._monotonic:
                self.move(due - self._monotonic)
            if not future.done():
                future.set_result(None)
            await settle()
        if end > self._monotonic:
            self.move(end - self._monotonic)


async def settle(turns: int = 20) -> None:
    """Lets every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


def context(tmp_path: Path, name: str = "test", **changes: Any) -> Context:
    """A context whose directories are under ``tmp_path``."""
    values: dict[str, Any] = {
        "name": name,
        "host": Host(state_dir=tmp_path / "state", run_dir=tmp_path / "run", environ={}, hostname="testhost"),
        "clock": FakeClock(),
        "meter": Meter(),
    }
    return Context(**(values | changes))
