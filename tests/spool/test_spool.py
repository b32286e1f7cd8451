"""The loop's side of the spool: when it commits, who waits, and what it does about a full disk and a damaged file."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.batch import Logs, Position
from agent.contract import Held
from agent.errors import SpoolDamaged, SpoolFull
from agent.host import Host
from agent.ownmetrics import Meter
from agent.spool import commits, in_use, keeping, spool, store
from agent.spool.bounds import LaneBound
from agent.spool.files import bytes_of
from agent.spool.positions_copy import read_copy
from agent.spool.records import Group, Passed, Quarantined, Stored, Taken
from agent.spool.schema import SpoolOptions
from agent.spool.spool import Spool, open_spool
from agent.spool.store import Store
from tests.fakes import FakeClock, settle
from tests.spool import pages
from tests.spool.numbered import batch, records_of, taken, unbalanced

A, B = "a/logs", "b/logs"
OPTIONS = SpoolOptions(max_bytes=64 << 20, reserve_bytes=1 << 16)
Opened = Callable[..., AbstractAsyncContextManager[Spool]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "state").mkdir()
    return Host(state_dir=tmp_path / "state", run_dir=tmp_path, environ={}, hostname="testhost")


@pytest.fixture
def opened(clock: FakeClock, meter: Meter, host: Host) -> Opened:
    """Opens the spool with lanes a and b, which want everything."""

    @asynccontextmanager
    async def open_it(
        bounds: dict[str, LaneBound] | None = None, options: SpoolOptions = OPTIONS
    ) -> AsyncIterator[Spool]:
        async with open_spool(host, options, clock, meter) as made:
            wanted = bounds or {A: LaneBound(), B: LaneBound()}
            await made.configure(wanted, lambda flow: list(wanted) if flow[0] != "nobody" else [])
            await quiet(made)
            yield made

    return open_it


async def quiet(made: Spool, turns: int = 5) -> None:
    """Lets the loop and the spool's thread do everything that can be done without time passing."""
    for _ in range(turns):
        await settle()
        await made._worker.run(int)
    await settle()


async def pass_time(made: Spool, clock: FakeClock, seconds: float) -> None:
    """Lets time pass, a second at most before everything has happened that it brought."""
    while seconds > 0:
        await clock.advance(min(seconds, 1.0))
        await quiet(made)
        seconds -= 1.0


def committed(meter: Meter) -> float:
    return meter.value("telemetry_agent_spool_commits_total")


def waits(made: Spool, lane: str = A) -> int:
    """Batches in the file that a lane has yet to pass."""
    return made.store.waiting(made.lane_id(lane)).batches


async def deliver(made: Spool, lane: str, after: int = 0) -> list[Stored]:
    """Fetches what there is and acknowledges all of it."""
    found = await made.fetch(lane, after, 64 << 20)
    made.ack(lane, [Passed(each.row.id, each.row.source, each.row.records) for each in found])
    return found


@contextmanager
def held_up(made: Spool) -> Iterator[None]:
    """The spool's thread does nothing meanwhile."""
    go_on = threading.Event()
    waiting = asyncio.ensure_future(made._worker.run(go_on.wait))
    try:
        yield
    finally:
        go_on.set()
        waiting.add_done_callback(lambda done: done.result())


# When a commit starts


async def test_a_commit_starts_at_once_when_somebody_waits_for_it(opened: Opened, meter: Meter) -> None:
    async with opened() as made:
        durable = made.put(taken(batch("f", 0, 3)), urgent=True)
        await durable
        assert committed(meter) == 1
        assert waits(made) == 1


async def test_a_commit_nobody_waits_for_starts_after_a_second(opened: Opened, meter: Meter, clock: FakeClock) -> None:
    async with opened() as made:
        durable = asyncio.ensure_future(made.put(taken(batch("f", 0, 3))))
        await pass_time(made, clock, 0.9)
        assert not durable.done()
        made.put(taken(batch("f", 3, 3)))
        await pass_time(made, clock, 0.11)
        assert durable.done()
        assert committed(meter) == 1
        assert waits(made) == 2


async def test_a_commit_starts_with_the_first_mebibyte(opened: Opened, meter: Meter) -> None:
    async with opened() as made:
        large = replace(batch("f", 0, 1), block=b"x" * (1 << 19) + b"\n")
        made.put(taken(large))
        await quiet(made)
        assert committed(meter) == 0
        made.put(taken(large))
        await quiet(made)
        assert committed(meter) == 1


