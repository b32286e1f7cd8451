"""What processors hold survives a kill at any moment: nothing is lost, nothing comes out twice, the law holds.

The real chain, intake and spool run over a script of blocks. At every SQL statement and before and after every step the
state directory is copied, which is what kill -9 leaves; each copy that differs from the others is then started from.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
import tempfile
import threading
from collections import Counter as Multiset
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent.batch import Batch, Logs, Metrics, Origin, Position
from agent.contract import Flow, Processor
from agent.host import Host
from agent.ownmetrics import Meter
from agent.process.chain import Chain, Link
from agent.spool.bounds import LaneBound
from agent.spool.records import Passed
from agent.spool.recount import recount
from agent.spool.schema import SpoolOptions
from agent.spool.spool import Spool, open_spool
from agent.supervise.intake import Intake
from agent.wire.entries import in_lines
from agent.worker import Worker
from tests.fakes import FakeClock
from tests.process.holding import Counter, Joiner, Window

SHARED_MEMORY = Path("/dev/shm")
SINK = ("sink/logs", "sink/metrics")
PROCESSORS: dict[str, Callable[[bytes | None], Processor]] = {
    "counter": lambda state: Counter("counter", state),
    "joiner": lambda state: Joiner(state, 9.0),
    "window": Window,
}

Script = Sequence[tuple[str, list[bytes]]]
SCRIPT: Script = (
    ("a", [b"a1", b"a2", b"  a3"]),
    ("b", [b"b1"]),
    ("a", [b"  a4", b"  a5", b"a6"]),
    ("b", [b"  b2"]),
    ("a", []),
    ("b", [b"  b3", b"b4", b"b5"]),
    ("a", [b"  a7"]),
)
"""Blocks of two files, read in turn; a record of each goes on from block to block."""


@dataclass(frozen=True)
class Snapshot:
    """What a kill at one moment leaves: a state directory, what had arrived at the sink by then, and the time."""

    state: Path
    arrived: int
    wall_ns: int


@dataclass
class Sink:
    """What a destination received, kills or not."""

    batches: list[Batch] = field(default_factory=list)

    def lines(self) -> list[bytes]:
        """Every line once: a repeat carries the time that it had, and is known by it."""
        by_time: dict[int, bytes] = {}
        for batch in self.batches:
            if isinstance(batch, Logs):
                for index, record in enumerate(batch.records(), batch.first_time_ns):
                    assert by_time.setdefault(index, record) == record, "two records have one time"
        return [line for record in by_time.values() for line in record.split(b" | ")]

    def counted(self) -> float:
        """The last number that the counter told."""
        told = [batch for batch in self.batches if isinstance(batch, Metrics)]
        values = [batch.values[0] for batch in sorted(told, key=lambda batch: batch.first_time_ns)]
        assert values == sorted(values), "a counter went back"
        return values[-1] if values else 0.0


class World:
    """A script on its way through the agent, and a copy of the state at every moment worth one."""

    def __init__(self, folder: Path, script: Script, names: Sequence[str]) -> None:
        self.folder = folder
        self.script = script
        self.names = names
        self.sink = Sink()
        self.clock = FakeClock()
        self.snapshots: list[Snapshot] = []
        self._seen: set[tuple[str, int]] = set()

    def snap(self, _: object) -> None:
        """Copies the state unless the same has been copied before; on the thread that alone changes it."""
        state = self.folder / "state"
        digest = hashlib.sha256()
        for file in sorted(state.rglob("spool.db*")):
            if not file.name.endswith("-shm"):
                digest.update(file.name.encode() + file.read_bytes())
        key = digest.hexdigest(), len(self.sink.batches)
        if key not in self._seen:
            self._seen.add(key)
            copy = self.folder / f"killed-{len(self.snapshots)}"
            shutil.copytree(state, copy)
            self.snapshots.append(Snapshot(copy, len(self.sink.batches), self.clock.wall_ns()))

    def restarted(self, folder: Path, snapshot: Snapshot) -> World:
        """The same world after a kill."""
        shutil.copytree(snapshot.state, folder / "state")
        again = World(folder, self.script, self.names)
        again.sink = Sink(self.sink.batches[: snapshot.arrived])
        again.clock = FakeClock(snapshot.wall_ns + 1_000_000_000)
        return again

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Spool, Intake]]:
        """Spool, chain and intake, opened on what was left."""
        meter = Meter()
        host = Host(self.folder / "state", self.folder / "run", environ={})
        with Worker("process") as worker:
            async with open_spool(host, SpoolOptions(reserve_bytes=0), self.clock, meter) as spool:
                await spool.configure(dict.fromkeys(SINK, LaneBound()), route)
                links = [linked(name, PROCESSORS[name](spool.state(name))) for name in self.names]
                chain = Chain(links, self.clock, meter)
                yield spool, Intake(spool, chain, worker, self.clock, meter)
                await spool.flush()

    async def run(self, *, watched: bool = False) -> None:
        """Reads what is left of the script, delivers, and ends when nothing is held any more."""
        async with self.open() as (spool, intake):
            law(self.folder)
            if watched:
                spool.store.connection.set_trace_callback(self.snap)
            for turn, (key, index, lines) in enumerate(self._left(spool)):
                await spool.operate(self.snap)
                await intake.take([block(key, index, lines)])
                await spool.operate(self.snap)
                self.clock.move(1.0)
                await intake.due()
                if turn % 2:
                    await spool.flush()
                if turn % 3 == 2:
                    await self.deliver(spool)
            for _ in range(4):
                self.clock.move(10.0)
                await intake.due()
                await spool.flush()
                await self.deliver(spool)
            await spool.flush()
            spool.store.connection.set_trace_callback(None)

    def _left(self, spool: Spool) -> list[tuple[str, int, list[bytes]]]:
        positions = spool.positions("file.app")
        return [
            (key, index, lines)
            for index, (key, lines) in enumerate(self.script)
            if index >= int(positions.get(key, "0"))
        ]

    async def deliver(self, spool: Spool) -> None:
        """Sends what there is and acknowledges it; a kill may come between the two."""
        for lane in SINK:
            for each in await spool.fetch(lane, 0, 1 << 20):
                assert each.batch is not None
                self.sink.batches.append(in_lines(each.batch))
                await spool.operate(self.snap)
                spool.ack(lane, [Passed(each.row.id, each.row.source, each.row.records)])
        await spool.operate(self.snap)


def linked(name: str, processor: Processor) -> Link:
    return Link(name, processor, held=processor.held())


def route(flow: Flow) -> list[str]:
    return [f"sink/{flow[1]}"]


def block(key: str, index: int, lines: list[bytes]) -> Logs:
    """One block of a file; the position says which block is next."""
    data = b"".join(line + b"\n" for line in lines)
    origin = Origin(key, index, index + 1)
    return Logs("file.app", (), data, len(lines), origin=origin, positions=(Position(key, str(index + 1)),))


def law(folder: Path) -> Multiset[str]:
    """The sums of the log lane, counted from the tables by SQL that is not the agent's; raises where they differ."""
    path = folder / "state" / "spool" / "spool.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as connection:
        assert recount(connection).holds
        sums: Multiset[str] = Multiset()
        for lane, name, cursor in connection.execute("SELECT id, name, cursor FROM lane").fetchall():
            found: Multiset[str] = Multiset()
            for outcome, records in connection.execute(
                "SELECT outcome, sum(records) FROM ledger WHERE lane = ? GROUP BY outcome", (lane,)
            ):
                found[outcome] = records
            rows = "SELECT coalesce(sum(records), 0) FROM batch NOT INDEXED WHERE route IN ({}) AND id > ?"
            routes = [
                str(each) for each, lanes in connection.execute("SELECT id, lanes FROM route") if lanes == str(lane)
            ]
            found["stored"] = connection.execute(rows.format(",".join(routes)), (cursor,)).fetchone()[0]
            for (held,) in connection.execute("SELECT held FROM state"):
                found["held"] += sum(each[3] for each in msgspec.json.decode(held) if lane in each[2])
            gone = found["delivered"] + found["rejected"] + found["dropped"]
            assert found["read"] == gone + found["stored"] + found["held"], (name, found)
            if name == "sink/logs":
                sums = found
    return sums


