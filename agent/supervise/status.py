"""This file is the status document, and the numbers of /metrics that are read and not counted.

Both are read from the ledger as of the last commit, and from the lanes. Neither waits long for a disk that hangs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from agent import __version__
from agent.clock import Clock
from agent.config.model import Config
from agent.host import Host
from agent.ownmetrics import BREAKER_STATES, LANE_STATES, Readings, states
from agent.serve.health import Health
from agent.serve.ownprocess import process_readings
from agent.spool.picture import Picture
from agent.spool.records import Waiting
from agent.spool.spool import INTAKE_BYTES
from agent.supervise.latest import Latest
from agent.supervise.pipeline import Pipeline
from agent.worker import Worker


class Status(Struct):
    """Looks at a running agent. ``endpoint`` holds the URL of the endpoint once it is bound."""

    config: Config
    host: Host
    clock: Clock
    pipeline: Pipeline
    health: Health
    started_at_ns: int
    state: Callable[[], str]
    endpoint: Sequence[str]
    picture: Latest[Picture]
    damaged: Latest[list[str]]
    readings_of_process: Latest[Readings]

    async def asked_for(self) -> dict[str, Any]:
        """The document for somebody who asks, with what the health checks say now."""
        await self.health.fresh()
        await self.pipeline.spool.hasten()
        return await self.document()

    async def document(self) -> dict[str, Any]:
        """What /status and ``telemetry-agent status --json`` show; secrets are masked in every text."""
        picture = await self.picture.get()
        report = self.health.report()
        document: dict[str, Any] = {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": self.started_at_ns // 1_000_000_000,
            "uptime_seconds": round((self.clock.wall_ns() - self.started_at_ns) / 1e9, 3),
            "state": self.state(),
            "config_files": [str(path) for path in self.config.files],
            "endpoint": self.endpoint[0] if self.endpoint else None,
            "health": {"status": report.status, "warnings": report.warnings},
            "sources": self._sources(),
            "processors": self._processors(),
            "lanes": self._lanes(picture),
            "spool": self._spool(picture) | {"damaged_directories": await self.damaged.get()},
            "ledger": ledger_document(picture),
            "unrouted": picture.unrouted,
        }
        masked: dict[str, Any] = masked_in(document, self.config.secrets.mask)
        return masked

    def _sources(self) -> list[dict[str, Any]]:
        return [
            {"name": s.name, "type": s.type, "state": s.state, "last_error": s.last_error, "detail": s.detail()}
            for s in self.pipeline.sources
        ]

    def _processors(self) -> list[dict[str, Any]]:
        return [
            {
                "name": link.name,
                "type": link.name.partition(".")[0],
                "state": "running" if link.last_error is None else "failed",
                "last_error": link.last_error,
            }
            for link in self.pipeline.chain.links
        ]

    def _lanes(self, picture: Picture) -> list[dict[str, Any]]:
        return [self._lane(balance.lane, picture.waiting[balance.lane]) for balance in picture.balances]

    def _lane(self, name: str, waiting: Waiting) -> dict[str, Any]:
        drain = self.pipeline.drains.get(name)
        state = None if drain is None else drain.state
        retry_at = None if state is None else state.retry_at_seconds
        return {
            "name": name,
            "state": "orphaned" if state is None else state.doing,
            "breaker": "closed" if state is None else state.breaker.state,
            "last_error": None if state is None else state.last_error,
            "hold_reason": None if state is None else state.hold_reason,
            "retry_in_seconds": None if retry_at is None else round(retry_at - self.clock.monotonic_seconds(), 1),
            "waiting_records": waiting.records + waiting.held,
            "waiting_bytes": waiting.bytes,
            "oldest_seconds": self._age(waiting),
        }

    def _age(self, waiting: Waiting) -> float:
        if not waiting.oldest_time_ns:
            return 0.0
        return round(max(0, self.clock.wall_ns() - waiting.oldest_time_ns) / 1e9, 3)

    def _spool(self, picture: Picture) -> dict[str, Any]:
        spool = self.pipeline.spool
        return {
            "path": str(spool.store.path),
            "bytes": picture.used_bytes,
            "max_bytes": spool.options.max_bytes,
            "batches": picture.batches,
            "quarantined_records": picture.quarantined_records,
            "last_commit_seconds": round(self.clock.monotonic_seconds() - spool.last_commit_seconds, 1),
            "full": spool.trouble is not None,
            "trouble": spool.trouble,
        }

    async def readings(self) -> Readings:
        """The numbers of /metrics that nobody counts twice."""
        picture = await self.picture.get()
        spool = self.pipeline.spool
        own: Readings = {
            "telemetry_agent_records_total": _records(picture),
            "telemetry_agent_unrouted_records_total": {
                (source, signal): float(records)
                for flow, records in picture.unrouted.items()
                for source, _, signal in (flow.rpartition("/"),)
            },
            "telemetry_agent_spool_bytes": {(): picture.used_bytes},
            "telemetry_agent_spool_max_bytes": {(): spool.options.max_bytes},
            "telemetry_agent_spool_batches": {(): picture.batches},
            "telemetry_agent_spool_quarantined_records": {(): picture.quarantined_records},
            "telemetry_agent_budget_bytes": {(): spool.pending_bytes},
            "telemetry_agent_budget_max_bytes": {(): INTAKE_BYTES},
            "telemetry_agent_check_state": self.health.readings(),
            "telemetry_agent_build_info": {(__version__,): 1},
            "telemetry_agent_start_time_seconds": {(): self.started_at_ns / 1e9},
        }
        return {**own, **self._lane_readings(picture), **await self.readings_of_process.get()}

    def _lane_readings(self, picture: Picture) -> Readings:
        lanes = self._lanes(picture)
        state: dict[tuple[str, ...], float] = {}
        breaker: dict[tuple[str, ...], float] = {}
        for lane in lanes:
            state |= states(lane["name"], LANE_STATES, lane["state"])
            breaker |= states(lane["name"], BREAKER_STATES, lane["breaker"])
        return {
            "telemetry_agent_lane_state": state,
            "telemetry_agent_breaker_state": breaker,
            "telemetry_agent_waiting_records": {(lane["name"],): lane["waiting_records"] for lane in lanes},
            "telemetry_agent_waiting_bytes": {(lane["name"],): lane["waiting_bytes"] for lane in lanes},
            "telemetry_agent_oldest_waiting_seconds": {(lane["name"],): lane["oldest_seconds"] for lane in lanes},
        }


@asynccontextmanager
async def looking(  # noqa: PLR0913 - what it looks at
    config: Config,
    host: Host,
    clock: Clock,
    pipeline: Pipeline,
    health: Health,
    *,
    started_at_ns: int,
    state: Callable[[], str],
    endpoint: Sequence[str],
    worker: Worker,
) -> AsyncIterator[Status]:
    """A status; leaving ends what it still asks. ``worker`` is a thread that a dead disk may block."""
    picture = Latest(pipeline.spool.picture, Picture())
    damaged = Latest(lambda: worker.run(damaged_directories, host), list[str]())
    process = Latest[Readings](lambda: worker.run(process_readings, host, started_at_ns / 1e9), {})
    try:
        yield Status(config, host, clock, pipeline, health, started_at_ns, state, endpoint, picture, damaged, process)
    finally:
        for latest in (picture, damaged, process):
            await latest.close()


def damaged_directories(host: Host) -> list[str]:
    """The names of the spools that were set aside, oldest first."""
    try:
        return sorted(path.name for path in host.state_dir.glob(f"{host.spool_dir.name}.damaged-*"))
    except OSError:  # a disk that answers no more, or no descriptor left: no reason to show nothing, or to end
        return []


def masked_in(value: Any, mask: Callable[[str], str]) -> Any:
    """``value`` with every text in its lists and dictionaries masked."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: masked_in(each, mask) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked_in(each, mask) for each in value]
    return value


