"""This file holds that the spool's room is shared among the lanes that need some."""

from __future__ import annotations

from pathlib import Path

from agent.batch import Logs
from agent.clock import SystemClock
from agent.host import Host
from agent.ownmetrics import Meter
from agent.spool.bounds import LaneBound
from agent.spool.records import Taken
from agent.spool.replay import retire_named
from agent.spool.schema import SpoolOptions
from agent.spool.spool import Spool, open_spool


async def opened(spool: Spool, *lanes: str) -> None:
    await spool.configure({lane: LaneBound() for lane in lanes}, lambda flow: lanes)


def bound_of(spool: Spool, lane: str) -> int:
    return spool.store.bounds.max_bytes[spool.lane_id(lane)]


async def test_a_lane_that_is_gone_takes_room_from_the_others_only_while_it_holds_something(tmp_path: Path) -> None:
    host = Host(tmp_path / "state", tmp_path / "run", environ={})
    async with open_spool(host, SpoolOptions(), SystemClock(), Meter()) as spool:
        await opened(spool, "loki/logs")
        whole = bound_of(spool, "loki/logs")
        await opened(spool, "old/logs")
        spool.put(Taken((Logs("file", (), b"waits\n", 1),), {("file", "logs"): 1}))
        await spool.flush()
        await opened(spool, "loki/logs")
        assert bound_of(spool, "loki/logs") == whole // 2
        await spool.operate(lambda store: retire_named(store, "old/logs"))
        await opened(spool, "loki/logs")
        assert bound_of(spool, "loki/logs") == whole
