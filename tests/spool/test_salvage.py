"""Replacing a damaged spool: what is taken over, what is counted, and that it may be killed at every step."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.contract import Held
from agent.errors import SpoolDamaged, SpoolFull
from agent.spool import damaged, ledger, salvage
from agent.spool.fetch import fetch
from agent.spool.positions_copy import encode, small_of, write_copy
from agent.spool.records import Group, Passed, Quarantined, Taken
from agent.spool.salvage import open_store, replace_store
from agent.spool.schema import SpoolOptions
from agent.spool.store import Store
from tests.spool import pages
from tests.spool.harm import overwrite, spoil_page
from tests.spool.numbered import OPTIONS, TIME_NS, Routes, batch, configure, dropped, records_of, taken, unbalanced

LANES = ("a/logs", "b/logs")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A closed spool of 60 batches; lane a has passed 20 of them, and the second copy knows 40."""
    state = tmp_path / "state"
    store = Store(state / "spool", OPTIONS)
    configure(store, LANES, Routes())
    store.commit(Group([Taken(read={("f", "logs"): 4}, states={"window": Held(b"blob", {("f", "logs"): 4})})]))
    for number in range(0, 600, 10):
        if number == 400:
            store.commit(Group(acks={1: [Passed(row, "f", 10) for row in range(1, 21)]}))
            write_copy(state / "positions.copy", encode(small_of(store)))
        store.commit(Group([taken(batch("f", number, 10, padding=200), batch("udp", number, 5, origin=False))]))
    refused = Quarantined(1, "poison", "bad label", batch("f", 9000, 10))
    store.commit(Group(quarantined=[refused]))
    store.close()
    return state


def reopened(state: Path, options: SpoolOptions = OPTIONS) -> tuple[Store, salvage.Report | None]:
    return open_store(state / "spool", state / "positions.copy", options, TIME_NS)


