"""Wherever the agent is killed, every record came out once or is in what a processor told of it, and nothing is told
twice: each processor with a state, in the real chain, intake and spool, killed at every SQL statement."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.batch import Batch, Logs, Metrics
from agent.contract import Processor
from agent.ownmetrics import Meter
from tests.fakes import context
from tests.process import test_holding
from tests.process.making import component_of, opened
from tests.process.test_holding import SHARED_MEMORY, Script, World, law

SCRIPT: Script = (
    ("a", [b"user 1 failed", b"user 1 failed", b"user 2 failed"]),
    ("b", [b"disk is full"]),
    ("a", [b"user 1 failed", b"disk is full", b"disk is full"]),
    ("b", []),
    ("b", [b"user 1 failed", b"disk is full", b"user 3 failed"]),
    ("a", [b"user 1 failed"]),
)
"""Blocks of two files; lines repeat themselves within a block and from block to block."""
TOTAL = sum(len(lines) for _, lines in SCRIPT)

OPTIONS: dict[str, dict[str, Any]] = {
    "dedupe": {"window_seconds": 4.0},
    "rate_limit": {"records_per_second": 0.5, "burst_seconds": 4.0, "summary": True, "summary_seconds": 3.0},
    "metrics": {"interval_seconds": 3.0, "counter": [{"name": "lines_total"}]},
    "errors": {"interval_seconds": 3.0, "summary_seconds": 3.0, "matches": "."},
    "extract": {"labels": {"said": "message"}, "max_values": 2},
}


def arrived(world: World) -> dict[int, Batch]:
    """What a destination has, repeats of the same batch taken as one."""
    found: dict[int, Batch] = {}
    for batch in world.sink.batches:
        before = found.setdefault(batch.first_time_ns, batch)
        assert type(before) is type(batch)
        assert before.count == batch.count
    return found


def logs_of(world: World, source: str) -> list[Logs]:
    return [batch for batch in arrived(world).values() if isinstance(batch, Logs) and batch.source == source]


def metadata_sum(world: World, name: str, key: str) -> int:
    batches = logs_of(world, f"process.{name}")
    return sum(int(dict(pairs)[key]) for batch in batches for pairs in batch.metadata.values())


def passed(world: World) -> int:
    return sum(batch.count for batch in logs_of(world, "file.app"))


def last_value(world: World, series: bytes) -> float:
    cycles = [batch for batch in arrived(world).values() if isinstance(batch, Metrics)]
    cycles.sort(key=lambda batch: batch.first_time_ns)
    values = [batch.values[batch.series.index(series)] for batch in cycles if series in batch.series]
    assert values == sorted(values), "a counter went back"
    return values[-1]


def told_errors(world: World) -> int:
    records = [record for batch in logs_of(world, "process.errors") for record in batch.records()]
    return sum(json.loads(record)["count"] for record in records)


CHECKS: dict[str, Callable[[World], bool]] = {
    "dedupe": lambda world: passed(world) + metadata_sum(world, "dedupe", "repeated") == TOTAL,
    "rate_limit": lambda world: passed(world) + metadata_sum(world, "rate_limit", "dropped_records") == TOTAL,
    "metrics": lambda world: passed(world) == TOTAL and last_value(world, b"lines_total") == TOTAL,
    "errors": lambda world: (
        passed(world) == TOTAL == told_errors(world) and last_value(world, b"log_errors_all_total") == TOTAL
    ),
    "extract": lambda world: (
        passed(world) == TOTAL and len({batch.labels for batch in logs_of(world, "file.app")} - {()}) == 2
    ),
}


TOGETHER = ["metrics", "errors", "dedupe", "extract"]
"""In this order, so that what is counted is what was read, and what is told goes through the others too."""


@pytest.fixture
def folders() -> Iterator[Callable[[], Path]]:
    """Makes folders in memory where that can be."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="kills", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder)


def opening(name: str) -> Callable[[bytes | None], Processor]:
    component = component_of(name)
    options = msgspec.convert(OPTIONS[name], component.options)

    def make(state: bytes | None) -> Processor:
        ctx = context(Path("/nonexistent"), name, meter=Meter(), state=state)
        processor: Processor = opened(component.open(options, ctx))
        return processor

    return make


@pytest.mark.parametrize("name", OPTIONS)
async def test_every_record_is_told_of_once_wherever_the_agent_is_killed(
    folders: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(test_holding.PROCESSORS, name, opening(name))
    world = World(folders(), SCRIPT, [name])
    await world.run(watched=True)
    assert CHECKS[name](world)
    law(world.folder)
    assert len(world.snapshots) > len(SCRIPT)
    for snapshot in world.snapshots:
        again = world.restarted(folders(), snapshot)
        await again.run()
        assert CHECKS[name](again), f"killed as in {snapshot.state}"
        law(again.folder)


async def test_processors_in_a_row_tell_of_every_record_once_too(
    folders: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TOGETHER:
        monkeypatch.setitem(test_holding.PROCESSORS, name, opening(name))
    world = World(folders(), SCRIPT, TOGETHER)
    await world.run(watched=True)
    for again in [world, *(world.restarted(folders(), snapshot) for snapshot in world.snapshots[::3])]:
        if again is not world:
            await again.run()
        assert passed(again) + metadata_sum(again, "dedupe", "repeated") == TOTAL
        assert last_value(again, b"lines_total") == last_value(again, b"log_errors_all_total") == TOTAL
        assert told_errors(again) == TOTAL
        law(again.folder)
