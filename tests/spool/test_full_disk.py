"""A disk without a free byte: intake waits, acknowledgements go on, and what they free is used again. Needs root."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.batch import Logs
from agent.clock import SystemClock
from agent.host import Host
from agent.ownmetrics import Meter
from agent.spool import commits
from agent.spool.bounds import LaneBound
from agent.spool.records import Passed
from agent.spool.reserve import Reserve
from agent.spool.schema import SpoolOptions
from agent.spool.spool import Spool, open_spool
from tests.spool.numbered import batch, records_of, taken, unbalanced

DISK_BYTES = 40 << 20
OPTIONS = SpoolOptions(max_bytes=1 << 30, reserve_bytes=4 << 20)
LANE = "a/logs"
pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a small disk of its own: run this as root, where tmpfs may be mounted")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Takes every byte that is free, as another program would."""
    with (folder / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@asynccontextmanager
async def opened(disk: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Spool]:
    """The spool on that disk, which tries again sooner than in earnest."""
    monkeypatch.setattr(commits, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(commits, "FIRST_KEEP_SECONDS", 0.0)
    host = Host(state_dir=disk, run_dir=disk, environ={}, hostname="testhost")
    async with open_spool(host, OPTIONS, SystemClock(), Meter()) as made:
        await made.configure({LANE: LaneBound()}, lambda flow: [LANE])
        yield made


async def until(condition: asyncio.Future[None] | None = None, *, turns: int = 20) -> None:
    """Gives the spool's thread time for some tries."""
    for _ in range(turns):
        await asyncio.sleep(0.02)
        if condition is not None and condition.done():
            return


def fresh(first: int, count: int) -> Logs:
    """Records of this moment: old ones would be let go of."""
    return replace(batch("f", first, count, padding=2500), first_time_ns=0)


async def take_in(made: Spool, first: int, batches: int) -> int:
    """Puts batches of about half a mebibyte; returns the number after the last record."""
    for number in range(first, first + batches * 100, 100):
        await made.put(taken(fresh(number, 100)), urgent=True)
    return first + batches * 100


async def test_nothing_is_lost_at_zero_bytes_free_and_what_is_delivered_makes_room(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = disk / "reserve"
    async with opened(disk, monkeypatch) as made:
        number = await take_in(made, 0, 20)
        await until(turns=3)
        assert reserve.stat().st_size == OPTIONS.reserve_bytes
        fill(disk)
        waiting = asyncio.ensure_future(made.put(taken(fresh(number, 4000)), urgent=True))
        await until(waiting)
        assert not waiting.done()
        assert made.trouble is not None
        assert made.trouble.startswith("disk")
        assert reserve.stat().st_size == OPTIONS.reserve_bytes, "nothing was acknowledged that could free a byte"

        got: list[tuple[str, int]] = []
        after = 0
        while found := await made.fetch(LANE, after, 1 << 20):
            after = found[-1].row.id
            got += [each for stored in found for each in records_of(stored)]
            made.ack(LANE, [Passed(each.row.id, each.row.source, each.row.records) for each in found])
            fill(disk)
            await until(turns=3)
        assert got == [("f", n) for n in range(number)]
        while made.cursor(LANE) != after:
            fill(disk)
            await until(turns=1)
        assert unbalanced(made.store) == {}
        assert made.store.waiting(made.lane_id(LANE)).batches == 0
        assert not waiting.done(), "it needs more than was freed"

        (disk / "ballast").unlink()
        await waiting
        assert made.trouble is None
        assert made.store.waiting(made.lane_id(LANE)).records == 4000
        assert made.positions("f") == {"f": str(number + 4000)}
    async with opened(disk, monkeypatch) as made:
        assert unbalanced(made.store) == {}
        assert len(records_of((await made.fetch(LANE, after, 1))[0])) == 4000


async def test_what_is_delivered_goes_back_to_the_disk_and_intake_uses_it(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(disk, monkeypatch) as made:
        number = await take_in(made, 0, 24)
        await until(turns=3)
        fill(disk)
        waiting = asyncio.ensure_future(made.put(taken(fresh(number, 100)), urgent=True))
        await until(turns=5)
        found = await made.fetch(LANE, 0, 64 << 20)
        made.ack(LANE, [Passed(each.row.id, each.row.source, each.row.records) for each in found])
        await waiting
        assert (disk / "reserve").stat().st_size == OPTIONS.reserve_bytes
        assert made.trouble is None
        assert unbalanced(made.store) == {}


async def test_an_acknowledgement_under_way_when_the_disk_fills_up_does_not_cost_the_reserve(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[int] = []
    release = Reserve.release

    def seen(self: Reserve) -> bool:
        released.append(free_bytes(disk))
        return release(self)

    monkeypatch.setattr(Reserve, "release", seen)
    async with opened(disk, monkeypatch) as made:
        await take_in(made, 0, 20)
        await until(turns=3)
        found = await made.fetch(LANE, 0, 1 << 20)
        made.ack(LANE, [Passed(each.row.id, each.row.source, each.row.records) for each in found])
        fill(disk)
        waiting = asyncio.ensure_future(made.put(taken(fresh(5000, 4000)), urgent=True))
        while made.cursor(LANE) != found[-1].row.id:
            fill(disk)
            await until(turns=1)
        assert not waiting.done()
        assert released == [], "the write-ahead log had room for it"
        assert (disk / "reserve").stat().st_size == OPTIONS.reserve_bytes
        (disk / "ballast").unlink()
        await waiting


async def test_somebody_who_takes_all_that_is_given_up_at_once_stops_no_acknowledgement(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Reserve.release

    def robbed(self: Reserve) -> bool:
        freed = release(self)
        fill(disk)
        return freed

    monkeypatch.setattr(Reserve, "release", robbed)
    async with opened(disk, monkeypatch) as made:
        await take_in(made, 0, 20)
        await until(turns=3)
        fill(disk)
        waiting = asyncio.ensure_future(made.put(taken(fresh(5000, 4000)), urgent=True))
        await until(turns=3)
        after = 0
        while found := await made.fetch(LANE, after, 1 << 20):
            after = found[-1].row.id
            made.ack(LANE, [Passed(each.row.id, each.row.source, each.row.records) for each in found])
            fill(disk)
            await until(turns=3)
        while made.cursor(LANE) != after:
            fill(disk)
            await until(turns=1)
        assert unbalanced(made.store) == {}
        assert not waiting.done()
        (disk / "ballast").unlink()
        await waiting
        assert (disk / "reserve").stat().st_size == OPTIONS.reserve_bytes


async def test_two_mebibytes_are_enough_where_the_reserve_was_taken_by_somebody_else(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(disk, monkeypatch) as made:
        await take_in(made, 0, 20)
        await until(turns=3)
        Reserve(disk / "reserve", OPTIONS.reserve_bytes).give_up()
        fill(disk)
        waiting = asyncio.ensure_future(made.put(taken(fresh(5000, 4000)), urgent=True))
        await until(turns=3)
        assert (disk / "reserve").stat().st_size < OPTIONS.reserve_bytes
        os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - (2 << 20))
        found = await made.fetch(LANE, 0, 64 << 20)
        made.ack(LANE, [Passed(each.row.id, each.row.source, each.row.records) for each in found])
        while made.cursor(LANE) != found[-1].row.id:
            await until(turns=1)
        while (disk / "reserve").stat().st_size < OPTIONS.reserve_bytes:
            await until(turns=1)
        (disk / "ballast").unlink()
        await waiting


async def test_the_reserve_is_made_again_as_soon_as_there_is_room_whatever_else_goes_on(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "KEEP_SECONDS", 0.05)
    async with opened(disk, monkeypatch) as made:
        await take_in(made, 0, 2)
        await until(turns=5)
        Reserve(disk / "reserve", OPTIONS.reserve_bytes).give_up()
        fill(disk)
        os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - (3 << 20) - 4096)
        while (disk / "reserve").stat().st_size < 3 << 20:
            await until(turns=1)
        (disk / "ballast").unlink()
        while (disk / "reserve").stat().st_size < OPTIONS.reserve_bytes:
            await until(turns=1)


async def test_it_opens_on_a_disk_without_a_free_byte(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(disk, monkeypatch) as made:
        await take_in(made, 0, 10)
        await until(turns=3)
    fill(disk)
    assert free_bytes(disk) == 0
    async with opened(disk, monkeypatch) as made:
        found = await made.fetch(LANE, 0, 64 << 20)
        assert len(found) == 10
        made.ack(LANE, [Passed(each.row.id, each.row.source, each.row.records) for each in found])
        await made.flush()
        assert made.cursor(LANE) == 10


async def test_a_damaged_spool_is_replaced_as_far_as_the_disk_has_room_and_the_rest_is_counted(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(disk, monkeypatch) as made:
        number = await take_in(made, 0, 40)
        await until(turns=3)
        await made._in_use.replace(made.store, "as if")
        lost = made.store.ledger[1, "f", "dropped", "damaged"]
        assert 0 < lost < number
        assert unbalanced(made.store) == {}
        found = await made.fetch(LANE, 0, 64 << 20)
        assert sum(each.row.records for each in found) == number - lost
        assert made.positions("f") == {"f": str(number)}
        await made.put(taken(fresh(number, 100)), urgent=True)
        assert not list(disk.glob("spool.damaged*")), "there is no room to keep the damaged files"
