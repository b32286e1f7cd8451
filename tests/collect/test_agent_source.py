"""The agent's own metrics as a source."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.collect.agent import open_agent
from agent.collect.agent_options import AgentMetricsOptions
from agent.ownmetrics import Readings
from tests.fakes import FakeClock, context, settle


async def readings() -> Readings:
    return {"telemetry_agent_waiting_records": {("loki/logs",): 7.0}}


async def test_what_the_meter_holds_and_what_is_read_goes_out_together(tmp_path: Path) -> None:
    ctx = context(tmp_path, "agent", readings=readings)
    ctx.meter.add("telemetry_agent_collect_batches_total", 3, ("file",))
    ctx.meter.observe("telemetry_agent_spool_commit_duration_seconds", 0.02)
    async with open_agent(AgentMetricsOptions(), ctx) as source:
        batch = await anext(source.batches())
    found = dict(zip(batch.series, batch.values, strict=True))
    assert found[b'telemetry_agent_collect_batches_total{source="file"}'] == 3
    assert found[b'telemetry_agent_waiting_records{lane="loki/logs"}'] == 7
    assert found[b'telemetry_agent_spool_commit_duration_seconds_bucket{le="0.05"}'] == 1
    assert batch.labels == (("instance", "testhost"), ("job", "telemetry-agent"))
    assert {name for name, _, _ in batch.families} >= {"telemetry_agent_waiting_records"}


async def test_it_looks_again_after_its_interval(tmp_path: Path) -> None:
    ctx = context(tmp_path, "agent", readings=readings)
    assert isinstance(ctx.clock, FakeClock)
    async with open_agent(AgentMetricsOptions(interval_seconds=30.0), ctx) as source:
        batches = source.batches()
        await anext(batches)
        coming = asyncio.ensure_future(anext(batches))
        await ctx.clock.advance(29.0)
        assert not coming.done()
        await ctx.clock.advance(1.0)
        await settle()
        assert (await coming).count > 0
        await batches.aclose()


async def test_nothing_is_made_for_nobody(tmp_path: Path) -> None:
    ctx = context(tmp_path, "agent", routed=False)
    assert isinstance(ctx.clock, FakeClock)
    async with open_agent(AgentMetricsOptions(), ctx) as source:
        coming = asyncio.ensure_future(anext(source.batches()))
        await ctx.clock.advance(600.0)
        assert not coming.done()
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
