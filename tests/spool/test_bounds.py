"""What gives when there is no room left: who waits, who lets go, and that the whole never takes more than its bound."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.batch import Logs
from agent.spool import bounds as bounds_module
from agent.spool import sweep
from agent.spool.bounds import OVERHEAD_BYTES, Bounds, LaneBound, pages_bound, share
from agent.spool.fetch import fetch
from agent.spool.records import Group, Passed
from agent.spool.schema import SpoolOptions
from agent.spool.store import Store
from tests.spool.numbered import Routes, batch, configure, records_of, taken, unbalanced

MEBIBYTE = 1 << 20
LANES = ("a/logs", "b/logs")
SLACK_BYTES = 2 * MEBIBYTE
"""What one commit may take beyond the bound, its log included, before the next one brings it back."""

LOG_BYTES = 24 * MEBIBYTE
"""What the write-ahead log may grow to while a long outage is swept away."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "spool", SpoolOptions(max_bytes=16 * MEBIBYTE))
    yield store
    store.close()


# Who


DROPS = [
    # the lane's own choice, the route, signal, source → whether it drops
    (LaneBound(None, "drop_oldest"), (1,), "logs", "file", True),
    (LaneBound(None, "block"), (1, 2), "metrics", "udp", False),
    (LaneBound(), (1,), "metrics", "host", True),
    (LaneBound(), (1,), "logs", "udp", True),
    (LaneBound(), (1,), "logs", "file", False),
    (LaneBound(), (1, 2), "logs", "file", True),
]


@pytest.mark.parametrize(("bound", "route", "signal", "source", "drops"), DROPS)
def test_a_full_lane_drops_or_waits_as_the_table_says(
    bound: LaneBound, route: tuple[int, ...], signal: str, source: str, drops: bool
) -> None:
    bounds = share({1: bound, 2: LaneBound(None, "drop_oldest")}, [], 1 << 30, frozenset({"udp"}))
    assert bounds.drops_oldest(1, route, signal, source) is drops
    assert bounds.blocked(route, signal, source, {1: 1 << 30, 2: 0}) is not drops
    assert not bounds.blocked(route, signal, source, {1: 0, 2: 0})
    assert bounds.blocked(route, signal, source, {1: 0, 2: 0}, over=True) is not drops


def test_nobody_waits_for_a_lane_that_is_not_in_the_route() -> None:
    bounds = share({1: LaneBound(), 2: LaneBound()}, [], 1 << 30, frozenset())
    assert not bounds.blocked((2,), "logs", "file", {1: 1 << 40, 2: 0})
    assert not bounds.blocked((), "logs", "file", {1: 1 << 40, 2: 0}, over=True)


# How much


def test_lanes_share_equally_what_the_spool_has_beside_its_log() -> None:
    bounds = share({1: LaneBound(), 2: LaneBound()}, [3], 1 << 30, frozenset())
    assert len(set(bounds.max_bytes.values())) == 1
    assert sum(bounds.max_bytes.values()) <= (1 << 30) - OVERHEAD_BYTES
    assert bounds.policies == {1: None, 2: None, 3: "drop_oldest"}


def test_bounds_of_their_own_are_kept_while_they_fit_and_scaled_down_where_they_do_not() -> None:
    fit = share({1: LaneBound(5 * MEBIBYTE), 2: LaneBound(7 * MEBIBYTE)}, [], 1 << 30, frozenset())
    assert fit.max_bytes == {1: 5 * MEBIBYTE, 2: 7 * MEBIBYTE}
    scaled = share({1: LaneBound(1 << 30), 2: LaneBound(3 << 30)}, [], 1 << 30, frozenset())
    assert sum(scaled.max_bytes.values()) <= (1 << 30) - OVERHEAD_BYTES
    assert scaled.max_bytes[2] == pytest.approx(3 * scaled.max_bytes[1], rel=0.01)


