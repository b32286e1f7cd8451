"""Wherever the agent is killed, what lives at a destination in the end is what the host has in the end."""

from __future__ import annotations

import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.batch import Metrics, Position
from agent.ownmetrics import Meter
from agent.process.staleness import Staleness
from agent.process.staleness_options import StalenessOptions
from tests.fakes import context
from tests.process import test_holding
from tests.process.test_holding import SHARED_MEMORY, Snapshot, World, law

STALE = 0x7FF0000000000002
CYCLES = ["abc", "abc", "ab", "abd", "d", "ad", "ad"]
"""The series of each cycle, one letter each."""


class Cycles(World):
    """The world of the other kill tests, with a source of metrics."""

    def restarted(self, folder: Path, snapshot: Snapshot) -> Cycles:
        again = super().restarted(folder, snapshot)
        made = Cycles(folder, (), self.names)
        made.sink, made.clock = again.sink, again.clock
        return made

    async def run(self, *, watched: bool = False) -> None:
        """Takes what is left of the cycles and two more like the last, and delivers everything."""
        async with self.open() as (spool, intake):
            law(self.folder)
            if watched:
                spool.store.connection.set_trace_callback(self.snap)
            done = int(spool.positions("host").get("cycle", "0"))
            for number in range(done, len(CYCLES) + 2):
                await intake.take([cycle(number)])
                await spool.operate(self.snap)
                self.clock.move(15.0)
                if number % 2:
                    await spool.flush()
                    await self.deliver(spool)
            for number in (len(CYCLES) + 2, len(CYCLES) + 3):
                await intake.take([cycle(number)])
            await spool.flush()
            await self.deliver(spool)
            await spool.flush()
            spool.store.connection.set_trace_callback(None)

    def living(self) -> set[bytes]:
        """The series whose last sample is no marker; at no time has a series two different samples."""
        samples: dict[bytes, dict[int, int]] = {}
        for batch in self.sink.batches:
            assert isinstance(batch, Metrics)
            for series, bits in zip(
                batch.series, struct.unpack(f"={batch.count}Q", batch.values.tobytes()), strict=True
            ):
                assert samples.setdefault(series, {}).setdefault(batch.first_time_ns, bits) == bits
        return {series for series, found in samples.items() if found[max(found)] != STALE}


def cycle(number: int) -> Metrics:
    """One cycle; its position says which is next."""
    series = tuple(letter.encode() for letter in CYCLES[min(number, len(CYCLES) - 1)])
    values = array("d", [float(number)] * len(series))
    return Metrics("host", (("env", "prod"),), series, values, positions=(Position("cycle", str(number + 1)),))


@pytest.fixture
def folders() -> Iterator[Callable[[], Path]]:
    """Makes folders in memory where that can be."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="stale", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder)


async def test_no_kill_leaves_a_series_alive_that_ended_or_ends_one_that_lives(
    folders: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(state: bytes | None) -> Staleness:
        return Staleness(StalenessOptions(), context(Path("/nonexistent"), "staleness", meter=Meter(), state=state))

    monkeypatch.setitem(test_holding.PROCESSORS, "staleness", opened)
    world = Cycles(folders(), (), ["staleness"])
    await world.run(watched=True)
    assert world.living() == {b"a", b"d"}
    assert len(world.snapshots) > len(CYCLES)
    for snapshot in world.snapshots:
        again = world.restarted(folders(), snapshot)
        await again.run()
        assert again.living() == {b"a", b"d"}
        law(again.folder)