async def test_what_arrives_while_a_commit_is_under_way_joins_the_next(opened: Opened, meter: Meter) -> None:
    async with opened() as made:
        with held_up(made):
            first = asyncio.ensure_future(made.put(taken(batch("f", 0, 1)), urgent=True))
            await settle()
            rest = [asyncio.ensure_future(made.put(taken(batch("f", n, 1)), urgent=True)) for n in range(1, 5)]
            await settle()
            assert made.pending_bytes == 5 * batch("f", 0, 1).size_bytes
        await asyncio.gather(first, *rest)
        assert committed(meter) == 2
        assert made.pending_bytes == 0


async def test_who_waited_for_a_commit_under_way_does_not_hasten_what_comes_after_it(
    opened: Opened, meter: Meter, clock: FakeClock
) -> None:
    async with opened() as made:
        with held_up(made):
            made.put(taken(batch("f", 0, 1)), urgent=True)
            await settle()
            waiting = asyncio.ensure_future(made.flush())
            await settle()
        await waiting
        made.put(taken(batch("f", 1, 1)))
        await pass_time(made, clock, 0.9)
        assert committed(meter) == 1
        await pass_time(made, clock, 0.2)
        assert committed(meter) == 2


async def acknowledge(made: Spool, lane: str, *, patient: bool) -> None:
    found = await made.fetch(lane, made.cursor(lane), 64 << 20)
    passed = [Passed(each.row.id, each.row.source, each.row.records) for each in found]
    made.ack(lane, passed, patient=patient)


async def test_a_patient_acknowledgement_goes_with_the_next_commit_and_makes_none_of_its_own(
    opened: Opened, meter: Meter, clock: FakeClock
) -> None:
    async with opened() as made:
        await pass_time(made, clock, 2.0)
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        await acknowledge(made, A, patient=True)
        await pass_time(made, clock, 15.0)
        assert (committed(meter), made.cursor(A)) == (1, 0)
        made.put(taken(batch("f", 3, 3)))
        await pass_time(made, clock, 1.1)
        assert (committed(meter), made.cursor(A)) == (2, 1)


async def test_a_patient_acknowledgement_is_durable_within_half_a_minute_also_where_nothing_else_comes(
    opened: Opened, meter: Meter, clock: FakeClock
) -> None:
    async with opened() as made:
        await pass_time(made, clock, 2.0)
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        await acknowledge(made, A, patient=True)
        await pass_time(made, clock, 30.0)
        assert (committed(meter), made.cursor(A)) == (2, 1)


async def test_an_acknowledgement_that_is_not_patient_takes_along_one_that_is(
    opened: Opened, meter: Meter, clock: FakeClock
) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        await acknowledge(made, A, patient=True)
        await acknowledge(made, B, patient=False)
        await pass_time(made, clock, 1.1)
        assert (committed(meter), made.cursor(A), made.cursor(B)) == (2, 1, 1)


async def test_who_looks_does_not_see_as_waiting_what_was_acknowledged(opened: Opened, meter: Meter) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        assert (await made.picture()).waiting[A].records == 3
        await acknowledge(made, A, patient=True)
        await made.hasten()
        assert (await made.picture()).waiting[A].records == 0
        await made.hasten()
        assert committed(meter) == 2


async def test_one_who_stops_waiting_stops_nobody_else(opened: Opened) -> None:
    async with opened() as made:
        one = asyncio.ensure_future(made.put(taken(batch("f", 0, 1))))
        other = asyncio.ensure_future(made.put(taken(batch("f", 1, 1)), urgent=True))
        one.cancel()
        await other
        assert waits(made) == 2


async def test_flushing_returns_once_a_commit_under_way_is_durable(opened: Opened, meter: Meter) -> None:
    async with opened() as made:
        with held_up(made):
            made.put(taken(batch("f", 0, 1)), urgent=True)
            await settle()
            flushed = asyncio.ensure_future(made.flush())
            await settle()
            assert not flushed.done()
        await quiet(made)
        assert flushed.done()
        await made.flush()
        assert committed(meter) == 1


async def test_flushing_makes_acknowledgements_durable_too(opened: Opened) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        await deliver(made, A)
        await made.flush()
        assert made.cursor(A) == 1
        assert waits(made, A) == 0
        assert waits(made, B) == 1


async def test_leaving_commits_what_is_pending(opened: Opened, host: Host) -> None:
    async with opened() as made:
        made.put(taken(batch("f", 0, 3)))
        made.put(taken(batch("f", 3, 3)))
    async with opened() as made:
        assert waits(made) == 2
        assert made.positions("f") == {"f": "6"}


