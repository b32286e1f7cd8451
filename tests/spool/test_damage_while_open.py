"""The spool is damaged while the agent runs on it: memory knows what the small tables said, and nothing is taken twice.

The tests write into the file by other means than SQLite. That drops this process's locks on it, and no other process
has it open that could be harmed.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from agent.errors import SpoolFull
from agent.spool.records import Group
from agent.spool.salvage import open_store
from tests.spool import pages
from tests.spool.harm import overwrite, spoil, spoil_frame, spoil_page
from tests.spool.numbered import OPTIONS, TIME_NS, Driver, batch, dropped, taken, unbalanced
from tests.spool.test_damage import KINDS, LANES, SOURCES, Builder

SEEDS = range(3)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    """An open spool, partly delivered, whose pages are read from the file each time."""
    builder = Builder(tmp_path / "state")
    for commit in range(8):
        builder.put(commit)
    builder.ack("a/logs", 0.6)
    builder.ack("b/logs", 0.3)
    builder.put(8)
    builder.store.recent._batches.clear()
    builder.store.connection.execute("PRAGMA cache_size = 0")
    return builder


def goes_on(builder: Builder) -> None:
    """Takes more in and drains every lane; whatever is not found again was counted, and nothing comes twice."""
    store = builder.store
    waiting = {lane: builder.standing(lane, beyond=True) for lane in LANES}
    positions = dict(store.positions)
    driver = Driver(store, builder.state)
    more = batch("both", builder.next["both"], 5)
    driver.commit(Group([taken(more)]))
    for lane in LANES:
        drained = driver.drain(LANES.index(lane) + 1)
        found = Counter([*drained.records, *drained.asked_again])
        assert not [each for each, times in found.items() if times > 1]
        assert found.keys() <= waiting[lane] | {
            ("both", n) for n in range(builder.next["both"], builder.next["both"] + 5)
        }
        gone = Counter(source for source, _ in waiting[lane] - found.keys())
        counted = dropped(driver.store, "damaged")
        for source in SOURCES:
            assert counted[lane, source] == gone[source], (lane, driver.reports)
    assert {key: value for key, value in driver.store.positions.items() if key[0] != "both"} == {
        key: value for key, value in positions.items() if key[0] != "both"
    }
    assert driver.store.positions["both", "both"] == str(builder.next["both"] + 5)
    for _ in range(3):
        driver.keep()
    assert unbalanced(driver.store) == {}
    assert all(report.positions_from == "memory" for report in driver.reports)
    assert not any(driver.store.waiting_bytes.values())
    driver.store.close()
    again, report = open_store(builder.state / "spool", builder.state / "positions.copy", OPTIONS, TIME_NS)
    assert report is None or not report.lost_records
    assert unbalanced(again) == {}
    again.close()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(("quarantine", "position int"))])
def test_a_page_damaged_while_the_spool_is_open_costs_no_record_that_is_not_counted(
    builder: Builder, kind: str, seed: int
) -> None:
    path = builder.state / "spool" / "spool.db"
    builder.store.fold_log()
    there = pages.in_file(path, pages.kinds(path).get(kind, [1]))
    spoil_page(path, random.Random(seed).choice(there), seed)
    goes_on(builder)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_frame_of_the_log_damaged_while_it_is_open_costs_no_record_that_is_not_counted(
    builder: Builder, place: float, seed: int
) -> None:
    builder.store.connection.execute("PRAGMA wal_autocheckpoint = 0")
    for commit in range(2):
        builder.put(commit)
    spoil_frame(builder.state / "spool" / "spool.db", place, seed)
    goes_on(builder)


def test_a_log_that_is_cut_while_it_is_open_is_damage_and_not_a_full_disk(builder: Builder) -> None:
    builder.store.connection.execute("PRAGMA wal_autocheckpoint = 0")
    for commit in range(2):
        builder.put(commit)
    path = builder.state / "spool" / "spool.db-wal"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    try:
        goes_on(builder)
    except SpoolFull as error:
        raise AssertionError(f"it would wait for ever: {error}") from error


@pytest.mark.parametrize("seed", SEEDS)
def test_the_index_of_the_log_damaged_while_it_is_open_costs_no_record_that_is_not_counted(
    builder: Builder, seed: int
) -> None:
    path = builder.state / "spool" / "spool.db-shm"
    overwrite(path, 0, spoil(path.read_bytes()[:136], seed))
    goes_on(builder)