def break_seal(state: Path, statement: str) -> None:
    connection = sqlite3.connect(state / "spool" / "spool.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


def counts(store: Store) -> Counter[tuple[str, str, str]]:
    """Records by lane, source and outcome, with what waits."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (lane, source, outcome, reason), records in store.ledger.items():
        found[store.lanes[lane].name, source, f"{outcome} {reason}".strip()] += records
    for lane in store.lanes.values():
        found[lane.name, "", "waiting"] += store.waiting(lane.id).records
    return +found


def numbers_waiting(store: Store, lane: int) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    after = store.lanes[lane].cursor
    while page := fetch(store.connection, lane, after, 1 << 20):
        after = page[-1].row.id
        found += [each for stored in page for each in records_of(stored)]
    return found


# What is taken over


def test_a_spool_that_is_whole_is_opened_as_it_is(state: Path) -> None:
    store, report = reopened(state)
    assert report is None
    assert unbalanced(store) == {}
    store.close()


def test_everything_that_is_whole_is_taken_over_with_its_ids_and_what_was_refused(state: Path) -> None:
    store, _ = reopened(state)
    before, small, waiting = counts(store), small_of(store), numbers_waiting(store, 2)
    store.close()
    break_seal(state, "UPDATE ledger SET records = records + 1 WHERE source = 'f'")
    os.unlink(state / "positions.copy")
    store, report = replace_store(state / "spool", state / "positions.copy", OPTIONS, TIME_NS, "asked", small)
    assert (report.lost_records, report.to_read_again, report.complete) == (0, 0, True)
    assert counts(store) == before
    assert small_of(store) == small
    assert numbers_waiting(store, 2) == waiting
    assert store.connection.execute("SELECT lane, reason, detail, records FROM quarantine").fetchall() == [
        (1, "poison", "bad label", 10)
    ]
    store.close()


def test_small_tables_of_which_a_row_is_damaged_come_from_the_second_copy(state: Path) -> None:
    break_seal(state, "UPDATE position SET value = '999999'")
    store, report = reopened(state)
    assert report is not None
    assert report.positions_from == "the second copy"
    assert store.positions == {("f", "f"): "400"}, "older positions cause repeats, never gaps"
    assert unbalanced(store) == {}
    assert len(numbers_waiting(store, 2)) == 900, "what is younger than the copy is kept all the same"
    assert store.ledger[2, "f", "read", ""] == 604
    assert store.next_id > 120
    store.close()


def test_what_is_lost_is_counted_beside_what_is_younger_than_the_second_copy(state: Path) -> None:
    """Forty batches the copy never knew of do not make up for forty that it did."""
    break_seal(state, "UPDATE ledger SET records = 1")
    break_seal(state, "DELETE FROM payload WHERE id <= 80")
    break_seal(state, "DELETE FROM batch WHERE id <= 80")
    store, report = reopened(state)
    assert report is not None
    assert store.ledger[2, "f", "dropped", "damaged"] == 400
    assert store.ledger[2, "f", "read", ""] == 604
    assert store.ledger[2, "udp", "dropped", "damaged"] == 200
    assert unbalanced(store) == {}
    store.close()


def test_a_row_without_its_payload_is_kept_where_its_source_can_be_read_again(state: Path) -> None:
    break_seal(state, "UPDATE payload SET body = zeroblob(length(body)) WHERE id > 110")
    break_seal(state, "UPDATE meta SET seal = 1")
    store, report = reopened(state)
    assert report is not None
    assert report.to_read_again == 50
    again = [each.row for each in fetch(store.connection, 2, 110, 1 << 20) if each.batch is None]
    assert [(row.origin.start, row.records, row.bytes) for row in again if row.origin] == [
        (number, 10, 0) for number in range(550, 600, 10)
    ]
    assert dropped(store, "damaged")["b/logs", "udp"] == 25
    assert unbalanced(store) == {}
    store.close()


def test_a_payload_without_its_row_gets_one_from_its_own_header(state: Path) -> None:
    break_seal(state, "DELETE FROM batch WHERE id IN (50, 51, 52)")
    store, report = reopened(state)
    assert report is not None
    assert report.lost_records == 0
    assert len(numbers_waiting(store, 2)) == 900
    store.close()


def test_a_payload_that_damage_moved_to_another_row_does_not_pass_for_its_own(state: Path) -> None:
    break_seal(state, "UPDATE payload SET body = (SELECT body FROM payload WHERE id = 71) WHERE id = 73")
    store, _ = reopened(state)
    (stored,) = [each for each in fetch(store.connection, 2, 72, 1) if each.row.id == 73]
    assert stored.batch is None
    assert stored.unreadable
    store.close()


def test_a_route_younger_than_the_second_copy_is_taken_from_the_file(state: Path) -> None:
    store, _ = reopened(state)
    configure(store, LANES, Routes({"late": ("b/logs",)}))
    store.commit(Group([taken(batch("late", 0, 10))]))
    store.close()
    break_seal(state, "UPDATE lane SET cursor = 999")
    store, report = reopened(state)
    assert report is not None
    assert ("late", 9) in numbers_waiting(store, 2)
    assert ("late", 9) not in numbers_waiting(store, 1)
    store.close()


def test_without_a_second_copy_the_rows_that_prove_themselves_are_believed(state: Path) -> None:
    os.unlink(state / "positions.copy")
    break_seal(state, "UPDATE ledger SET records = 1 WHERE source = 'udp' AND lane = 1")
    store, report = reopened(state)
    assert report is not None
    assert report.positions_from == "what was whole in the damaged file"
    assert store.positions == {("f", "f"): "600"}
    assert len(numbers_waiting(store, 2)) == 900
    assert unbalanced(store) == {}
    store.close()


def test_an_id_that_damage_made_absurd_is_neither_walked_to_nor_taken_over(state: Path) -> None:
    break_seal(state, "UPDATE payload SET id = 9223372036854775807 WHERE id = 100")
    break_seal(state, "UPDATE batch SET id = 4611686018427387904 WHERE id = 90")
    break_seal(state, "UPDATE meta SET seal = 1")
    store, report = reopened(state)
    assert report is not None
    assert store.next_id < 1000
    assert len(numbers_waiting(store, 2)) >= 900 - 5
    assert unbalanced(store) == {}
    store.close()


def test_a_lane_that_has_long_been_idle_costs_no_walk_and_no_record_of_others(tmp_path: Path) -> None:
    state = tmp_path / "state"
    store = Store(state / "spool", OPTIONS)
    configure(store, LANES, Routes({"f": ("b/logs",)}))
    store.next_id = 50_000_000
    for number in range(0, 100, 10):
        store.commit(Group([taken(batch("f", number, 10))]))
    small = small_of(store)
    store.close()
    assert small.lanes[0][2] == 0
    store, report = replace_store(state / "spool", state / "positions.copy", OPTIONS, TIME_NS, "asked", small)
    assert report.records == 100
    assert store.next_id == 50_000_010
    store.close()


def test_where_no_table_can_say_what_comes_next_ids_are_tried_one_by_one_within_a_bound(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def none(old: sqlite3.Connection, table: str, at: int) -> int | None:
        asked.append(at)
        return None

    monkeypatch.setattr(damaged, "_next_id", none)
    monkeypatch.setattr(damaged, "MOST_BLIND_STEPS", 100)
    connection = sqlite3.connect(state / "spool" / "spool.db")
    assert list(damaged.ids(connection, ("batch", "payload"), 1)) == list(range(1, 102))
    connection.close()


def test_what_cannot_be_read_at_all_keeps_nothing_from_starting(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise SpoolDamaged("as if")

    monkeypatch.setattr(damaged, "small_tables_of", fails)
    break_seal(state, "UPDATE meta SET seal = 1")
    store, report = reopened(state)
    assert report is not None
    assert store.ledger[2, "f", "dropped", "damaged"] == 400
    assert unbalanced(store) == {}
    store.close()


# What is set aside


def test_the_damaged_files_are_set_aside_as_a_directory_and_one_at_most_is_kept(state: Path) -> None:
    for seconds in range(3):
        break_seal(state, "UPDATE meta SET seal = 1")
        store, report = open_store(
            state / "spool", state / "positions.copy", OPTIONS, TIME_NS + seconds * 1_000_000_000
        )
        assert report is not None
        store.close()
        write_copy(state / "positions.copy", encode(small_of(store)))
    assert [path.name for path in state.glob("spool.*")] == ["spool.damaged-1700000002"]
    assert (state / "spool.damaged-1700000002" / "spool.db").exists()


def test_damaged_files_that_do_not_fit_into_the_bound_are_not_kept(state: Path) -> None:
    break_seal(state, "CREATE TABLE ballast AS SELECT zeroblob(9000000) AS body")
    break_seal(state, "UPDATE meta SET seal = 1")
    store, report = reopened(state, SpoolOptions(max_bytes=16 << 20))
    assert report is not None
    assert report.set_aside.startswith("spool.damaged-")
    store.close()
    break_seal(state, "CREATE TABLE ballast AS SELECT zeroblob(19000000) AS body")
    break_seal(state, "UPDATE meta SET seal = 1")
    store, report = reopened(state, SpoolOptions(max_bytes=16 << 20))
    assert report is not None
    assert report.set_aside == ""
    assert not list(state.glob("spool.damaged*"))
    store.close()


def test_a_disk_that_has_no_room_for_a_second_spool_raises_and_changes_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_seal(state, "UPDATE meta SET seal = 1")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        with pytest.raises(SpoolFull, match="No space left"):
            reopened(state)
    store, report = reopened(state)
    assert report is not None
    assert len(numbers_waiting(store, 2)) == 900
    store.close()


# Killed half-way

STEPS: tuple[tuple[Any, str], ...] = (
    (salvage, "_write_small"),
    (salvage, "_insert"),
    (salvage, "_take_over_refused"),
    (salvage, "_close_the_law"),
    (salvage, "_swap"),
    (salvage, "flush_directory"),
    (salvage.shutil, "rmtree"),
    (Path, "rename"),
    (Store, "_open"),
    (Store, "close"),
    (damaged, "restore_page_one"),
)


def copies_at_every_step(state: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], Store]:
    """Replaces the spool, and takes a copy of all files before and after each step, as a kill would leave them."""
    copies: list[Path] = []
    copytree, busy = shutil.copytree, [False]

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            copy()
            made = real(*args, **kwargs)
            copy()
            return made

        return step

    def copy() -> None:
        if not busy[0] and len(copies) < 400:
            busy[0] = True
            copies.append(copytree(state, to / str(len(copies))))
            busy[0] = False

    with monkeypatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, watched(getattr(owner, name)))
        patch.setattr(salvage, "STEP_BYTES", 60_000)
        store, report = reopened(state)
    assert report is not None
    return copies, store


@pytest.mark.parametrize("what", ["ledger", "header", "payload"])
def test_a_replacement_that_is_killed_at_any_step_is_finished_or_begun_again_and_counts_nothing_twice(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path = state / "spool" / "spool.db"
    if what == "ledger":
        break_seal(state, "UPDATE ledger SET records = 7")
        break_seal(state, "DELETE FROM payload WHERE id BETWEEN 20 AND 60")
        break_seal(state, "DELETE FROM batch WHERE id BETWEEN 20 AND 60")
    elif what == "header":
        overwrite(path, 0, random.Random(1).randbytes(300))
    else:
        for page in pages.kinds(path)["payload leaf"][::3]:
            spoil_page(path, page, 0)
        break_seal(state, "UPDATE meta SET seal = 1")
    copies, store = copies_at_every_step(state, tmp_path / "copies", monkeypatch)
    wanted = counts(store)
    store.close()
    assert len(copies) > 20
    chosen = {*range(0, len(copies), max(1, len(copies) // 25)), *range(len(copies) - 12, len(copies))}
    for number in sorted(chosen):
        again, _ = reopened(copies[number])
        assert counts(again) == wanted, f"killed at step {number} of {len(copies)}"
        assert unbalanced(again) == {}
        again.close()
        assert not (copies[number] / "spool.new").exists()


def test_a_half_made_spool_is_never_taken_for_the_finished_one(state: Path) -> None:
    (state / "spool.new").mkdir()
    (state / "spool.new" / "spool.db").write_bytes(b"half")
    store, report = reopened(state)
    assert report is None
    assert not (state / "spool.new").exists()
    store.close()


# The law afterwards


def test_each_source_is_balanced_for_itself(state: Path) -> None:
    store, _ = reopened(state)
    lane = replace(store.lanes[2], cursor=50)
    missing = ledger.missing_by_source(store.connection, lane, store.ledger)
    assert missing == {"f": 250, "udp": 125}
    store.close()