def test_the_smallest_spool_still_has_room_for_something() -> None:
    assert pages_bound(0) == MEBIBYTE
    assert share({}, [], 16 * MEBIBYTE, frozenset()).max_bytes == {}
    assert all(share({1: LaneBound()}, [], 16 * MEBIBYTE, frozenset()).max_bytes.values())


def test_a_lane_nobody_knows_is_a_fault_of_the_caller() -> None:
    with pytest.raises(KeyError):
        Bounds().blocked((9,), "logs", "file", {9: 1})


# One lane, and flows that wait beside flows that drop


def test_what_may_go_is_taken_from_behind_what_waits_and_stays_with_the_other_lane(store: Store) -> None:
    """``own`` goes to lane b alone and waits there; ``both`` goes to a as well and may be let go."""
    routes = Routes({"own": ("b/logs",)})
    configure(store, LANES, routes, {"b/logs": LaneBound(MEBIBYTE)})
    store.commit(Group([taken(batch("own", 0, 300, padding=1000))]))
    for number in range(0, 800, 100):
        store.commit(Group([taken(batch("both", number, 100, padding=1000))]))
    store.commit(Group([taken(batch("own", 300, 100, padding=1000))]))
    assert store.waiting_bytes[2] <= MEBIBYTE
    assert store.ledger[2, "own", "dropped", "spool_full"] == 0
    assert store.lanes[2].cursor == 0
    gone = store.ledger[2, "both", "dropped", "spool_full"]
    assert 0 < gone <= 800
    found = [each for stored in fetch(store.connection, 2, 0, 1 << 30) for each in records_of(stored)]
    assert found == [
        *(("own", n) for n in range(300)),
        *(("both", n) for n in range(gone, 800)),
        *(("own", n) for n in range(300, 400)),
    ]
    other = [each for stored in fetch(store.connection, 1, 0, 1 << 30) for each in records_of(stored)]
    assert other == [("both", n) for n in range(800)]
    assert unbalanced(store) == {}
    directory, options = store.directory, store.options
    store.close()
    again = Store(directory, options)
    assert unbalanced(again) == {}
    again.close()


def test_what_waits_is_not_looked_at_again_with_every_commit(store: Store) -> None:
    configure(store, ("b/logs",), Routes(), {"b/logs": LaneBound(MEBIBYTE)})
    for number in range(0, 2000, 100):
        store.commit(Group([taken(batch("own", number, 100, padding=1000))]))
    assert store.waiting_bytes[1] > MEBIBYTE, "nothing of it may go"
    seen: list[str] = []
    store.connection.set_trace_callback(seen.append)
    store.commit(Group())
    store.connection.set_trace_callback(None)
    (scan,) = [each for each in seen if "first_time_ns FROM batch" in each]
    assert f"id > {store.next_id - 1} " in scan


# The whole


def tiny(number: int) -> list[Logs]:
    """Batches that cost more in pages than in bytes."""
    return [batch("f", number + i, 1) for i in range(100)]


def middling(number: int) -> list[Logs]:
    """Batches of which one fills a page a little more than half."""
    return [batch("f", number + 100 * i, 100, padding=75) for i in range(8)]


