"""This file holds the store that is in use: keeps it in order, and puts a new one in its place when it is damaged.

What the small tables held at the last commit stands in memory, so that a store that was open is replaced without going
back to the second copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

from agent.clock import Clock
from agent.errors import SpoolDamaged, SpoolFull
from agent.host import Host
from agent.ownlogs import audit
from agent.ownlogs.lines import Repeating
from agent.ownmetrics import Meter
from agent.spool import keeping
from agent.spool.positions_copy import small_of
from agent.spool.reserve import Reserve
from agent.spool.salvage import Report, replace_store
from agent.spool.schema import SpoolOptions
from agent.spool.store import Store
from agent.worker import Worker

log = logging.getLogger("telemetry_agent.spool")

RETRY_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
THOROUGH_SECONDS = 60.0
"""In a round of housekeeping that comes this long after the last such one, the books are checked as well."""

R = TypeVar("R")


class Announce(Protocol):
    """Wakes who waits for room and, where something may have ``arrived``, the lanes."""

    def __call__(self, *, arrived: bool = True) -> None: ...


def _nobody(*, arrived: bool = True) -> None:
    """There is nobody to wake yet."""


class StoreInUse:
    """The store, on the thread it runs on. ``bind`` tells a new one what the configuration says; ``announce`` wakes
    everybody who waits for room or for something new."""

    def __init__(
        self, store: Store, worker: Worker, host: Host, options: SpoolOptions, clock: Clock, meter: Meter
    ) -> None:
        self.store = store
        self.worker = worker
        self.trouble: str | None = None
        self.reserve = Reserve(host.state_dir / "reserve", options.reserve_bytes)
        self.bind: Callable[[Store], None] = lambda store: None
        self.announce: Announce = _nobody
        self._host = host
        self._options = options
        self._clock = clock
        self._meter = meter
        self._reading, self._keeping, self._copying, self._failing = (
            Repeating(log, clock.monotonic_seconds) for _ in range(4)
        )
        self._replacing = asyncio.Lock()
        self._copied = (0, 0, 0)
        self._thorough_seconds = float("-inf")

    def change(self, options: SpoolOptions) -> None:
        """Keeps to other bounds from here on; runs on the spool's thread."""
        self.store.options = self._options = options
        if options.reserve_bytes != self.reserve.size_bytes:
            self.reserve.give_up()
            self.reserve = Reserve(self.reserve.path, options.reserve_bytes)

    @property
    def replacing(self) -> bool:
        """Whether a damaged file is being replaced just now."""
        return self._replacing.locked()

    async def use(self, what: str, call: Callable[[Store], R]) -> R:
        """What ``call`` returns, made on the spool's thread; waits where the spool cannot be used now."""
        replaced = False
        while True:
            store = self.store
            try:
                made = await self.worker.run(call, store)
            except SpoolDamaged as error:
                if replaced:  # a file made anew is no better: there is no hurry to make another
                    await self._clock.sleep(PATIENCE_SECONDS)
                replaced = await self.replace(store, str(error)) or replaced
            except SpoolFull as error:
                self._reading.failed(what, f"the spool cannot be read now: {error}")
                await self._clock.sleep(RETRY_SECONDS)
            else:
                self._reading.recovered("the spool can be read again")
                return made

    async def replace(self, store: Store, reason: str) -> bool:
        """Replaces ``store``, and waits for as long as it cannot be; False where that has happened since the fault was
        met."""
        async with self._replacing:
            if store is not self.store:
                return False
            log.error("the spool is damaged and will be replaced: %s", reason)
            while (report := await self._tried(reason)) is None:
                await self._clock.sleep(RETRY_SECONDS)
        self._meter.add("telemetry_agent_spool_replaced_total")
        log_report(report)
        self.announce()
        return True

    async def _tried(self, reason: str) -> Report | None:
        try:
            report = await self.worker.run(self._replaced, reason)
        except Exception as error:  # noqa: BLE001 - what is on disk is kept, and the next try begins with it
            self.trouble = f"the damaged spool cannot be replaced: {error}"
            self._failing.failed("replace", self.trouble, path=str(self.store.path))
            return None
        if self._failing.recovered("the damaged spool could be replaced"):
            self.trouble = None
        return report

    def _replaced(self, reason: str) -> Report:
        """One try. What the store remembers is taken in the step that closes it: no commit comes between the two."""
        known = small_of(self.store)
        with suppress(Exception):  # closing a damaged file may fail in any way
            self.store.connection.close()
        self.reserve.give_up()  # what finds no room in the new one is lost
        directory, copy = self._host.spool_dir, keeping.copy_path(self._host)
        self.store, report = replace_store(directory, copy, self._options, self._clock.wall_ns(), reason, known)
        with suppress(OSError):
            self.reserve.restore()
        self.bind(self.store)
        return report

    async def keep_in_order(self) -> None:
        """Lets go of what is too old or retired, returns free space, and writes the second copy; the first time, and
        every THOROUGH_SECONDS, the books are checked as well."""
        store, now = self.store, self._clock.monotonic_seconds()
        thorough = now - self._thorough_seconds >= THOROUGH_SECONDS
        self._thorough_seconds = now if thorough else self._thorough_seconds
        try:
            worn_out = await self.worker.run(
                partial(keeping.keep_in_order, thorough=thorough),
                store,
                self._host,
                self.reserve,
                self._options,
                self._clock.wall_ns(),
            )
            if worn_out:
                await self.replace(store, "it holds rows that can be neither read nor deleted")
        except SpoolDamaged as error:
            await self.replace(store, str(error))
        except (SpoolFull, OSError) as error:
            self._keeping.failed("keep", f"the spool could not be kept in order: {error}")
        else:
            self._keeping.recovered("the spool is kept in order again")
        self.announce(arrived=False)

    async def copy_if_new(self) -> None:
        """Writes the second copy at once when it would not know a lane, a route, or that a source has a position."""
        store = self.store
        known = len(store.lanes), len(store.routes), len(store.sources)
        if known == self._copied:
            return
        try:
            await self.worker.run(keeping.write_second_copy, store, self._host)
        except OSError as error:
            self._copying.failed("copy", f"the second copy of the positions could not be written: {error}")
        else:
            self._copied = known
            self._copying.recovered("the second copy of the positions is written again")


def log_report(report: Report) -> None:
    """Says what became of a damaged spool."""
    log.log(
        logging.ERROR if report.lost_records else logging.WARNING,
        "the spool was replaced (%s): %d records in %d batches taken over, %d lost and counted as dropped; "
        "positions from %s; the damaged files are in %s",
        report.reason,
        report.records,
        report.batches,
        report.lost_records,
        report.positions_from,
        report.set_aside or "no place: there was no room to keep them",
    )
    audit.record(
        "spool_replaced",
        f"the damaged spool was replaced: {report.records:,} records taken over, {report.lost_records:,} lost",
        reason=report.reason,
        records=report.records,
        lost_records=report.lost_records,
    )
