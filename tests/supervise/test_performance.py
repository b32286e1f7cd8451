"""The agent's own key numbers, one line an interval, read from the meter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.ownlogs.lines import unmasked
from agent.ownmetrics import Meter
from agent.supervise.performance import Performance, note_performance
from agent.wire.ownline import as_json, as_text
from tests.fakes import FakeClock

EXPORTED, READ = "telemetry_agent_export_bytes_total", "telemetry_agent_collect_bytes_total"


class Measured:
    """An agent that has used some CPU and sent some bytes, and the lines about it."""

    def __init__(self) -> None:
        self.clock, self.meter = FakeClock(), Meter()
        self.cpu_seconds = 5.0
        self.lines: list[Mapping[str, Any]] = []

    async def readings(self) -> Any:
        return {
            "process_cpu_seconds_total": {(): self.cpu_seconds},
            "process_resident_memory_bytes": {(): float(32 << 20)},
            "process_open_fds": {(): 12.0},
        }

    def noting(self, mask: Any = unmasked) -> asyncio.Task[None]:
        performance = Performance(self.meter, self.clock, mask)
        return asyncio.create_task(note_performance(performance, self.clock, 60, self.readings, self.lines.append))


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_line_tells_what_was_used_within_its_interval() -> None:
    measured = Measured()
    measured.meter.add(EXPORTED, 1e9, ("loki/logs",))
    noting = measured.noting()
    await measured.clock.advance(30)
    measured.cpu_seconds += 0.6
    measured.meter.add(EXPORTED, 6000, ("loki/logs",))
    measured.meter.add("telemetry_agent_export_requests_total", 3, ("loki/logs", "delivered"))
    measured.meter.add("telemetry_agent_export_requests_total", 1, ("loki/logs", "retry"))
    measured.meter.observe("telemetry_agent_export_duration_seconds", 0.25, ("loki/logs",))
    measured.meter.observe("telemetry_agent_spool_commit_duration_seconds", 0.004)
    measured.meter.observe("telemetry_agent_spool_commit_duration_seconds", 0.002)
    measured.meter.add(READ, 120, ("file",))
    await measured.clock.advance(30)
    [line] = measured.lines
    assert (line["level"], line["component"], line["correlation_id"]) == ("info", "performance", None)
    assert line["message"] == "1.0 % of a CPU, 32.0 MiB, 2 commits"
    found = line["context"]
    assert (found["interval_seconds"], found["cpu_seconds"], found["rss_bytes"]) == (60.0, 0.6, 32 << 20)
    assert (found["commits"], found["commit_seconds"], found["open_files"]) == (2, 0.003, 12)
    assert found["lanes"] == {"loki/logs": {"bytes_per_second": 100.0, "requests": 4, "request_seconds": 0.25}}
    assert found["sources"] == {"file": {"bytes_per_second": 2.0}}
    assert as_json(line)
    assert as_text(line)
    await measured.clock.advance(60)
    assert measured.lines[1]["message"] == "0.0 % of a CPU, 32.0 MiB, 0 commits"
    assert measured.lines[1]["context"]["lanes"]["loki/logs"]["bytes_per_second"] == 0.0
    await end(noting)


async def test_names_in_it_are_masked() -> None:
    measured = Measured()
    measured.meter.add(READ, 1, ("file.secret",))
    noting = measured.noting(lambda text: text.replace("secret", "[REDACTED]"))
    await measured.clock.advance(60)
    assert "secret" not in as_json(measured.lines[0])
    await end(noting)