@pytest.mark.parametrize("batches", [tiny, middling])
@pytest.mark.parametrize("when_full", ["block", "drop_oldest", None])
def test_the_pages_and_the_log_never_take_more_than_the_bound(
    store: Store, when_full: str | None, batches: Callable[[int], list[Logs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one lane dead, and one that takes everything at once: what they share is neither free nor full."""
    monkeypatch.setattr(bounds_module, "OVERHEAD_BYTES", 15 * MEBIBYTE)
    policy = {name: LaneBound(None, when_full) for name in LANES}  # type: ignore[arg-type]
    routes = Routes({"only_a": ("a/logs",)})
    configure(store, LANES, routes, policy)
    number = most = 0
    for _ in range(150):
        made = batches(number)
        number += sum(each.count for each in made)
        beside = [batch("only_a", number + i, 1) for i in range(len(made))]
        mixed = [each for pair in zip(made, beside, strict=True) for each in pair]
        route, over = store.router(("f", "logs")), store.over_bytes > 0
        if store.bounds.blocked(route, "logs", "f", store.waiting_bytes, over=over):
            break
        store.commit(Group([taken(*mixed)]))
        last = store.next_id - 1
        rows = store.connection.execute("SELECT id, source, records FROM batch WHERE id > ?", (store.lanes[1].cursor,))
        store.commit(Group(acks={1: [Passed(*row) for row in rows]}))
        assert store.lanes[1].cursor == last
        most = max(most, store.used_bytes - store.log_bytes)
    assert most <= MEBIBYTE + SLACK_BYTES
    assert store.log_bytes <= SLACK_BYTES
    assert unbalanced(store) == {}
    if when_full == "block":
        assert not [key for key in store.ledger if key[2] == "dropped"]
        assert store.over_bytes or store.waiting_bytes[2] >= store.bounds.max_bytes[2], "nothing held it back"
    else:
        assert store.ledger[2, "f", "dropped", "spool_full"] > 0


def test_a_bound_that_was_lowered_takes_effect_without_anything_coming_in(tmp_path: Path) -> None:
    store = Store(tmp_path / "spool", SpoolOptions(max_bytes=64 * MEBIBYTE))
    configure(store, LANES, Routes())
    for number in range(0, 3000, 100):
        store.commit(Group([taken(batch("f", number, 100, padding=3000))]))
    store.close()
    store = Store(tmp_path / "spool", SpoolOptions(max_bytes=16 * MEBIBYTE))
    configure(store, LANES, Routes())
    assert store.over_bytes
    for _ in range(5):
        store.commit(Group())
    assert not store.over_bytes
    assert unbalanced(store) == {}
    store.close()


def test_sweeping_away_a_long_outage_grows_the_log_no_further_than_a_step(tmp_path: Path) -> None:
    store = Store(tmp_path / "spool", SpoolOptions(max_bytes=1 << 30))
    configure(store, ("a/logs",), Routes())
    small = [batch("f", number, 1) for number in range(300)]
    for number in range(60):
        large = batch("f", 1000 + 1000 * number, 400, padding=1250)
        store.commit(Group([taken(*small, large)]))
    last, log, most = store.next_id - 1, tmp_path / "spool" / "spool.db-wal", 0
    assert store.used_bytes > 60 * MEBIBYTE
    rows = store.connection.execute("SELECT id, source, records FROM batch ORDER BY id").fetchall()
    store.commit(Group(acks={1: [Passed(*row) for row in rows]}))
    while store.connection.execute("SELECT count(*) FROM batch").fetchone()[0]:
        store.sweep(1)
        most = max(most, os.stat(log).st_size)
    assert store.lanes[1].cursor == last
    while sweep.give_back(store.connection, scarce_pages=sweep.SCARCE_STEP_PAGES):
        most = max(most, os.stat(log).st_size)
    assert most <= LOG_BYTES
    store.fold_log(cut=True)
    assert store.used_bytes < MEBIBYTE
    assert os.stat(tmp_path / "spool" / "spool.db").st_size < 2 * MEBIBYTE
    store.close()


def test_freed_pages_are_kept_for_what_comes_next_and_given_back_when_they_are_many(tmp_path: Path) -> None:
    store = Store(tmp_path / "spool", SpoolOptions(max_bytes=1 << 30))
    configure(store, ("a/logs",), Routes())
    for number in range(0, 6000, 100):
        store.commit(Group([taken(batch("f", number, 100, padding=3000))]))
    store.commit(Group(acks={1: [Passed(row, "f", 100) for row in range(1, 61)]}))
    store.sweep(64)
    (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
    rounds = 0
    while sweep.give_back(store.connection):
        rounds += 1
    (left,) = store.connection.execute("PRAGMA page_count").fetchone()
    assert rounds == 2
    assert 256 <= left <= 512 < pages
    store.close()
