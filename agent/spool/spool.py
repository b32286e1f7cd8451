"""This file is the spool as the rest of the process sees it: put, fetch, ack, and one commit in flight.

Everything that arrives while a commit is under way joins the next. A commit starts at once when somebody waits for
it, else after COMMIT_SECONDS or COMMIT_BYTES. Every call is made on the event loop; SQLite runs on one thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from agent.batch import Batch
from agent.clock import Clock, RecordTimes
from agent.contract import Flow
from agent.errors import SpoolDamaged, SpoolFull
from agent.host import Host
from agent.ownlogs import Repeating
from agent.ownmetrics import Meter
from agent.spool import fetch, keeping
from agent.spool.bounds import LaneBound, share
from agent.spool.picture import Picture, picture_of
from agent.spool.records import Group, Passed, Quarantined, Stored, Taken
from agent.spool.reserve import Reserve
from agent.spool.salvage import Report, open_store, replace_store
from agent.spool.schema import SpoolOptions
from agent.spool.store import Store, translated
from agent.worker import Worker

log = logging.getLogger("telemetry_agent.spool")

COMMIT_SECONDS = 1.0
COMMIT_BYTES = 1 << 20
INTAKE_BYTES = 8 << 20
KEEP_SECONDS = 10.0
RETRY_SECONDS = 1.0
PICTURE_SECONDS = 1.0

R = TypeVar("R")
Router = Callable[[Flow], Sequence[str]]
"""The names of the lanes that want a flow."""


class Spool:
    """The loop's side of the store. ``run`` must be running for anything to become durable."""

    committing: asyncio.Task[None]

    def __init__(
        self, store: Store, worker: Worker, host: Host, options: SpoolOptions, clock: Clock, meter: Meter
    ) -> None:
        self.store = store
        self.options = options
        self.times = RecordTimes(clock, store.last_time_ns)
        self.trouble: str | None = None
        self.last_commit_seconds = clock.monotonic_seconds()
        self.pending_bytes = 0
        self._worker = worker
        self._host = host
        self._clock = clock
        self._meter = meter
        self._reserve = Reserve(host.state_dir / "reserve", options.reserve_bytes)
        self._troubles = Repeating(log, clock.monotonic_seconds)
        self._group = Group()
        self._durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight = self._durable
        self._replacing = asyncio.Lock()
        self._committing = False
        self._urgent = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._arrived: dict[int, asyncio.Event] = {}
        self._ids: dict[str, int] = {}
        self._bounds: Mapping[str, LaneBound] = {}
        self._lossy: frozenset[str] = frozenset()
        self._picture = Picture()
        self._picture_seconds = float("-inf")

    @property
    def replacing(self) -> bool:
        """Whether a damaged file is being replaced just now, which may take minutes."""
        return self._replacing.locked()

    # Lanes

    async def configure(
        self, bounds: Mapping[str, LaneBound], router: Router, lossy_sources: frozenset[str] = frozenset()
    ) -> None:
        """Says which lanes there are, what bounds them, and which of them want a flow."""
        self._ids = await self._worker.run(self.store.configure, list(bounds), self._clock.wall_ns())
        self._bounds, self._lossy = bounds, lossy_sources
        ids = self._ids
        known: dict[Flow, tuple[int, ...]] = {}

        def route(flow: Flow) -> tuple[int, ...]:
            if flow not in known:
                known[flow] = tuple(sorted(ids[name] for name in router(flow)))
            return known[flow]

        self._route = route
        self._bind()
        for lane in ids.values():
            self._arrived.setdefault(lane, asyncio.Event())

    def _bind(self) -> None:
        configured = {self._ids[name]: bound for name, bound in self._bounds.items()}
        orphaned = [lane for lane in self.store.lanes if lane not in configured]
        self.store.router = self._route
        self.store.entry_lanes = frozenset(lane for lane, bound in configured.items() if bound.takes_entries)
        self.store.bounds = share(configured, orphaned, self.options.max_bytes, self._lossy)

    def lane_id(self, lane: str) -> int:
        """The id under which a configured lane stands in the spool."""
        return self._ids[lane]

    def cursor(self, lane: str) -> int:
        """The id of the last batch the lane has passed, as of the last commit."""
        return self.store.lanes[self._ids[lane]].cursor

    def positions(self, source: str) -> dict[str, str]:
        """A source's committed positions by key."""
        return {key: value for (name, key), value in self.store.positions.items() if name == source}

    def state(self, processor: str) -> bytes | None:
        """What a processor held at the last commit."""
        blob = self.store.states.get(processor)
        return None if blob is None else blob[0]

    # Intake

    async def wait_for_room(self, batches: Sequence[Batch]) -> None:
        """Returns once these batches can be taken in; waiting here is what pauses a source."""
        size = sum(batch.size_bytes for batch in batches)
        while not self.has_room(batches, size):
            self._room.clear()
            await self._room.wait()

    def put(self, taken: Taken, *, urgent: bool = False) -> Awaitable[None]:
        """Takes in what one step of intake made; what it returns is done when that is durable.

        ``urgent`` starts the next commit at once instead of waiting for more to arrive.
        """
        self._group.taken.append(replace(taken, batches=tuple(map(self._timed, taken.batches))))
        self.pending_bytes += taken.size_bytes
        self._urgent = self._urgent or urgent
        self._wake.set()
        return asyncio.shield(self._durable) if urgent else self._durable

    def _timed(self, batch: Batch) -> Batch:
        return batch if batch.first_time_ns else replace(batch, first_time_ns=self.times.allocate(batch.count))

    def has_room(self, batches: Sequence[Batch], size: int = 0) -> bool:
        """Whether these batches can be taken in now."""
        if self.pending_bytes and self.pending_bytes + size > INTAKE_BYTES:
            return False
        return not any(self._blocked(batch) for batch in batches)

    def _blocked(self, batch: Batch) -> bool:
        store = self.store
        route = store.router((batch.source, batch.signal))
        return store.bounds.blocked(route, batch.signal, batch.source, store.waiting_bytes)

    # The lanes' side

    async def fetch(self, lane: str, after: int, max_bytes: int) -> list[Stored]:
        """The lane's next batches after id ``after``, at least one if there is any; some may be damaged."""
        lane_id = self._ids[lane]
        self._arrived[lane_id].clear()
        while True:
            store = self.store
            try:
                return await self._worker.run(self._fetch, lane_id, after, max_bytes)
            except SpoolDamaged as error:
                await self._replace(store, str(error))
            except SpoolFull as error:
                self._troubles.failed("fetch", f"the spool cannot be read now: {error}")
                await self._clock.sleep(RETRY_SECONDS)

    def _fetch(self, lane: int, after: int, max_bytes: int) -> list[Stored]:
        store = self.store
        with translated():
            return fetch.fetch(
                store.connection, lane, max(after, store.lanes[lane].cursor), max_bytes, store.recent.get
            )

    async def wait_for_new(self, lane: str) -> None:
        """Returns once something may have arrived for the lane since its last fetch."""
        await self._arrived[self._ids[lane]].wait()

    def ack(self, lane: str, passed: Sequence[Passed], quarantined: Sequence[Quarantined] = ()) -> None:
        """Notes what became of batches, in the order of their ids; durable with the next commit."""
        self._group.acks.setdefault(self._ids[lane], []).extend(passed)
        self._group.quarantined.extend(quarantined)
        self._wake.set()

    async def flush(self) -> None:
        """Returns once everything put or acknowledged so far is durable."""
        while self._group or self._committing:
            if not self._group:
                await asyncio.shield(self._in_flight)
                continue
            self._urgent = True
            self._wake.set()
            await asyncio.shield(self._durable)

    # Committing

    async def run(self) -> None:
        """Commits, and keeps the file in order, until cancelled."""
        next_keep = self._clock.monotonic_seconds() + KEEP_SECONDS
        while True:
            await self._due(next_keep)
            if self._group:
                await self._commit()
            if self._clock.monotonic_seconds() >= next_keep:
                next_keep = self._clock.monotonic_seconds() + KEEP_SECONDS
                await self.keep_in_order()

    async def _due(self, next_keep: float) -> None:
        """Returns when a commit should start, or when it is time to keep the file in order."""
        now = self._clock.monotonic_seconds()
        if not self._group:
            self._wake.clear()
            await self._woken_within(next_keep - now)
        deadline = min(self._clock.monotonic_seconds() + COMMIT_SECONDS, next_keep)
        while self._group and not self._urgent and self.pending_bytes < COMMIT_BYTES:
            left = deadline - self._clock.monotonic_seconds()
            if left <= 0:
                break
            self._wake.clear()
            await self._woken_within(left)

    async def _woken_within(self, seconds: float) -> None:
        timer = asyncio.ensure_future(self._clock.sleep(max(seconds, 0)))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((timer, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (timer, woken):
                task.cancel()
            await asyncio.gather(timer, woken, return_exceptions=True)

    async def _commit(self) -> None:
        group, self._group = self._group, Group()
        durable, self._durable = self._durable, asyncio.get_running_loop().create_future()
        self._in_flight = durable
        self._urgent, self._committing = False, True
        group.last_time_ns = self.times.last_ns
        size = sum(taken.size_bytes for taken in group.taken)
        try:
            while group:
                await self._attempt(group)
        finally:
            self._committing = False
        self.pending_bytes -= size
        self.announce()
        if not durable.done():
            durable.set_result(None)

    async def _attempt(self, group: Group) -> None:
        began, store = self._clock.monotonic_seconds(), self.store
        try:
            await self._worker.run(store.commit, group)
        except SpoolFull as error:
            await self._make_room(group, str(error))
            return
        except SpoolDamaged as error:
            await self._replace(store, str(error))
            return
        group.taken, group.acks, group.quarantined = [], {}, []
        self.last_commit_seconds = self._clock.monotonic_seconds()
        self._meter.add("telemetry_agent_spool_commits_total")
        self._meter.observe("telemetry_agent_spool_commit_duration_seconds", self.last_commit_seconds - began)
        if self.trouble is not None:
            self.trouble = None
            self._troubles.recovered("the spool commits again")

    def announce(self) -> None:
        """Wakes everybody who waits for room or for something new."""
        self._room.set()
        for event in self._arrived.values():
            event.set()

    async def _make_room(self, group: Group, reason: str) -> None:
        """Frees what can be freed and waits a little; nothing of the group is lost meanwhile."""
        self.trouble = reason
        self._meter.add("telemetry_agent_spool_commit_errors_total", 1, (reason.split(":", maxsplit=1)[0],))
        self._troubles.failed(
            reason.split(":", maxsplit=1)[0],
            f"the spool cannot commit ({reason}); intake waits and nothing is lost",
            path=str(self.store.path),
        )
        for lane, passed in self._group.acks.items():
            group.acks.setdefault(lane, []).extend(passed)
        group.quarantined.extend(self._group.quarantined)
        self._group.acks, self._group.quarantined = {}, []
        store = self.store
        try:
            acks = Group([], group.acks, group.quarantined, group.last_time_ns)
            freed = await self._worker.run(keeping.make_room, store, acks, self._reserve)
        except SpoolDamaged as error:
            await self._replace(store, str(error))
            return
        if freed:
            group.acks, group.quarantined = {}, []
            self.announce()
        await self._clock.sleep(RETRY_SECONDS)

    async def _replace(self, store: Store, reason: str) -> None:
        """Replaces ``store``, unless that has happened since the fault was met."""
        async with self._replacing:
            if store is not self.store:
                return
            log.error("the spool is damaged and will be replaced: %s", reason)
            self.store, report = await self._worker.run(self._replaced, reason)
            self._bind()
        self._meter.add("telemetry_agent_spool_replaced_total")
        log_report(report)

    def _replaced(self, reason: str) -> tuple[Store, Report]:
        with suppress(Exception):  # closing a damaged file may fail in any way
            self.store.connection.close()
        self._reserve.release()
        directory, copy = self._host.spool_dir, keeping.copy_path(self._host)
        return replace_store(directory, copy, self.options, self._clock.wall_ns(), reason)

    async def keep_in_order(self) -> None:
        """Lets go of what is too old or retired, returns free space, and writes the second copy."""
        store = self.store
        try:
            await self._worker.run(
                keeping.keep_in_order, store, self._host, self._reserve, self.options, self._clock.wall_ns()
            )
            if await self._worker.run(keeping.worn_out, store):
                await self._replace(store, "it holds rows that can be neither read nor deleted")
        except SpoolDamaged as error:
            await self._replace(store, str(error))
        except (SpoolFull, OSError) as error:
            self._troubles.failed("keep", f"the spool could not be kept in order: {error}")

    # Looking

    async def picture(self) -> Picture:
        """The counts as of the last commit, at most PICTURE_SECONDS old."""
        now = self._clock.monotonic_seconds()
        if now - self._picture_seconds >= PICTURE_SECONDS:
            self._picture_seconds = now
            with suppress(SpoolDamaged, SpoolFull):  # the next commit meets it; the last picture stands meanwhile
                self._picture = await self._worker.run(picture_of, self.store)
        return self._picture

    async def operate(self, operation: Callable[[Store], R]) -> R:
        """Runs one of the commands' operations on the spool's own thread, between commits."""
        made = await self._worker.run(operation, self.store)
        self._picture_seconds = float("-inf")
        self.announce()
        return made


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


@asynccontextmanager
async def open_spool(host: Host, options: SpoolOptions, clock: Clock, meter: Meter) -> AsyncIterator[Spool]:
    """The spool of ``host.state_dir``, replaced if it was damaged. Leaving commits what is pending and closes it."""
    with Worker("spool") as worker:
        store, report = await worker.run(_opened, host, options, clock.wall_ns())
        if report is not None:
            meter.add("telemetry_agent_spool_replaced_total")
            log_report(report)
        spool = Spool(store, worker, host, options, clock, meter)
        spool.committing = asyncio.create_task(spool.run(), name="spool")
        try:
            yield spool
        finally:
            spool.committing.cancel()
            await asyncio.gather(spool.committing, return_exceptions=True)
            await worker.run(keeping.close, spool.store, host)


def _opened(host: Host, options: SpoolOptions, wall_ns: int) -> tuple[Store, Report | None]:
    """The spool; on a full disk the reserve makes room for what opening it takes. Raises SpoolFull."""
    copy = keeping.copy_path(host)
    try:
        return open_store(host.spool_dir, copy, options, wall_ns)
    except SpoolFull as error:
        if not Reserve(host.state_dir / "reserve", 0).release():
            raise SpoolFull(f"the spool in {host.spool_dir} cannot be opened ({error}); free space there") from error
    return open_store(host.spool_dir, copy, options, wall_ns)
