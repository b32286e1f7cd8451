"""This file is the spool as the rest of the process sees it: put, fetch, ack, and one commit in flight.

Every call is made on the event loop; SQLite runs on one thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from msgspec.structs import replace

from agent.batch import Batch
from agent.clock import Clock, RecordTimes
from agent.contract import Flow
from agent.errors import SpoolDamaged, SpoolFull
from agent.host import Host
from agent.ownmetrics import Meter
from agent.spool import fetch, keeping
from agent.spool.bounds import LaneBound, share
from agent.spool.commits import Commits
from agent.spool.in_use import StoreInUse, log_report
from agent.spool.picture import Picture, picture_of
from agent.spool.records import Passed, Quarantined, Stored, Taken
from agent.spool.reserve import Reserve
from agent.spool.salvage import Report, open_store
from agent.spool.schema import SpoolOptions
from agent.spool.store import Store
from agent.worker import Worker

INTAKE_BYTES = 8 << 20
AHEAD_BYTES = 16 << 20
"""What lies in files need not be copied here faster than it goes out. So much of it waits for a lane that delivers, and
what is written meanwhile waits behind that, and not behind a whole backlog."""

MOVING_SECONDS = 2.0
"""A lane that has delivered nothing for that long may be dead: its sources' files may be gone before it is back."""

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
        self.options = options
        self.times = RecordTimes(clock, store.last_time_ns)
        self._worker = worker
        self._host = host
        self._clock = clock
        self._in_use = StoreInUse(store, worker, host, options, clock, meter)
        self._in_use.bind, self._in_use.announce = self._bind, self.announce
        self._commits = Commits(self._in_use, self.times, clock, meter)
        self._room = asyncio.Event()
        self._arrived: dict[int, asyncio.Event] = {}
        self._ids: dict[str, int] = {}
        self._route: Callable[[Flow], tuple[int, ...]] = lambda flow: ()
        self._bounds: Mapping[str, LaneBound] = {}
        self._lossy: frozenset[str] = frozenset()
        self._read_to: dict[int, int | None] = {}
        self._acked_seconds: dict[int, float] = {}
        self._picture = Picture()
        self._picture_seconds = float("-inf")

    @property
    def store(self) -> Store:
        """The store in use; another one after it was replaced."""
        return self._in_use.store

    @property
    def trouble(self) -> str | None:
        """Why nothing can be made durable now, or None."""
        return self._in_use.trouble

    @property
    def replacing(self) -> bool:
        """Whether a damaged file is being replaced just now, which may take minutes."""
        return self._in_use.replacing

    @property
    def pending_bytes(self) -> int:
        """Bytes taken in that are not durable yet."""
        return self._commits.pending_bytes

    @property
    def last_commit_seconds(self) -> float:
        """When the last commit ended, on the monotonic clock."""
        return self._commits.last_commit_seconds

    # Lanes

    async def configure(
        self, bounds: Mapping[str, LaneBound], router: Router, lossy_sources: frozenset[str] = frozenset()
    ) -> None:
        """Says which lanes there are, what bounds them, and which of them want a flow."""

        def configured(store: Store) -> None:
            ids = store.configure(list(bounds), self._clock.wall_ns())
            # one that is no longer configured may still be read, by who has not heard of that yet
            self._ids, self._bounds, self._lossy = {**self._ids, **ids}, bounds, lossy_sources
            self._route = _by_id(router, ids)
            self._bind(store)
            store.rebook_held()

        await self._in_use.use("configure", configured)
        self._picture_seconds = float("-inf")  # who looks sees the lanes there are now
        for lane in self._ids.values():
            self._arrived.setdefault(lane, asyncio.Event())
        self.announce()

    async def change(self, options: SpoolOptions) -> None:
        """Keeps to other bounds from here on; ``configure`` shares them out anew."""
        self.options = options
        await self._worker.run(self._in_use.change, options)

    def _bind(self, store: Store) -> None:
        """Tells the store what the configuration says; between two commits, or their parts would not fit together."""
        configured = {self._ids[name]: bound for name, bound in self._bounds.items()}
        # one that holds nothing any more needs no share: lanes are never forgotten
        orphaned = [lane for lane in store.lanes if lane not in configured and store.waiting_bytes[lane]]
        store.router = self._route
        store.entry_lanes = frozenset(lane for lane, bound in configured.items() if bound.takes_entries)
        store.bounds = share(configured, orphaned, self.options.max_bytes, self._lossy)
        store.kept_until = {}

    def lane_id(self, lane: str) -> int:
        """The id under which a configured lane stands in the spool."""
        return self._ids[lane]

    def cursor(self, lane: str) -> int:
        """The id of the last batch the lane has passed, as of the last commit."""
        return self.store.lanes[self._ids[lane]].cursor

    def positions(self, source: str) -> dict[str, str]:
        """A source's committed positions by key."""
        positions = self.store.positions.copy()  # in one step: the spool's thread changes them
        return {key: value for (name, key), value in positions.items() if name == source}

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
        while any(map(self._far_ahead, batches)):
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(MOVING_SECONDS):
                    await self._room.wait()

    def _far_ahead(self, batch: Batch) -> bool:
        """Whether every lane that wants the batch delivers and has enough to do, and the batch can wait where it is."""
        if batch.origin is None or batch.signal != "logs" or batch.source in self._lossy:
            return False
        store, since = self.store, self._clock.monotonic_seconds() - MOVING_SECONDS
        route = store.router((batch.source, batch.signal))
        return bool(route) and all(
            store.waiting_bytes[lane] > AHEAD_BYTES and self._acked_seconds.get(lane, since) > since for lane in route
        )

    def put(self, taken: Taken, *, urgent: bool = False) -> Awaitable[None]:
        """Takes in what one step of intake made; what it returns is done when that is durable.

        ``urgent`` starts the next commit at once instead of waiting for more to arrive.
        """
        timed = replace(taken, batches=tuple(map(self._timed, taken.batches)))
        return self._commits.put(timed, urgent=urgent)

    def _timed(self, batch: Batch) -> Batch:
        return batch if batch.first_time_ns else replace(batch, first_time_ns=self.times.allocate(batch.count))

    def has_room(self, batches: Sequence[Batch], size: int = 0) -> bool:
        """Whether these batches can be taken in now."""
        if self.pending_bytes and self.pending_bytes + size > INTAKE_BYTES:
            return False
        if self.store.log_bytes > keeping.PINNED_LOG_BYTES:
            return False
        return not any(self._blocked(batch) for batch in batches)

    def _blocked(self, batch: Batch) -> bool:
        store = self.store
        route, over = store.router((batch.source, batch.signal)), store.over_bytes > 0
        return store.bounds.blocked(route, batch.signal, batch.source, store.waiting_bytes, over=over)

    # The lanes' side

    async def fetch(self, lane: str, after: int, max_bytes: int) -> list[Stored]:
        """The lane's next batches after id ``after``, at least one if there is any; some may be damaged."""
        lane_id = self._ids[lane]
        arrived = self._arrived[lane_id]
        if self._read_to.get(lane_id) == after and not arrived.is_set():
            return []
        arrived.clear()
        found, more = await self._in_use.use("fetch", lambda store: _fetch(store, lane_id, after, max_bytes))
        self._read_to[lane_id] = None if more else found[-1].row.id if found else after
        return found

    async def wait_for_new(self, lane: str) -> None:
        """Returns once something may have arrived for the lane since its last fetch."""
        await self._arrived[self._ids[lane]].wait()

    def ack(
        self, lane: str, passed: Sequence[Passed], quarantined: Sequence[Quarantined] = (), *, patient: bool = False
    ) -> None:
        """Notes what became of batches, in the order of their ids; durable with the next commit, and where it is
        ``patient``, no commit is made for it alone."""
        self._acked_seconds[self._ids[lane]] = self._clock.monotonic_seconds()
        self._commits.ack(self._ids[lane], passed, quarantined, patient=patient)

    def acknowledged(self) -> Awaitable[None]:
        """Done when what was acknowledged just before is durable; a commit starts at once for it."""
        return self._commits.acknowledged()

    async def hasten(self) -> None:
        """Commits what waits for another commit, because somebody looks; returns all the same where that takes long."""
        if self._commits.patient:
            with suppress(TimeoutError):
                async with asyncio.timeout(PICTURE_SECONDS):
                    await self.acknowledged()
            self._picture_seconds = float("-inf")

    async def flush(self) -> None:
        """Returns once everything put or acknowledged so far is durable."""
        await self._commits.flush()

    async def run(self) -> None:
        """Commits, and keeps the file in order, until cancelled."""
        await self._commits.run()

    def announce(self, *, arrived: bool = True) -> None:
        """Wakes everybody who waits for room, and where something may have ``arrived``, the lanes."""
        self._room.set()
        if arrived:
            for event in self._arrived.values():
                event.set()

    async def close(self) -> None:
        """Commits what is pending if that can be done at once, and closes the file."""

        def closed() -> None:
            self._commits.commit_at_once(self.store)
            keeping.close(self.store, self._host)

        await self._worker.run(closed)

    # Looking

    async def schema_version(self) -> int:
        """What the file says of its schema now. Raises SpoolDamaged or SpoolFull."""
        return await self._worker.run(_schema_version, self.store)

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