async def test_leaving_never_commits_what_came_after_something_that_could_not_be_committed(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = Store.commit, []

    def full(self: Store, group: Group, **more: bool) -> None:
        if group.taken and not refused:
            refused.append(group)
        if group.taken:
            raise SpoolFull("locked by another program: x")
        real(self, group, **more)

    async with opened() as made:
        monkeypatch.setattr(Store, "commit", full)
        made.put(taken(batch("f", 0, 3)), urgent=True)
        await quiet(made)
        made.put(taken(batch("f", 3, 3)), urgent=True)
        await quiet(made)
    monkeypatch.setattr(Store, "commit", real)
    async with opened() as made:
        assert made.positions("f") == {}
        assert waits(made) == 0


# Room


async def test_no_more_than_eight_mebibytes_wait_for_a_commit(opened: Opened) -> None:
    async with opened() as made:
        three = replace(batch("f", 0, 1), block=b"x" * (3 << 20) + b"\n")
        with held_up(made):
            for _ in range(2):
                await made.wait_for_room([three])
                made.put(taken(three))
            room = asyncio.ensure_future(made.wait_for_room([three]))
            await settle()
            assert not room.done()
            assert not made.has_room([three], three.size_bytes)
        await room


@pytest.mark.parametrize(
    ("delivers", "lies_in_a_file", "waits"), [(True, True, True), (False, True, False), (True, False, False)]
)
async def test_what_lies_in_a_file_waits_there_while_its_lane_delivers_and_has_enough(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, delivers: bool, lies_in_a_file: bool, waits: bool
) -> None:
    monkeypatch.setattr(spool, "AHEAD_BYTES", 100)
    async with opened({A: LaneBound()}) as made:
        for number in range(3):
            made.put(taken(batch("f", number, 40)))
        await made.flush()
        first, second, *_ = await made.fetch(A, 0, 1 << 20)
        if delivers:
            made.ack(A, [Passed(first.row.id, "f", first.row.records, {}, {})])
            await made.flush()
        more = batch("f", 3, 40)
        assert more.origin is not None
        room = asyncio.ensure_future(made.wait_for_room([more if lies_in_a_file else replace(more, origin=None)]))
        await quiet(made)
        assert room.done() is not waits
        monkeypatch.setattr(spool, "AHEAD_BYTES", 1 << 20)
        made.ack(A, [Passed(second.row.id, "f", second.row.records, {}, {})])
        await made.flush()
        await room


async def test_a_lane_that_waits_pauses_its_sources_until_it_has_delivered(opened: Opened) -> None:
    async with opened({A: LaneBound(1 << 20, "block")}) as made:
        full = batch("f", 0, 600, padding=1000)
        await made.put(taken(full), urgent=True)
        room = asyncio.ensure_future(made.wait_for_room([full]))
        await quiet(made)
        assert not room.done()
        assert not made.has_room([full])
        await deliver(made, A)
        await made.flush()
        await room


async def test_one_dead_lane_silences_no_other(opened: Opened) -> None:
    async with opened({A: LaneBound(1 << 20), B: LaneBound(1 << 20)}) as made:
        after, got = 0, 0
        for number in range(0, 3000, 100):
            some = batch("f", number, 100, padding=500)
            await made.wait_for_room([some])
            await made.put(taken(some), urgent=True)
            for each in await deliver(made, A, after):
                after, got = each.row.id, got + len(records_of(each))
        await made.flush()
        assert got == 3000
        dead = made.store.waiting(made.lane_id(B))
        assert dead.bytes <= 1 << 20
        (balance,) = [each for each in made.store.balances() if each.lane == B]
        assert balance.dropped["spool_full"] == 3000 - dead.records
        assert unbalanced(made.store) == {}


async def test_a_source_that_cannot_wait_and_one_that_can_share_a_lane_within_its_bound(
    clock: FakeClock, meter: Meter, host: Host
) -> None:
    async with open_spool(host, OPTIONS, clock, meter) as made:
        await made.configure({A: LaneBound(1 << 20)}, lambda flow: [A], frozenset({"udp"}))
        patient = batch("f", 0, 600, padding=500)
        await made.put(taken(patient), urgent=True)
        for number in range(0, 3000, 100):
            await made.put(taken(batch("udp", number, 100, padding=500, origin=False)), urgent=True)
        stands = made.store.waiting(made.lane_id(A))
        assert stands.bytes <= 1 << 20
        assert made.store.ledger[1, "udp", "dropped", "spool_full"] == 3600 - stands.records > 0
        number = 600
        while made.has_room([patient]):
            await made.put(taken(batch("f", number, 100, padding=500)), urgent=True)
            number += 100
            assert number < 10_000
        assert made.has_room([batch("udp", 0, 1)])
        assert made.store.ledger[1, "udp", "dropped", "spool_full"] == 3000
        found = [each for stored in await deliver(made, A) for each in records_of(stored)]
        assert found == [("f", n) for n in range(number)]
        await made.flush()
        assert unbalanced(made.store) == {}


async def test_records_that_grow_too_old_make_room_for_whoever_waits(opened: Opened, clock: FakeClock) -> None:
    options = SpoolOptions(max_bytes=64 << 20, reserve_bytes=0, max_age_seconds=60)
    async with opened({A: LaneBound(1 << 20, "block")}, options) as made:
        full = replace(batch("f", 0, 600, padding=1000), first_time_ns=0)
        await made.put(taken(full), urgent=True)
        room = asyncio.ensure_future(made.wait_for_room([full]))
        await pass_time(made, clock, 50)
        assert not room.done()
        await pass_time(made, clock, 25)
        assert room.done()
        assert made.store.ledger[1, "f", "dropped", "aged"] == 600


async def test_a_log_that_another_program_keeps_from_being_folded_pauses_intake(
    opened: Opened, host: Host, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "PINNED_LOG_BYTES", 1 << 20)
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        reader = sqlite3.connect(host.spool_dir / "spool.db")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM batch").fetchone()
        number = 3
        while made.has_room([batch("f", number, 1)]):
            await made.put(taken(batch("f", number, 200, padding=900)), urgent=True)
            number += 200
            assert number < 20_000
        assert made.store.used_bytes > 1 << 20
        reader.close()
        room = asyncio.ensure_future(made.wait_for_room([batch("f", number, 1)]))
        await pass_time(made, clock, 11)
        await made.put(taken(batch("f", number, 1)), urgent=True)
        await room


# A full disk


class Full:
    """A disk without room for intake, and with some for acknowledgements while the reserve is given up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reason: str = "disk full: database or disk is full") -> None:
        self.is_full = True
        self.acks: list[dict[int, list[Passed]]] = []
        self._reason = reason
        self._real = Store.commit

        def commit(store: Store, group: Group, **more: bool) -> None:
            self._commit(store, group, **more)

        monkeypatch.setattr(Store, "commit", commit)

    def _commit(self, store: Store, group: Group, **more: bool) -> None:
        if self.is_full and (group.taken or bytes_of(store.directory.parent / "reserve")):
            raise SpoolFull(self._reason)
        if group.acks:
            self.acks.append(group.acks)
        self._real(store, group, **more)


async def test_on_a_full_disk_intake_waits_and_acknowledgements_go_on(
    opened: Opened, clock: FakeClock, meter: Meter, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        await pass_time(made, clock, 11)
        assert (host.state_dir / "reserve").stat().st_size == OPTIONS.reserve_bytes
        full = Full(monkeypatch)
        waiting = asyncio.ensure_future(made.put(taken(batch("f", 3, 3)), urgent=True))
        await quiet(made)
        await deliver(made, A)
        await pass_time(made, clock, 5)
        assert not waiting.done()
        assert made.trouble == "disk full: database or disk is full"
        assert len(full.acks) == 1
        assert made.cursor(A) == 1
        assert bytes_of(host.state_dir / "reserve") == OPTIONS.reserve_bytes, "it is for acknowledgements alone"
        full.is_full = False
        await pass_time(made, clock, 2)
        await waiting
        assert made.trouble is None
        assert waits(made, A) == 1
        assert waits(made, B) == 2
        assert meter.value("telemetry_agent_spool_commit_errors_total", ("disk full",)) >= 2
        assert unbalanced(made.store) == {}


async def test_what_is_free_is_left_to_the_reserve_before_intake(
    opened: Opened, clock: FakeClock, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        full = Full(monkeypatch)
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 0, "total": 1 << 40}))
        waiting = asyncio.ensure_future(made.put(taken(batch("f", 3, 3)), urgent=True))
        await deliver(made, A)
        await pass_time(made, clock, 3)
        full.is_full = False
        await pass_time(made, clock, 3)
        assert not waiting.done(), "intake took what the reserve needs"
        monkeypatch.undo()
        await pass_time(made, clock, 3)
        await waiting


async def test_damage_that_is_met_while_acknowledgements_are_saved_is_mended(
    opened: Opened, clock: FakeClock, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        full, met = Full(monkeypatch), []
        real = keeping.make_room

        def damaged(*args: object) -> bool:
            met.append(args)
            if len(met) == 1:
                raise SpoolDamaged("as if")
            if len(met) == 2:
                raise RuntimeError("a fault of ours")
            return real(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(keeping, "make_room", damaged)
        waiting = asyncio.ensure_future(made.put(taken(batch("f", 3, 3)), urgent=True))
        await deliver(made, A)
        await pass_time(made, clock, 5)
        assert meter.value("telemetry_agent_spool_replaced_total") == 1
        assert not waiting.done()
        full.is_full = False
        await pass_time(made, clock, 5)
        await waiting
        assert made.cursor(A) == 1
        assert waits(made, B) == 2
        assert unbalanced(made.store) == {}


async def test_refused_records_are_kept_once_when_the_disk_was_full(
    opened: Opened, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        full = Full(monkeypatch)
        monkeypatch.setattr(keeping, "free_what_can_be_freed", lambda store: _raise(SpoolFull("disk full: still")))
        made.put(taken(batch("f", 3, 3)), urgent=True)
        await quiet(made)
        refused = Quarantined(made.lane_id(A), "poison", "no", batch("f", 0, 1))
        made.ack(A, [Passed(1, "f", 3, {"poison": 1})], [refused])
        await pass_time(made, clock, 5)
        full.is_full = False
        await pass_time(made, clock, 5)
        rows = made.store.connection.execute("SELECT records, reason FROM quarantine").fetchall()
        assert rows == [(1, "poison")]
        assert made.store.ledger[1, "f", "rejected", "poison"] == 1


async def test_a_write_lock_of_another_program_is_waited_for(
    opened: Opened, clock: FakeClock, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = store.PRAGMAS.replace("busy_timeout = 5000", "busy_timeout = 1")
    monkeypatch.setattr(store, "PRAGMAS", impatient)
    async with opened() as made:
        await pass_time(made, clock, 11)
        other = sqlite3.connect(host.spool_dir / "spool.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(made.put(taken(batch("f", 0, 3)), urgent=True))
        await pass_time(made, clock, 3)
        assert not waiting.done()
        assert made.trouble is not None
        assert made.trouble.startswith("locked by another program")
        assert bytes_of(host.state_dir / "reserve") == OPTIONS.reserve_bytes, "a lock is no reason to give it up"
        other.execute("ROLLBACK")
        other.close()
        await pass_time(made, clock, 2)
        await waiting
        assert waits(made) == 1


def _raise(error: BaseException) -> None:
    raise error


async def test_a_second_copy_that_can_never_be_written_is_said_once_by_each_who_tries(
    opened: Opened, clock: FakeClock, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as made:
        await pass_time(made, clock, 2.0)
        (host.state_dir / "positions.new").mkdir()
        for number in range(60):
            made.put(taken(batch(f"f{number // 20}", number, 1)))
            await pass_time(made, clock, 1.1)
        said = [record.getMessage().partition(":")[0] for record in caplog.records if record.levelname == "WARNING"]
        assert sorted(said) == [
            "the second copy of the positions could not be written",
            "the spool could not be kept in order",
        ]
        (host.state_dir / "positions.new").rmdir()
        made.put(taken(batch("f", 60, 1)))
        await pass_time(made, clock, 40.0)
        assert read_copy(host.state_dir / "positions.copy") is not None


# A damaged file


def write_into(path: Path, at: int, data: bytes) -> None:
    """Writes bytes from another process: a file that is opened and closed in this one loses SQLite's locks."""
    code = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2])); f.write(bytes.fromhex(sys.argv[3]))"
    subprocess.run([sys.executable, "-c", code, str(path), str(at), data.hex()], check=True)


