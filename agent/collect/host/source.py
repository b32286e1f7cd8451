"""This file is the host source: a cycle of the machine's collectors on every tick, and one for whoever scrapes.

A cycle is one batch. Where no destination takes metrics there are no ticks: the machine is read when it is looked at.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from agent.batch import Family, Metrics, cycle_of, labels_of
from agent.collect.host import SUBJECTS, Subject
from agent.collect.host.machine import Machine
from agent.collect.poll import NO_DATA, Poll, Result
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from agent.collect.host.options import HostOptions
    from agent.contract import Collector, Context

JOB: Final = "node"
"""What dashboards and alert rules made for node_exporter select by."""

FRESH_SECONDS: Final = 1.0
"""Who scrapes is given what was read at most that long ago: many scrapers cost no more than one."""

SCRAPES: Final = Table(
    ("collector",),
    Metric("node_scrape_collector_duration_seconds", "gauge", "node_exporter: Duration of a collector scrape."),
    Metric("node_scrape_collector_success", "gauge", "node_exporter: Whether a collector succeeded."),
)


class Subjects:
    """The collectors that this machine has something for; one is imported when what it needs appears."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._opened: dict[str, Collector] = {}
        options = machine.options
        wanted = [name for name in options.only or SUBJECTS if name not in options.without]
        self.names = sorted(wanted, key=lambda name: SUBJECTS[name].reads_disks)

    def here(self) -> dict[str, Collector]:
        """The collectors by name, those that a dead disk may block last."""
        return {name: self._collector(name) for name in self.names if self._exists(SUBJECTS[name])}

    def _exists(self, subject: Subject) -> bool:
        if not subject.needs:
            return True
        below, _, path = subject.needs.partition("/")
        return os.path.exists(f"{self._machine.proc if below == 'proc' else self._machine.sys}/{path}")

    def _collector(self, name: str) -> Collector:
        found = self._opened.get(name)
        if found is None:
            found = self._opened[name] = self._open(name)
        return found

    def _open(self, name: str) -> Collector:
        try:
            opened: Collector = importlib.import_module(SUBJECTS[name].module).COLLECTOR(self._machine)
        except Exception as error:  # noqa: BLE001 - one that cannot be loaded fails by itself, not the others with it
            return Unopened(error)
        return opened


class Unopened:
    """Stands in for a collector that could not be opened, and fails with the reason."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def collect(self) -> Iterable[Family]:
        raise self._error


class HostSource:
    """The source; see agent.contract.Source and Viewable."""

    def __init__(self, options: HostOptions, context: Context, poll: Poll, subjects: Subjects) -> None:
        self._options = options
        self._context = context
        self._clock = context.clock
        self._poll = poll
        self._subjects = subjects
        self._labels = labels_of({"job": JOB, "instance": context.host.hostname}, context.labels, options.labels)
        self._cycling = asyncio.Lock()
        self._families: Sequence[Family] = ()
        self._series: int | None = 0
        self._cycled_seconds: float | None = None
        self._ticked_seconds: float | None = None
        self._last: Metrics | None = None
        self._results: Sequence[Result] = ()

    async def batches(self) -> AsyncGenerator[Metrics, None]:
        """A batch a tick, on a grid of its own; ticks that were missed are left out."""
        if not self._context.routed:
            await asyncio.get_running_loop().create_future()
        interval = self._options.interval_seconds
        next_seconds = self._clock.monotonic_seconds()
        while True:
            async with self._cycling:
                await self._cycle()
            self._ticked_seconds = self._cycled_seconds
            yield self._batch()
            next_seconds += interval
            late = self._clock.monotonic_seconds() - next_seconds
            if late > 0:
                next_seconds += interval * (1 + late // interval)
            await self._clock.sleep(next_seconds - self._clock.monotonic_seconds())

    async def view(self) -> Sequence[Family]:
        """What the machine says now, or said within FRESH_SECONDS."""
        async with self._cycling:
            now = self._clock.monotonic_seconds()
            if self._cycled_seconds is None or now - self._cycled_seconds > FRESH_SECONDS:
                await self._cycle()
            return self._families

    def status(self) -> Mapping[str, Any]:
        """What /status shows: the last cycle, and what failed in it."""
        if self._series is None:
            self._series = sum(len(family.series) for family in self._families)
        ago = None if self._ticked_seconds is None else self._clock.monotonic_seconds() - self._ticked_seconds
        return {
            "interval_seconds": self._options.interval_seconds,
            "last_cycle_seconds_ago": None if ago is None else round(ago, 3),
            "on_request": not self._context.routed,
            "series": self._series,
            "collectors": [result.name for result in self._results if result.failure is None],
            "failed": {r.name: r.failure for r in self._results if r.failure not in (None, NO_DATA)},
        }

    async def _cycle(self) -> None:
        results = await self._poll.cycle()
        self._results = results
        self._cycled_seconds = self._clock.monotonic_seconds()
        found = {result.name: result for result in results}
        scrapes = SCRAPES.families({(name,): _scraped(name, found.get(name)) for name in self._subjects.names})
        self._series = None
        self._families = [*chain.from_iterable(result.families for result in results), *scrapes]

    def _batch(self) -> Metrics:
        """The last cycle as a batch; what did not change since the one before is the same object."""
        self._last = cycle_of(self._context.name, self._labels, self._families, self._last)
        return self._last


def _scraped(name: str, result: Result | None) -> tuple[float, float]:
    """Seconds and success. What has nothing here succeeds where node_exporter says so too."""
    seconds, failure = (0.0, NO_DATA) if result is None else (result.seconds, result.failure)
    return seconds, float(failure is None or (failure == NO_DATA and SUBJECTS[name].empty_is_success))


@asynccontextmanager
async def open_host(options: HostOptions, context: Context) -> AsyncIterator[HostSource]:
    """The source. Nothing is read, and no collector imported, before its first cycle."""
    host = context.host
    machine = Machine(str(host.proc), str(host.sys), str(host.root), context.clock, options)
    subjects = Subjects(machine)
    with Poll(context.name, subjects.here, context.clock, context.meter, options.deadline_seconds) as poll:
        yield HostSource(options, context, poll, subjects)