def _by_id(router: Router, ids: Mapping[str, int]) -> Callable[[Flow], tuple[int, ...]]:
    known: dict[Flow, tuple[int, ...]] = {}

    def route(flow: Flow) -> tuple[int, ...]:
        if flow not in known:
            known[flow] = tuple(sorted(ids[name] for name in router(flow)))
        return known[flow]

    return route


def _schema_version(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _fetch(store: Store, lane: int, after: int, max_bytes: int) -> tuple[list[Stored], bool]:
    """The lane's next batches, and whether there are more behind them."""
    with store.reading() as connection:
        after = max(after, store.lanes[lane].cursor)
        found = fetch.fetch(connection, lane, after, max_bytes, store.recent.get)
        more = bool(found and fetch.rows(connection, lane, found[-1].row.id, 1))
    unreadable = {each.row.id for each in found if each.unreadable} - store.skips
    if unreadable:
        with suppress(SpoolFull, SpoolDamaged):  # remembered already; the next commit meets what is wrong
            store.avoid(unreadable)
    return found, more


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
            await spool.close()


def _opened(host: Host, options: SpoolOptions, wall_ns: int) -> tuple[Store, Report | None]:
    """The spool; on a full disk the reserve makes room for what opening it takes. Raises SpoolFull."""
    reserve = Reserve(host.state_dir / "reserve", options.reserve_bytes)
    while True:
        try:
            opened = open_store(host.spool_dir, keeping.copy_path(host), options, wall_ns)
        except SpoolFull as error:
            if reserve.release():
                continue
            raise SpoolFull(f"the spool in {host.spool_dir} cannot be opened ({error}); free space there") from error
        if reserve.path.exists():
            with suppress(OSError):
                reserve.restore()
        return opened
