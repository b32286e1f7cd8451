"""This file makes durable what was put and acknowledged: one commit in flight, and everything else joins the next.

A commit starts at once when somebody waits for it, else after COMMIT_SECONDS or COMMIT_BYTES. What is ``patient`` goes
with the next one, whatever that is for, and with the next round of housekeeping at the latest. What cannot be committed
is kept and tried again, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.errors import SpoolDamaged, SpoolFull
from agent.ownlogs.lines import Repeating
from agent.spool import keeping
from agent.spool.in_use import PATIENCE_SECONDS, RETRY_SECONDS
from agent.spool.records import Group, Passed, Quarantined, Taken
from agent.spool.unstorable import commit_apart

if TYPE_CHECKING:
    from agent.clock import Clock, RecordTimes
    from agent.ownmetrics import Meter
    from agent.spool.in_use import StoreInUse
    from agent.spool.store import Store

log = logging.getLogger("telemetry_agent.spool")

COMMIT_SECONDS = 1.0
COMMIT_BYTES = 1 << 20
KEEP_SECONDS = 10.0
"""The file is kept in order that often, right behind a commit."""

QUIET_KEEP_SECONDS = 30.0
"""... and that often where nothing is committed: a machine at rest is not woken for it."""

FIRST_KEEP_SECONDS = 1.0
"""An agent that is killed again and again within KEEP_SECONDS needs a second copy and a reserve, too."""


class Commits:
    """The group that fills and the one in flight. ``run`` must be running for anything to become durable."""

    def __init__(self, in_use: StoreInUse, times: RecordTimes, clock: Clock, meter: Meter) -> None:
        self.pending_bytes = 0
        self.last_commit_seconds = clock.monotonic_seconds()
        self._in_use = in_use
        self._times = times
        self._clock = clock
        self._meter = meter
        self._troubles = Repeating(log, clock.monotonic_seconds)
        self._group = Group()
        self._in_flight: Group | None = None
        self._durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._apart = self._replaced = False
        self._no_room = False
        self._pressing = self._urgent = False
        self._wake = asyncio.Event()

    @property
    def patient(self) -> bool:
        """Whether there is something for which no commit is made soon."""
        return bool(self._group) and not self._pressing

    def put(self, taken: Taken, *, urgent: bool) -> Awaitable[None]:
        """Adds to the next commit; what it returns is done when that is durable."""
        self._group.taken.append(taken)
        self.pending_bytes += taken.size_bytes
        self._pressing, self._urgent = True, self._urgent or urgent
        self._wake.set()
        return asyncio.shield(self._durable)

    def ack(
        self, lane: int, passed: Sequence[Passed], quarantined: Sequence[Quarantined], *, patient: bool = False
    ) -> None:
        """Adds what became of batches of a lane to the next commit; where it is ``patient``, none is made for it."""
        self._group.acks.setdefault(lane, []).extend(passed)
        self._group.quarantined.extend(quarantined)
        if not patient:
            self._pressing = True
            self._wake.set()

    def acknowledged(self) -> Awaitable[None]:
        """Done when what was acknowledged just before is durable; a commit starts at once for it."""
        self._urgent = True
        self._wake.set()
        return asyncio.shield(self._durable)

    async def flush(self) -> None:
        """Returns once everything put or acknowledged so far is durable."""
        while self._group or self._in_flight is not None:
            self._urgent = True
            self._wake.set()
            await asyncio.shield(self._durable)

    async def run(self) -> None:
        """Commits, and keeps the file in order, until cancelled."""
        keep_from = keep_by = self._clock.monotonic_seconds() + FIRST_KEEP_SECONDS
        while True:
            await self._due(keep_by)
            if self._group:
                await self._commit()
            await self._in_use.copy_if_new()
            now = self._clock.monotonic_seconds()
            if now >= keep_from:
                keep_from, keep_by = now + KEEP_SECONDS, now + QUIET_KEEP_SECONDS
                await self._in_use.keep_in_order()

    def commit_at_once(self, store: Store) -> None:
        """Commits what is pending, in order, if that works; on the spool's thread, after ``run`` has ended."""
        with suppress(Exception):  # what is not committed now is read again, and sent again
            store.connection.execute("PRAGMA busy_timeout = 0")
            for group in (self._in_flight, self._group):
                if group:
                    _commit_all(store, group)

    # When

    async def _due(self, keep_by: float) -> None:
        """Returns when a commit should start, or when it is time to keep the file in order."""
        while not (self._group and (self._pressing or self._urgent)):
            if not await self._woken(keep_by):
                return
        deadline = min(self._clock.monotonic_seconds() + COMMIT_SECONDS, keep_by)
        while self._pressing and not self._urgent and self.pending_bytes < COMMIT_BYTES:
            if not await self._woken(deadline):
                break

    async def _woken(self, by: float) -> bool:
        """Waits for more to arrive; False where it is too late for that."""
        left = by - self._clock.monotonic_seconds()
        if left <= 0:
            return False
        self._wake.clear()
        await self._clock.wait(self._wake, left)
        return True

    # One commit

    async def _commit(self) -> None:
        group, self._group = self._group, Group()
        durable, self._durable = self._durable, asyncio.get_running_loop().create_future()
        self._pressing, self._urgent, self._in_flight = False, False, group
        self._apart = self._replaced = False
        group.last_time_ns = self._times.last_ns
        size, arrived = sum(taken.size_bytes for taken in group.taken), bool(group.taken)
        while group:
            await self._attempt(group)
        self._in_flight = None
        self.pending_bytes -= size
        self._in_use.announce(arrived=arrived)
        durable.set_result(None)
        if not self._group:  # what came meanwhile went out with this commit
            self._durable.set_result(None)
            self._durable = asyncio.get_running_loop().create_future()
            self._pressing = self._urgent = False

    async def _attempt(self, group: Group) -> None:
        """Commits the group, or does what can be done about what keeps it from being committed."""
        began, store = self._clock.monotonic_seconds(), self._in_use.store
        try:
            if self._no_room and group.taken:
                raise SpoolFull("disk full: what is free belongs to the reserve")
            await self._in_use.worker.run(commit_apart if self._apart else _commit_all, store, group)
        except SpoolFull as error:
            await self._make_room(group, str(error))
        except SpoolDamaged as error:
            await self._refused(store, str(error))
        except Exception:  # what no table knows may be the fault of one part: each is tried by itself
            log.exception("a commit failed; its parts are committed one by one")
            self._apart = True
        else:
            self._committed(began)

    async def _refused(self, store: Store, reason: str) -> None:
        """Replaces the file. A new one that refuses the group as well has no fault; something in the group has."""
        if self._apart:
            await self._clock.sleep(PATIENCE_SECONDS)
        if self._replaced and not self._apart:
            self._apart = True
        elif await self._in_use.replace(store, reason):
            self._replaced = True

    def _committed(self, began: float) -> None:
        self.last_commit_seconds = self._clock.monotonic_seconds()
        self._meter.add("telemetry_agent_spool_commits_total")
        self._meter.observe("telemetry_agent_spool_commit_duration_seconds", self.last_commit_seconds - began)
        self._in_use.trouble = None
        self._troubles.recovered("the spool commits again")

    async def _make_room(self, group: Group, reason: str) -> None:
        """Frees what can be freed and waits a little; nothing of the group is lost meanwhile.

        On a full disk acknowledgements alone may use the reserve: intake waits until that is held again.
        """
        self._in_use.trouble = reason
        why = reason.split(":", maxsplit=1)[0]
        self._meter.add("telemetry_agent_spool_commit_errors_total", 1, (why,))
        self._troubles.failed(
            why,
            f"the spool cannot commit ({reason}); intake waits and nothing is lost",
            path=str(self._in_use.store.path),
        )
        if why.startswith("disk"):
            await self._acknowledge_alone(group)
        await self._clock.sleep(RETRY_SECONDS)

    async def _acknowledge_alone(self, group: Group) -> None:
        group.join_acks(self._group)
        store, reserve = self._in_use.store, self._in_use.reserve
        try:
            self._no_room = not await self._in_use.worker.run(keeping.make_room, store, group, reserve)
        except SpoolDamaged as error:
            await self._refused(store, str(error))
        except Exception:  # as above
            log.exception("acknowledgements could not be committed; they are committed one by one")
            self._apart = True
        self._in_use.announce()


def _commit_all(store: Store, group: Group) -> None:
    """Commits and empties the group in one step of the spool's thread: nothing can be committed twice."""
    store.commit(group)
    group.clear()
