"""The host source: a cycle a tick as one batch, and one for whoever looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agent.collect.host.options import HostOptions
from agent.collect.host.source import FRESH_SECONDS, HostSource, open_host
from agent.contract import Context
from tests.collect.host.machines import samples
from tests.fakes import FakeClock, context, settle


class Scene:
    """A machine with load averages and nothing else."""

    def __init__(self, tmp_path: Path, **changes: Any) -> None:
        (tmp_path / "proc").mkdir()
        self.proc = tmp_path / "proc"
        self.load(1)
        made = context(tmp_path, "host", labels={"env": "test"}, **changes)
        self.context: Context = msgspec.structs.replace(
            made, host=replace(made.host, proc=self.proc, sys=tmp_path / "sys", root=tmp_path)
        )
        assert isinstance(made.clock, FakeClock)
        self.clock = made.clock

    def load(self, average: float) -> None:
        (self.proc / "loadavg").write_text(f"{average} 2 3 1/2 3\n")

    @asynccontextmanager
    async def source(self, **options: Any) -> AsyncIterator[HostSource]:
        async with open_host(HostOptions(only=("loadavg",), **options), self.context) as source:
            yield source


async def test_a_cycle_is_one_batch_with_the_labels_that_dashboards_select_by(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.source(labels={"rack": "7"}) as source:
        batch = await anext(source.batches())
    assert batch.labels == (("env", "test"), ("instance", "testhost"), ("job", "node"), ("rack", "7"))
    assert batch.source == "host"
    assert dict(zip(batch.series, batch.values, strict=True))[b"node_load1"] == 1.0
    assert (
        dict(zip(batch.series, batch.values, strict=True))[b'node_scrape_collector_success{collector="loadavg"}'] == 1
    )
    assert ("node_load1", "gauge", "1m load average.") in batch.families


async def test_labels_of_the_table_win_over_the_usual_ones(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.source(labels={"job": "integrations/node_exporter", "instance": ""}) as source:
        batch = await anext(source.batches())
    assert batch.labels == (("env", "test"), ("job", "integrations/node_exporter"))


async def test_ticks_keep_their_grid_and_missed_ones_are_left_out(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.source(interval_seconds=10.0) as source:
        batches = source.batches()
        began = scene.clock.monotonic_seconds()
        await anext(batches)
        scene.clock.move(34.0)  # whoever takes the batch is slow
        moments = []
        for _ in range(2):
            coming = asyncio.ensure_future(anext(batches))
            while not coming.done():
                await scene.clock.advance(0.5)
                await asyncio.sleep(0.001)
            moments.append(round(scene.clock.monotonic_seconds() - began))
        assert moments == [40, 50]
        await batches.aclose()


async def test_what_did_not_change_is_the_same_object_in_the_next_batch(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.source(interval_seconds=1.0) as source:
        batches = source.batches()
        first = await anext(batches)
        coming = asyncio.ensure_future(anext(batches))
        await settle()
        scene.load(5)
        await scene.clock.advance(1.0)
        second = await coming
        assert second.series is first.series
        assert second.families is first.families
        assert second.values[0] == 5.0
        await batches.aclose()


async def test_without_a_destination_the_machine_is_read_only_when_it_is_looked_at(tmp_path: Path) -> None:
    scene = Scene(tmp_path, routed=False)
    async with scene.source() as source:
        coming = asyncio.ensure_future(anext(source.batches()))
        await scene.clock.advance(60.0)
        assert not coming.done()
        assert source.status()["on_request"] is True
        assert source.status()["last_cycle_seconds_ago"] is None
        assert samples(await source.view())["node_load1"] == 1.0
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def test_many_who_look_cost_one_cycle_a_second(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.source() as source:
        assert samples(await source.view())["node_load1"] == 1.0
        scene.load(2)
        assert samples(await source.view())["node_load1"] == 1.0
        scene.clock.move(FRESH_SECONDS + 0.1)
        assert samples(await source.view())["node_load1"] == 2.0


async def test_the_status_says_when_the_last_cycle_was_and_what_failed_in_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    (scene.proc / "loadavg").write_text("nonsense\n")
    async with scene.source() as source:
        batch = await anext(source.batches())
        scene.clock.move(3.0)
        status = source.status()
    assert status["last_cycle_seconds_ago"] == 3.0
    assert status["failed"] == {"loadavg": "ValueError: loadavg has 1 fields; 3 are needed"}
    assert (
        dict(zip(batch.series, batch.values, strict=True))[b'node_scrape_collector_success{collector="loadavg"}'] == 0
    )


async def test_a_subject_that_has_nothing_to_say_has_not_failed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    (scene.proc / "pressure").mkdir()
    async with open_host(HostOptions(only=("pressure", "loadavg")), scene.context) as source:
        await source.view()
        assert source.status()["failed"] == {}


async def test_a_subject_is_left_alone_until_what_it_needs_appears(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    (scene.proc / "loadavg").unlink()
    async with scene.source() as source:
        assert "node_load1" not in samples(await source.view())
        scene.load(4)
        scene.clock.move(FRESH_SECONDS + 0.1)
        assert samples(await source.view())["node_load1"] == 4.0