def ledger_document(picture: Picture) -> dict[str, Any]:
    """The shape ``ledger --json`` prints."""
    return {"lanes": {balance.lane: balance.document() for balance in picture.balances}}


def _records(picture: Picture) -> dict[tuple[str, ...], float]:
    series: dict[tuple[str, ...], float] = {}
    for balance in picture.balances:
        series[balance.lane, "read", ""] = balance.read
        series[balance.lane, "delivered", ""] = balance.delivered
        for outcome, reasons in (("rejected", balance.rejected), ("dropped", balance.dropped)):
            for reason, records in reasons.items():
                series[balance.lane, outcome, reason] = records
    return series


def status_line(document: dict[str, Any]) -> str:
    """The one line of ``systemctl status``."""
    lanes = ", ".join(_lane_in_line(lane) for lane in document["lanes"] if lane["state"] != "orphaned")
    sources = len(document["sources"])
    return f"{sources} source{'' if sources == 1 else 's'}; {lanes or 'no destinations'}"


def _lane_in_line(lane: dict[str, Any]) -> str:
    """An idle lane has sent all there is: what waits there is an acknowledgement, for the next commit."""
    waiting = lane["waiting_records"] if lane["state"] != "idle" else 0
    return f"{lane['name']} {lane['state']}" + (f" ({waiting:,} waiting)" if waiting else "")