def spoil(path: Path, kind: str, *, which: int = 0, at: int = 0, data: bytes = b"\xff" * 4000) -> None:
    """Damages a page of a spool that is open."""
    number = pages.in_file(path, pages.kinds(path)[kind])[which]
    write_into(path, (number - 1) * pages.page_bytes(path) + at, data)


async def fill(made: Spool, batches: int = 60, padding: int = 300) -> None:
    """Puts batches of many pages and folds the log, so that the pages are read from the file."""
    for number in range(0, batches * 10, 10):
        made.put(taken(batch("f", number, 10, padding=padding)))
    await made.flush()
    made.store.recent._batches.clear()
    await made._worker.run(made.store.fold_log)


async def test_a_file_that_is_damaged_when_committing_is_replaced_once_and_the_group_is_committed(
    opened: Opened, host: Host, meter: Meter
) -> None:
    async with opened() as made:
        await fill(made)
        before = made.store
        spoil(host.spool_dir / "spool.db", "ledger leaf")
        before.connection.execute("PRAGMA cache_size = 0")
        await made.put(taken(batch("f", 600, 10)), urgent=True)
        assert made.store is not before
        assert meter.value("telemetry_agent_spool_replaced_total") == 1
        assert made.positions("f") == {"f": "610"}
        found = await deliver(made, A)
        await made.flush()
        assert [n for each in found for _, n in records_of(each)] == list(range(610))
        assert unbalanced(made.store) == {}
        assert (host.spool_dir.parent / "spool.damaged-1700000000").exists()


