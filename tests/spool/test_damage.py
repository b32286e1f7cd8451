"""Whatever byte of the spool is damaged: it opens, every lane is drained to its end, and every record is accounted for.

The spool is damaged as ``kill -9`` leaves it, with a live write-ahead log, or after it was closed in good order.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.batch import Position
from agent.contract import Held
from agent.spool.positions_copy import encode, small_of, write_copy
from agent.spool.records import Group, Passed, Quarantined, Taken
from agent.spool.salvage import open_store
from agent.spool.store import Store
from tests.spool import pages
from tests.spool.harm import POINTERS, WHOLE_FILES, overwrite, spoil_frame, spoil_page
from tests.spool.numbered import (
    OPTIONS,
    TIME_NS,
    Driver,
    Routes,
    batch,
    configure,
    crash_copy,
    dropped,
    taken,
    unbalanced,
)

LANES = ("a/logs", "b/logs")
ROUTES = Routes({"only_a": ("a/logs",), "only_b": ("b/logs",)})
SOURCES = ("both", "only_a", "only_b", "udp")
COMMITS, BATCHES, RECORDS = 30, 14, 2


@dataclass(frozen=True)
class Built:
    """A spool on disk, and what was true when it was left: records each lane had yet to pass, by lane and source."""

    state: Path
    waiting: dict[str, set[tuple[str, int]]]
    passed: dict[str, set[tuple[str, int]]]
    kinds: dict[str, list[int]]


class Builder:
    """Fills a spool and remembers what it did."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.store = Store(state / "spool", OPTIONS)
        configure(self.store, LANES, ROUTES)
        self.next: Counter[str] = Counter()
        self.rows: dict[int, tuple[str, int, int]] = {}

    def put(self, commit: int) -> None:
        """One commit: small batches of every source, and one of many pages."""
        batches = []
        for source in SOURCES:
            sizes = [RECORDS] * BATCHES + ([60] if source == SOURCES[commit % 4] else [])
            for count in sizes:
                padding = 400 if count > RECORDS else 10
                batches.append(batch(source, self.next[source], count, padding=padding, origin=source != "udp"))
                self.next[source] += count
        first = self.store.next_id
        self.store.commit(Group([taken(*batches)]))
        for row, each in enumerate(batches, first):
            number = int(each.records()[0].split(b" ")[1])
            self.rows[row] = each.source, number, each.count

    def wanted(self, lane: str) -> list[int]:
        """The ids of the rows a lane was given."""
        return [row for row, (source, _, _) in self.rows.items() if ROUTES.wanted.get(source, LANES).count(lane)]

    def ack(self, lane: str, share: float) -> None:
        """Delivers the first part of what a lane was given."""
        ids = self.wanted(lane)[: int(len(self.wanted(lane)) * share)]
        passed = [Passed(row, self.rows[row][0], self.rows[row][2]) for row in ids]
        self.store.commit(Group(acks={LANES.index(lane) + 1: passed}))
        for _ in range(4):
            self.store.commit(Group())

    def standing(self, lane: str, *, beyond: bool) -> set[tuple[str, int]]:
        """The records a lane has yet to pass, or has passed."""
        cursor = self.store.lanes[LANES.index(lane) + 1].cursor
        return {
            (source, number)
            for row in self.wanted(lane)
            if (row > cursor) is beyond
            for source, first, count in [self.rows[row]]
            for number in range(first, first + count)
        }

    def built(self, state: Path) -> Built:
        return Built(
            state,
            {lane: self.standing(lane, beyond=True) for lane in LANES},
            {lane: self.standing(lane, beyond=False) for lane in LANES},
            pages.kinds(state / "spool" / "spool.db"),
        )


def build(tmp: Path, *, killed: bool) -> Built:
    """A spool of a thousand batches, partly delivered, with a second copy that is older than the last commits."""
    builder = Builder(tmp / "state")
    store = builder.store
    many = tuple(("many", _position(i)) for i in range(400))
    held = {"window": Held(b"held", {("both", "logs"): 5})}
    refused = [Quarantined(1, "poison", "said so" * 9, batch("both", 900_000 + i, 9, padding=5000)) for i in range(9)]
    store.commit(Group([Taken((), {("both", "logs"): 5}, {}, many, held)]))
    for commit in range(COMMITS - 10):
        builder.put(commit)
    builder.ack("a/logs", 0.8)
    builder.ack("b/logs", 0.5)
    store.commit(Group(quarantined=refused))
    write_copy(builder.state / "positions.copy", encode(small_of(store)))
    for commit in range(5):
        builder.put(commit)
    store.fold_log()
    store.connection.execute("PRAGMA wal_autocheckpoint = 0")
    builder.put(0)
    store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    for commit in range(4):
        builder.put(commit)
    builder.ack("a/logs", 0.6)
    state = tmp / "left"
    if killed:
        crash_copy(builder.state, state)
        store.close()
    else:
        store.close()
        crash_copy(builder.state, state)
    return builder.built(state)


def _position(number: int) -> Position:
    return Position(f"/var/log/some/file/of/many/{number}.log", f"{number * 1000}")


