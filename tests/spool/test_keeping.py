"""What happens between commits: age, retirement, free space, the reserve, the second copy, and worn-out files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.batch import Logs, Position
from agent.errors import SpoolDamaged
from agent.host import Host
from agent.spool import keeping
from agent.spool.picture import picture_of
from agent.spool.positions_copy import Small, decode, encode, read_copy, small_of, write_copy
from agent.spool.records import Group, Passed, Quarantined, Taken
from agent.spool.refused import MOST_DETAIL
from agent.spool.reserve import Reserve
from agent.spool.schema import SpoolOptions
from agent.spool.store import Store
from tests.spool.numbered import OPTIONS, TIME_NS, Routes, batch, configure, taken, unbalanced

SECOND = 1_000_000_000


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(state_dir=tmp_path, run_dir=tmp_path, environ={}, hostname="testhost")


@pytest.fixture
def store(host: Host) -> Iterator[Store]:
    store = Store(host.spool_dir, OPTIONS)
    configure(store, ("a/logs", "b/logs"), Routes())
    yield store
    store.close()


def at(seconds: int, first: int) -> Logs:
    return replace(batch("f", first, 2), first_time_ns=TIME_NS + seconds * SECOND)


# Age and retirement


def test_old_records_go_from_every_lane_and_young_ones_behind_them_stay(store: Store) -> None:
    store.commit(Group([taken(at(1, 0), at(2, 2), at(9, 4))], {2: []}))
    store.commit(Group(acks={2: [Passed(1, "f", 2)]}))
    keeping.let_age(store, TIME_NS + 3 * SECOND)
    assert store.ledger[1, "f", "dropped", "aged"] == 4
    assert store.ledger[2, "f", "dropped", "aged"] == 2
    assert [store.waiting(lane).records for lane in (1, 2)] == [2, 2]
    assert unbalanced(store) == {}
    before = store.commit_id
    keeping.let_age(store, TIME_NS + 3 * SECOND)
    assert store.commit_id == before, "nothing to do, and yet it wrote"


def test_a_lane_that_left_keeps_its_records_until_its_time_is_up(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    configure(store, ("a/logs",), Routes())
    keeping.retire_orphans(store, TIME_NS)
    assert store.waiting(2).records == 3
    keeping.retire_orphans(store, TIME_NS + 1)
    assert store.waiting(2).records == 0
    assert store.ledger[2, "f", "dropped", "retired"] == 3
    assert store.waiting(1).records == 3
    assert unbalanced(store) == {}
    store.sweep(1)
    assert picture_of(store).batches == 1


# One round


def test_a_round_leaves_a_reserve_and_a_copy_and_nothing_that_is_passed(store: Store, host: Host) -> None:
    options = SpoolOptions(reserve_bytes=1 << 16)
    store.commit(Group([taken(batch("f", 0, 3))]))
    for lane in (1, 2):
        store.commit(Group(acks={lane: [Passed(1, "f", 3)]}))
    reserve = Reserve(host.state_dir / "reserve", options.reserve_bytes)
    keeping.keep_in_order(store, host, reserve, options, TIME_NS)
    assert reserve.held()
    assert read_copy(keeping.copy_path(host)) == small_of(store)
    assert picture_of(store).batches == 0


def test_a_round_meets_a_law_that_no_longer_holds(store: Store, host: Host) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    store.connection.execute("DELETE FROM batch")
    with pytest.raises(SpoolDamaged, match="3 records of lane a/logs are unaccounted for"):
        keeping.keep_in_order(store, host, Reserve(host.state_dir / "reserve", 0), OPTIONS, TIME_NS)


def test_bytes_that_drifted_are_counted_anew(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    right = dict(store.waiting_bytes)
    store.waiting_bytes[1] += 12345
    store.recount()
    assert store.waiting_bytes == right


def test_what_was_set_aside_gives_way_to_a_spool_that_has_grown(host: Host) -> None:
    options = SpoolOptions(max_bytes=16 << 20, reserve_bytes=0)
    store = Store(host.spool_dir, options)
    aside = host.state_dir / "spool.damaged-1"
    aside.mkdir()
    (aside / "spool.db").write_bytes(bytes(10 << 20))
    reserve = Reserve(host.state_dir / "reserve", 0)
    keeping.keep_in_order(store, host, reserve, options, TIME_NS)
    assert aside.exists()
    (aside / "spool.db-wal").write_bytes(bytes(6 << 20))
    keeping.keep_in_order(store, host, reserve, options, TIME_NS)
    assert not aside.exists()
    store.close()


def test_a_file_is_worn_out_once_all_lanes_have_passed_what_cannot_be_deleted(store: Store) -> None:
    store.commit(Group([taken(*(batch("f", number, 1) for number in range(4)))]))
    assert not keeping.worn_out(store)
    store.avoid({2})
    assert not keeping.worn_out(store)
    for lane, last in ((1, 4), (2, 1)):
        store.commit(Group(acks={lane: [Passed(row, "f", 1) for row in range(1, last + 1)]}))
    assert not keeping.worn_out(store)
    store.commit(Group(acks={2: [Passed(2, "f", 1)]}))
    assert keeping.worn_out(store), "two small batches behind it are quickly taken over"
    store.waiting_bytes[2] += keeping.WORN_OUT_BYTES
    assert not keeping.worn_out(store), "taking over that much would cost more than it gives"


# The reserve


def test_a_reserve_is_blocks_of_the_disk_and_is_given_back_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = Reserve(path, 8 << 20)
    assert not reserve.held()
    assert not reserve.release()
    assert reserve.restore()
    assert path.stat().st_blocks * 512 >= 8 << 20
    assert reserve.held()
    assert not reserve.restore(), "it is there"
    left = []
    while reserve.release():
        left.append(path.stat().st_size >> 20)
    assert left == [7, 6, 5, 4, 3, 2, 1, 0]
    assert path.stat().st_blocks == 0
    assert not reserve.held()
    assert reserve.restore()
    assert reserve.give_up()
    assert (path.stat().st_size, reserve.give_up()) == (0, False)


def test_a_reserve_that_was_given_up_takes_what_there_is_and_the_rest_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(tmp_path / "reserve", 8 << 20)
    assert reserve.restore()
    assert reserve.give_up()
    for free, size in ((1000, 0), (3 << 20, 3 << 20), (0, 3 << 20), (5 << 20, 8 << 20)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(1 << 30, 0, free))  # type: ignore[attr-defined,misc]
        assert reserve.restore() is (size == 8 << 20)
        assert (tmp_path / "reserve").stat().st_size == size


def test_a_reserve_that_was_cut_short_is_not_held_and_is_filled_up(tmp_path: Path) -> None:
    (tmp_path / "reserve").write_bytes(bytes(100))
    reserve = Reserve(tmp_path / "reserve", 1 << 16)
    assert not reserve.held()
    assert reserve.restore()
    assert reserve.held()


def test_a_reserve_that_never_was_is_made_in_full_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(tmp_path / "reserve", 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 30, 0, (1 << 20) - 1))  # type: ignore[attr-defined]
    assert not reserve.restore()
    assert not (tmp_path / "reserve").exists()


def test_a_reserve_of_nothing_is_always_held_and_makes_no_file(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 0)
    assert reserve.held()
    assert not reserve.restore()
    assert not (tmp_path / "reserve").exists()


def test_blocks_that_the_disk_does_not_have_leave_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    assert not Reserve(tmp_path / "reserve", 1 << 20).restore()
    assert not (tmp_path / "reserve").exists()


# The second copy


def test_the_second_copy_comes_back_as_it_was_written(store: Store, tmp_path: Path) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    small = small_of(store)
    assert decode(encode(small)) == small
    path = tmp_path / "copy"
    write_copy(path, encode(small))
    write_copy(path, encode(Small.empty()))
    assert read_copy(path) == Small.empty()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not path.with_suffix(".new").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b" ",
        lambda data: data.replace(b"a/logs", b"a/loga"),
        lambda data: b"00000000" + data[8:],
        lambda data: bytes(len(data)),
        lambda data: encode(Small.empty()).replace(b"states", b"stated"),
    ],
)
def test_a_copy_that_is_not_whole_is_none(store: Store, tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "copy"
    path.write_bytes(spoil(encode(small_of(store))))
    assert read_copy(path) is None


def test_a_copy_with_the_right_checksum_and_another_shape_is_none(tmp_path: Path) -> None:
    import zlib

    document = b'{"next_id": "x"}'
    (tmp_path / "copy").write_bytes(b"%08x\n%b" % (zlib.crc32(document), document))
    assert read_copy(tmp_path / "copy") is None
    assert read_copy(tmp_path / "none") is None


def test_a_copy_that_finds_no_room_leaves_the_old_one_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "copy"
    write_copy(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_copy(path, b"new")
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["copy"]
    assert path.read_bytes() == b"old"


def test_positions_are_copied_in_every_round_that_finds_them_moved_and_counts_in_a_thorough_one(
    store: Store, host: Host
) -> None:
    def copied_after(group: Group, *, thorough: bool) -> bool:
        store.commit(group)
        keeping.keep_in_order(store, host, Reserve(host.state_dir / "reserve", 0), OPTIONS, TIME_NS, thorough=thorough)
        return store.copied_commit_id == store.commit_id

    def unmoved(first: int) -> Taken:
        return replace(taken(batch("f", first, 3)), positions=())

    moved = Taken(positions=(("f", Position("f", "7")),))
    assert copied_after(Group([unmoved(0)]), thorough=True)
    assert not copied_after(Group([unmoved(3)]), thorough=False)
    assert copied_after(Group([moved]), thorough=False)
    assert not copied_after(Group([unmoved(6)]), thorough=False)
    assert copied_after(Group(), thorough=True)


# What was refused


def refuse(store: Store, *sizes: int, detail: str = "no") -> None:
    refused = [Quarantined(1, "poison", detail, batch("f", size, 1, padding=size)) for size in sizes]
    store.commit(Group(quarantined=refused))


def test_refused_records_are_kept_within_their_bound_and_the_oldest_go_first(host: Host) -> None:
    store = Store(host.spool_dir, SpoolOptions(quarantine_bytes=10_000))
    for _ in range(5):
        refuse(store, 500, 700)
    rows = store.connection.execute("SELECT id, bytes, records FROM quarantine ORDER BY id").fetchall()
    assert [row[0] for row in rows] == list(range(11 - len(rows), 11))
    assert 5_000 < sum(row[1] for row in rows) <= 10_000
    assert picture_of(store).quarantined_records == len(rows)
    store.close()


def test_many_small_refusals_are_bounded_by_what_they_take_and_not_by_their_records(host: Host) -> None:
    store = Store(host.spool_dir, SpoolOptions(quarantine_bytes=100_000))
    for _ in range(10):
        refuse(store, *([1] * 100), detail="x" * 5000)
    (rows, detail) = store.connection.execute("SELECT count(*), max(length(detail)) FROM quarantine").fetchone()
    assert detail == MOST_DETAIL
    assert 50 < rows < 100
    store.close()


def test_a_refusal_larger_than_the_bound_is_not_kept_and_displaces_nothing(host: Host) -> None:
    store = Store(host.spool_dir, SpoolOptions(quarantine_bytes=5_000))
    refuse(store, 100)
    refuse(store, 9000)
    assert store.connection.execute("SELECT count(*) FROM quarantine").fetchone() == (1,)
    store.close()
    store = Store(host.spool_dir, SpoolOptions(quarantine_bytes=0))
    refuse(store, 1)
    assert store.connection.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
    store.close()