async def test_lanes_and_intake_that_meet_the_same_damage_replace_the_file_once(
    opened: Opened, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        await fill(made)
        before = made.store

        def damaged(*_: object, **__: object) -> None:
            raise SpoolDamaged("as if")

        monkeypatch.setattr(before, "commit", damaged)
        monkeypatch.setattr(before, "reading", damaged)
        found = await asyncio.gather(
            made.put(taken(batch("f", 600, 10)), urgent=True), made.fetch(A, 0, 1 << 20), made.fetch(B, 0, 1 << 20)
        )
        assert [len(each) for each in found[1:]] == [60, 60] or [len(each) for each in found[1:]] == [61, 61]
        assert meter.value("telemetry_agent_spool_replaced_total") == 1
        assert waits(made) == 61


async def test_a_damaged_payload_costs_its_own_batch_alone_and_the_file_is_replaced_when_it_is_worn_out(
    opened: Opened, host: Host, clock: FakeClock, meter: Meter
) -> None:
    async with opened() as made:
        await fill(made, padding=1500)
        made.store.connection.execute("PRAGMA cache_size = 0")
        spoil(host.spool_dir / "spool.db", "payload overflow", which=-3)
        spoil(host.spool_dir / "spool.db", "payload overflow", which=-9, at=9000)
        found = await made.fetch(A, 0, 64 << 20)
        damaged = [each.row.id for each in found if each.batch is None]
        assert len(damaged) == 2
        assert len(found) == 60
        assert made.store.skips == set(damaged)
        for lane in (A, B):
            await deliver(made, lane)
        await made.flush()
        before = made.store
        assert [row[0] for row in before.connection.execute("SELECT id FROM batch")] == sorted(damaged)
        await pass_time(made, clock, 11)
        assert made.store is not before
        assert meter.value("telemetry_agent_spool_replaced_total") == 1
        assert made.store.connection.execute("SELECT count(*) FROM batch").fetchone() == (0,)
        assert unbalanced(made.store) == {}
        await pass_time(made, clock, 30)
        assert meter.value("telemetry_agent_spool_replaced_total") == 1


async def test_an_answer_for_a_batch_that_was_lost_meanwhile_is_not_counted_again(opened: Opened, host: Host) -> None:
    async with opened() as made:
        await made.put(taken(*(batch("udp", number, 10, origin=False) for number in range(0, 600, 10))), urgent=True)
        found = await made.fetch(A, 0, 64 << 20)
        made.store.connection.execute("DELETE FROM payload WHERE id > 50")
        made.store.connection.execute("DELETE FROM batch WHERE id > 50")
        await made._in_use.replace(made.store, "rows are gone")
        assert made.store.ledger[1, "udp", "dropped", "damaged"] == 100
        made.ack(A, [Passed(each.row.id, each.row.source, each.row.records) for each in found])
        await made.flush()
        assert made.store.ledger[1, "udp", "delivered", ""] == 500
        assert made.cursor(A) == 60
        assert unbalanced(made.store) == {}


async def test_a_replacement_that_finds_no_room_is_tried_again_until_it_does(
    opened: Opened, clock: FakeClock, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = in_use.replace_store, []

    def full(*args: object) -> object:
        tries.append(args)
        if len(tries) < 4:
            raise [SpoolFull("disk full: x"), OSError(30, "read-only"), RuntimeError("anything")][len(tries) - 1]
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(in_use, "replace_store", full)
    async with opened() as made:
        await fill(made)
        replacing = asyncio.ensure_future(made._in_use.replace(made.store, "as if"))
        await quiet(made)
        waiting = asyncio.ensure_future(made.put(taken(batch("f", 600, 10)), urgent=True))
        fetching = asyncio.ensure_future(made.fetch(A, 0, 64 << 20))
        await quiet(made)
        assert not replacing.done()
        assert not waiting.done()
        assert not fetching.done()
        assert made.replacing
        assert made.trouble is not None
        assert "cannot be replaced" in made.trouble
        await pass_time(made, clock, 5)
        await asyncio.gather(replacing, waiting)
        assert len(await fetching) >= 60
        assert len(tries) == 4
        assert waits(made) == 61
        assert made.trouble is None


async def test_a_group_that_is_durable_is_not_written_again_when_what_follows_it_fails(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        await fill(made, batches=5)

        def damaged(*_: object) -> int:
            raise SpoolDamaged("as if")

        monkeypatch.setattr(store.sweep, "delete_passed", damaged)
        monkeypatch.setattr(store.sweep, "undeletable", damaged)
        await made.put(taken(batch("f", 50, 10)), urgent=True)
        assert waits(made) == 6
        assert made.store.ledger[1, "f", "read", ""] == 60


async def test_the_law_is_looked_at_again_while_the_agent_runs(opened: Opened, clock: FakeClock, meter: Meter) -> None:
    async with opened() as made:
        await fill(made, batches=5)
        made.store.connection.execute("UPDATE batch SET records = 11 WHERE id = 3")
        await pass_time(made, clock, 11)
        assert meter.value("telemetry_agent_spool_replaced_total") == 1
        assert unbalanced(made.store) == {}


async def test_a_fault_that_a_new_file_has_as_well_does_not_replace_it_again_and_again(
    opened: Opened, clock: FakeClock, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        await fill(made, batches=5)
        real = spool.fetch.fetch
        monkeypatch.setattr(spool.fetch, "fetch", lambda *_: _raise(SpoolDamaged("as if")))
        fetching = asyncio.ensure_future(made.fetch(A, 0, 1 << 20))
        await pass_time(made, clock, 25)
        assert 2 <= meter.value("telemetry_agent_spool_replaced_total") <= 4
        monkeypatch.setattr(spool.fetch, "fetch", real)
        await pass_time(made, clock, 11)
        assert len(await fetching) == 5


async def test_leaving_does_not_wait_for_another_program_s_lock(opened: Opened, host: Host) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        other = sqlite3.connect(host.spool_dir / "spool.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        made.store.connection.execute("PRAGMA busy_timeout = 600000")
        made.put(taken(batch("f", 3, 3)))
    other.execute("ROLLBACK")
    other.close()
    async with opened() as made:
        assert made.positions("f") == {"f": "3"}, "what was not committed is read again"


# Records that cannot be stored


def unstorable(number: int) -> Logs:
    return replace(batch("f", number, 1), labels=(("name", "\udcff"),))


async def test_records_that_no_row_can_hold_are_counted_and_stop_nobody_else(opened: Opened, meter: Meter) -> None:
    async with opened() as made:
        waiting = [made.put(taken(batch("f", 0, 3))), made.put(taken(unstorable(3))), made.put(taken(batch("f", 4, 3)))]
        await made.flush()
        await asyncio.gather(*waiting)
        assert waits(made) == 2
        assert made.store.ledger[1, "f", "dropped", "unstorable"] == 1
        assert made.positions("f") == {"f": "7"}
        assert unbalanced(made.store) == {}
        assert meter.value("telemetry_agent_spool_replaced_total") == 0


@pytest.mark.parametrize("position", [Position("\udcff", "1"), Position("k", "\udcff")])
async def test_a_position_that_no_row_can_hold_does_not_keep_the_spool_from_going_on(
    opened: Opened, clock: FakeClock, position: Position
) -> None:
    async with opened() as made:
        made.put(Taken((batch("f", 0, 3),), {("f", "logs"): 3}, {}, (("f", position),)))
        made.ack(A, [])
        made.put(taken(batch("g", 0, 3)))
        flushed = asyncio.ensure_future(made.flush())
        await pass_time(made, clock, 5)
        await flushed
        assert made.store.ledger[1, "f", "dropped", "unstorable"] == 3
        assert made.positions("g") == {"g": "3"}
        assert unbalanced(made.store) == {}


# Lanes, positions, and what is remembered


async def test_records_that_processors_hold_follow_the_lanes_that_want_them(opened: Opened) -> None:
    async with opened({A: LaneBound()}) as made:
        held = {"window": Held(b"x", {("f", "logs"): 5})}
        await made.put(Taken(read={("f", "logs"): 5}, states=held), urgent=True)
    async with opened({B: LaneBound()}) as made:
        assert unbalanced(made.store) == {}
        assert made.state("window") == b"x"
        released = Taken((batch("f", 0, 5),), states={"window": None})
        await made.put(released, urgent=True)
        assert unbalanced(made.store) == {}
        assert made.store.ledger[1, "f", "dropped", "rerouted"] == 5
        assert waits(made, B) == 1
    async with opened({A: LaneBound(), B: LaneBound()}) as made:
        assert unbalanced(made.store) == {}
        assert made.state("window") is None


async def test_the_first_position_of_a_source_is_in_the_second_copy_at_once(opened: Opened, host: Host) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        await quiet(made)
        copy = read_copy(host.state_dir / "positions.copy")
        assert copy is not None
        assert [(source, value) for source, _, value in copy.positions] == [("f", "3")]
        assert [name for _, name, _, _ in copy.lanes] == [A, B]
        await made.put(taken(batch("f", 3, 3)), urgent=True)
        await quiet(made)
        again = read_copy(host.state_dir / "positions.copy")
        assert again == copy, "written every ten seconds, and not with every commit"


async def test_record_times_rise_across_starts_and_are_committed_with_the_batch(opened: Opened) -> None:
    async with opened() as made:
        untimed = replace(batch("f", 0, 3), first_time_ns=0)
        await made.put(taken(untimed, untimed), urgent=True)
        times = [each.row.first_time_ns for each in await made.fetch(A, 0, 1 << 20)]
        assert times[1] == times[0] + 3
    async with opened() as made:
        await made.put(taken(untimed), urgent=True)
        assert (await made.fetch(A, 2, 1 << 20))[0].row.first_time_ns > times[1]


async def test_what_nobody_wants_is_counted_and_not_kept(opened: Opened) -> None:
    async with opened() as made:
        await made.put(taken(batch("nobody", 0, 3)), urgent=True)
        assert waits(made) == 0
        picture = await made.picture()
        assert picture.unrouted == {"nobody/logs": 3}
        assert made.positions("nobody") == {"nobody": "3"}


async def test_a_lane_is_woken_when_something_may_have_come_for_it(opened: Opened) -> None:
    async with opened() as made:
        assert await made.fetch(A, 0, 1 << 20) == []
        woken = asyncio.ensure_future(made.wait_for_new(A))
        await settle()
        assert not woken.done()
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        await woken


async def test_a_fetch_waits_while_the_spool_cannot_be_read(
    opened: Opened, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        real, tries = spool.fetch.fetch, []

        def locked(*args: object) -> list[Stored]:
            tries.append(args)
            if len(tries) < 3:
                raise SpoolFull("locked by another program: x")
            return real(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(spool.fetch, "fetch", locked)
        fetching = asyncio.ensure_future(made.fetch(A, 0, 1 << 20))
        await pass_time(made, clock, 5)
        assert len(await fetching) == 1


async def test_the_picture_is_a_second_old_at_most_and_survives_a_spool_that_cannot_be_read(
    opened: Opened, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as made:
        first = await made.picture()
        await made.put(taken(batch("f", 0, 3)), urgent=True)
        assert await made.picture() is first
        await pass_time(made, clock, 1)
        second = await made.picture()
        assert second.waiting[A].records == 3
        monkeypatch.setattr(spool, "picture_of", lambda store: _raise(SpoolFull("locked by another program")))
        await pass_time(made, clock, 1)
        assert await made.picture() is second


async def test_an_operation_runs_between_commits_and_is_seen_at_once(opened: Opened) -> None:
    async with opened() as made:
        await made.picture()
        assert await made.operate(lambda store: store.next_id) == 1
        with suppress(SpoolDamaged):
            await made.operate(lambda store: _raise(SpoolDamaged("x")))
        assert made.store.connection.total_changes >= 0


def test_the_numbers_of_the_loop_are_those_of_the_design() -> None:
    assert (commits.COMMIT_SECONDS, commits.COMMIT_BYTES) == (1.0, 1 << 20)
    assert (commits.KEEP_SECONDS, commits.QUIET_KEEP_SECONDS) == (10.0, 30.0)
