"""This file writes the agent's own key numbers to its performance log: one line an interval, as other own lines are.

  {"timestamp":"…","level":"info","component":"performance","message":"0.4 % of a CPU, 31.2 MiB, 60 commits",
   "context":{"interval_seconds":60.0,"cpu_seconds":0.24,"rss_bytes":32715776,"commits":60,…,
              "lanes":{"loki/logs":{"bytes_per_second":1234.5,"requests":12,…}},"sources":{…},"collectors":{…}},…}

Counters are shown as what was added within the interval. Everything is read from the meter; nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from agent.ownmetrics import TABLE
from agent.wire.ownline import plain, timestamp

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.ownmetrics import Meter, Readings

LANES: Final = {
    "telemetry_agent_export_bytes_total": "bytes",
    "telemetry_agent_export_requests_total": "requests",
    "telemetry_agent_export_retries_total": "retries",
}
SOURCES: Final = {
    "telemetry_agent_collect_bytes_total": "bytes",
    "telemetry_agent_collect_batches_total": "batches",
    "telemetry_agent_collect_errors_total": "errors",
}
COLLECTORS: Final = "telemetry_agent_collector_duration_seconds"
COMMITS: Final = "telemetry_agent_spool_commit_duration_seconds"
REQUESTS: Final = "telemetry_agent_export_duration_seconds"


class Performance:
    """Remembers what the counters were, and makes the line of one interval."""

    def __init__(self, meter: Meter, clock: Clock, mask: Callable[[str], str]) -> None:
        self._meter = meter
        self._clock = clock
        self._mask = mask
        self._since = clock.monotonic_seconds()
        self._before: dict[tuple[str, ...], float] = {}

    def entry(self, process: Readings) -> dict[str, Any]:
        """The line; ``process`` are the ``process_*`` readings."""
        now = self._clock.monotonic_seconds()
        seconds, self._since = max(now - self._since, 1e-9), now
        used = {name: values.get((), 0.0) for name, values in process.items()}
        cpu = self._added(("cpu",), used.get("process_cpu_seconds_total", 0.0))
        resident = used.get("process_resident_memory_bytes", 0.0)
        commits, commit_seconds = self._timed(COMMITS, ())
        context: dict[str, Any] = {
            "interval_seconds": round(seconds, 3),
            "cpu_seconds": round(cpu, 3),
            "rss_bytes": int(resident),
            "open_files": int(used.get("process_open_fds", 0)),
            "commits": commits,
            "commit_seconds": commit_seconds,
            "lanes": self._flows(LANES, seconds),
            "sources": self._flows(SOURCES, seconds),
            "collectors": self._collectors(),
        }
        for lane, flow in context["lanes"].items():
            flow["request_seconds"] = self._timed(REQUESTS, (lane,))[1]
        message = f"{100 * cpu / seconds:.1f} % of a CPU, {resident / (1 << 20):.1f} MiB, {commits} commits"
        return {
            "timestamp": timestamp(self._clock.wall_ns() / 1e9),
            "level": "info",
            "component": "performance",
            "message": message,
            "context": plain(context, self._mask),
            "correlation_id": None,
        }

    def _flows(self, names: Mapping[str, str], seconds: float) -> dict[str, dict[str, float]]:
        """By lane or source, what each counter of ``names`` rose by; bytes by the second."""
        flows: dict[str, dict[str, float]] = {}
        for metric, short in names.items():
            summed: dict[str, float] = {}
            for labels, value in self._meter.numbers(metric).items():
                summed[labels[0]] = summed.get(labels[0], 0.0) + value
            for name, total in summed.items():
                added = self._added((metric, name), total)
                flow = flows.setdefault(name, {})
                if short == "bytes":
                    flow["bytes_per_second"] = round(added / seconds, 1)
                else:
                    flow[short] = int(added)
        return flows

    def _timed(self, metric: str, labels: tuple[str, ...]) -> tuple[int, float]:
        """How often, and how long in the mean, within the interval."""
        found = self._meter.distributions(metric).get(labels)
        count = self._added((metric, *labels, "count"), found.count if found else 0)
        seconds = self._added((metric, *labels, "sum"), found.sum_seconds if found else 0.0)
        return int(count), round(seconds / count, 6) if count else 0.0

    def _collectors(self) -> dict[str, float]:
        """How long each collector took the last time, by the last of its labels."""
        if COLLECTORS not in TABLE or TABLE[COLLECTORS].kind == "histogram":
            return {}
        return {labels[-1]: round(seconds, 6) for labels, seconds in self._meter.numbers(COLLECTORS).items()}

    def _added(self, key: tuple[str, ...], total: float) -> float:
        before, self._before[key] = self._before.get(key, 0.0), total
        return total - before


async def note_performance(
    performance: Performance,
    clock: Clock,
    interval_seconds: float,
    readings: Callable[[], Awaitable[Readings]],
    take: Callable[[Mapping[str, Any]], None],
) -> None:
    """Hands ``take`` a line every ``interval_seconds``, until cancelled."""
    performance.entry(await readings())  # what was counted before now belongs to no interval
    while True:
        await clock.sleep(interval_seconds)
        take(performance.entry(await readings()))