@pytest.fixture(scope="module", params=["killed", "closed"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp(request.param), killed=request.param == "killed")


KINDS = (
    "header",
    "pointer map",
    "freelist trunk",
    "freelist leaf",
    "batch interior",
    "batch leaf",
    "batch_by_route interior",
    "batch_by_route leaf",
    "payload interior",
    "payload leaf",
    "payload overflow",
    "meta leaf",
    "lane leaf",
    "sqlite_autoindex_lane_1 leaf",
    "route leaf",
    "sqlite_autoindex_route_1 leaf",
    "position interior",
    "position leaf",
    "state leaf",
    "ledger leaf",
    "skip leaf",
    "quarantine leaf",
    "quarantine overflow",
)
SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_page_of_any_kind_loses_no_record_from_the_count(
    built: Built, tmp_path: Path, kind: str, seed: int
) -> None:
    state = crash_copy(built.state, tmp_path / "state")
    path = state / "spool" / "spool.db"
    spoil_page(path, random.Random(seed).choice(pages.in_file(path, built.kinds[kind])), seed)
    survives(built, state)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("to", POINTERS)
def test_a_chain_of_overflow_pages_that_leads_elsewhere_alters_no_other_record(
    built: Built, tmp_path: Path, to: str, seed: int
) -> None:
    state = crash_copy(built.state, tmp_path / "state")
    path = state / "spool" / "spool.db"
    chance, size = random.Random(seed), pages.page_bytes(path)
    page = chance.choice(pages.in_file(path, built.kinds["payload overflow"]))
    target = POINTERS[to](chance, path.stat().st_size // size)
    overwrite(path, (page - 1) * size, target.to_bytes(4, "big"))
    survives(built, state)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_freelist_that_leads_into_pages_in_use_alters_no_record(built: Built, tmp_path: Path, seed: int) -> None:
    state = crash_copy(built.state, tmp_path / "state")
    path = state / "spool" / "spool.db"
    size, chance = pages.page_bytes(path), random.Random(seed)
    in_use = built.kinds["payload leaf"] + built.kinds["batch leaf"] + built.kinds["payload overflow"]
    for trunk in built.kinds["freelist trunk"]:
        leaves = chance.sample(in_use, 20)
        page = (0).to_bytes(4, "big") + len(leaves).to_bytes(4, "big") + b"".join(p.to_bytes(4, "big") for p in leaves)
        overwrite(path, (trunk - 1) * size, page)
    survives(built, state)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", [0.0, 0.01, 0.5, 1.0])
def test_a_damaged_frame_of_the_log_takes_what_came_after_it_and_no_more(
    built: Built, tmp_path: Path, place: float, seed: int
) -> None:
    state = crash_copy(built.state, tmp_path / "state")
    spoil_frame(state / "spool" / "spool.db", place, seed)
    survives(built, state, log_lost=True)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("what", WHOLE_FILES)
def test_files_that_are_cut_gone_or_replaced_lose_no_record_from_the_count(
    built: Built, tmp_path: Path, what: str, seed: int
) -> None:
    state = crash_copy(built.state, tmp_path / "state")
    WHOLE_FILES[what](state / "spool" / "spool.db", random.Random(seed))
    survives(built, state, log_lost=True)


@pytest.mark.parametrize("copy", ["missing", "empty", "garbage", "cut"])
@pytest.mark.parametrize("kind", ["ledger leaf", "header", "batch leaf"])
def test_a_damaged_second_copy_beside_a_damaged_spool_keeps_nothing_from_starting(
    built: Built, tmp_path: Path, copy: str, kind: str
) -> None:
    state = crash_copy(built.state, tmp_path / "state")
    path = state / "positions.copy"
    data = path.read_bytes()
    path.write_bytes({"missing": b"", "empty": b"", "garbage": os.urandom(500), "cut": data[:200]}[copy])
    if copy == "missing":
        path.unlink()
    for page in built.kinds[kind]:
        spoil_page(state / "spool" / "spool.db", page, 0)
    opened(state)


# What must be true afterwards


def opened(state: Path) -> Driver:
    """The spool, opened whatever it takes, and drained to its end in every lane."""
    store, report = open_store(state / "spool", state / "positions.copy", OPTIONS, TIME_NS)
    driver = Driver(store, state)
    if report is not None:
        driver.reports.append(report)
    configure(store, LANES, ROUTES)
    return driver


def survives(built: Built, state: Path, *, log_lost: bool = False) -> None:
    """Opens the damaged spool, drains it, and looks for every record that was durable and not yet delivered."""
    driver = opened(state)
    store = driver.store
    positions = {source: int(value) for (source, _), value in store.positions.items() if source in SOURCES}
    before = dropped(store)
    ids = {lane.name: lane.id for lane in store.lanes.values()}
    for lane in LANES:
        drained = driver.drain(ids[lane])
        now = driver.store
        found = {*drained.records, *drained.asked_again}
        again = {(source, n) for source, n in built.waiting[lane] if n >= positions.get(source, 0) and source != "udp"}
        gone = Counter(source for source, _ in built.waiting[lane] - found - again)
        counted = dropped(now)
        for source, records in gone.items():
            if log_lost and source == "udp":
                continue  # commits lost with the log: nobody can read a datagram again
            assert counted[lane, source] >= records, (lane, source, records, driver.reports)
        if not driver.reports and not log_lost:
            assert not built.passed[lane] & found, "delivered again, although nothing was damaged that says so"
            assert before == dropped(now) or drained.lost
    goes_on(driver, state)


def goes_on(driver: Driver, state: Path) -> None:
    """The spool takes more in, gives it out, and opens again."""
    driver.keep()
    assert unbalanced(driver.store) == {}
    ids = [driver.store.lanes[lane].cursor for lane in driver.store.lanes]
    more = batch("both", 5_000_000, 7)
    driver.commit(Group([taken(more)]))
    assert driver.store.next_id > max(ids)
    for lane in list(driver.store.lanes):
        assert len(driver.drain(lane).records) == 7
    for _ in range(3):
        driver.keep()
    assert unbalanced(driver.store) == {}
    assert not any(driver.store.waiting_bytes.values())
    driver.store.close()
    store, report = open_store(state / "spool", state / "positions.copy", OPTIONS, TIME_NS)
    assert report is None or not report.lost_records, report
    assert unbalanced(store) == {}
    store.close()