def settled(world: World) -> None:
    """What must be so when everything was read and delivered, whatever happened on the way."""
    lines = [line for _, lines in world.script for line in lines]
    stripped = [line.strip() for line in lines] if "joiner" in world.names else lines
    assert Multiset(world.sink.lines()) == Multiset(stripped)
    sums = law(world.folder)
    folded = sum(line[:1] == b" " for line in lines) if "joiner" in world.names else 0
    assert (sums["read"], sums["stored"], sums["held"], sums["rejected"]) == (len(lines), 0, 0, 0)
    assert sums["dropped"] == folded
    if "counter" in world.names:
        assert world.sink.counted() == (len(lines) if world.names[0] == "counter" else len(lines) - folded)


@pytest.fixture
def folders() -> Iterator[Callable[[], Path]]:
    """Makes folders in memory where that can be: what is on the disk is copied here, and never lost by it."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="holding", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder)


@pytest.mark.parametrize("names", [["window"], ["counter"], ["joiner"], ["counter", "joiner", "window"]])
async def test_nothing_is_lost_or_repeated_wherever_the_agent_is_killed(
    folders: Callable[[], Path], names: list[str]
) -> None:
    world = World(folders(), SCRIPT, names)
    await world.run(watched=True)
    settled(world)
    assert len(world.snapshots) > len(SCRIPT)
    for snapshot in world.snapshots:
        again = world.restarted(folders(), snapshot)
        await again.run()
        settled(again)


LINES = st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.booleans(), max_size=5)), min_size=1, max_size=8)


@settings(
    max_examples=5,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(drawn=LINES, names=st.permutations(sorted(PROCESSORS)), kills=st.lists(st.integers(0, 999), max_size=3))
async def test_nothing_is_lost_or_repeated_in_any_order_of_processors_and_kills(
    folders: Callable[[], Path],
    drawn: list[tuple[str, list[bool]]],
    names: list[str],
    kills: list[int],
) -> None:
    script = numbered_script(drawn)
    world = World(folders(), script, names)
    await world.run(watched=True)
    for kill in kills:
        snapshot = world.snapshots[kill % len(world.snapshots)]
        world = world.restarted(folders(), snapshot)
        await world.run(watched=True)
    lines = [line.strip() for _, lines in script for line in lines]
    assert Multiset(line.strip() for line in world.sink.lines()) == Multiset(lines)
    assert law(world.folder)["read"] == len(lines)


def numbered_script(drawn: list[tuple[str, list[bool]]]) -> Script:
    """Blocks of lines that are all different, indented where that was drawn and there is a line to go on from."""
    begun: set[str] = set()
    script = []
    for index, (key, indents) in enumerate(drawn):
        lines = []
        for place, indented in enumerate(indents):
            lines.append(b"%b%s%d.%d" % (b" " if indented and key in begun else b"", key.encode(), index, place))
            begun.add(key)
        script.append((key, lines))
    return script


class Slow(Window):
    """A window that stands still in the middle of a call until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def process(self, batch: Batch, now: Any) -> Any:
        self.inside.set()
        self.go_on.wait(60)
        return super().process(batch, now)


async def test_a_source_that_is_stopped_inside_a_step_leaves_held_records_and_positions_agreeing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow()
    monkeypatch.setitem(PROCESSORS, "window", lambda state: slow)
    world = World(tmp_path, SCRIPT, ["window"])
    async with world.open() as (spool, intake):
        taking = asyncio.create_task(intake.take([block("a", 0, [b"one", b"two"])]))
        await asyncio.to_thread(slow.inside.wait, 60)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        slow.go_on.set()
        await intake.due()
        await spool.flush()
        sums = law(world.folder)
        assert (sums["read"], sums["held"]) == (2, 2)
        assert spool.positions("file.app") == {"a": "1"}
