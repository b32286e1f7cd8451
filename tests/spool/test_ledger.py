"""The law's two sides, counted from counts, rows, and what processors hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.contract import Held
from agent.spool import ledger as law
from agent.spool.records import Group, Lane, Ledger, Passed, Taken, Waiting
from agent.spool.store import Store
from tests.spool.numbered import OPTIONS, Routes, batch, configure, taken

LANES = ("a/logs", "b/logs")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "spool", OPTIONS)
    configure(store, LANES, Routes({"only_b": ("b/logs",)}, frozenset({"none"})))
    yield store
    store.close()


def test_a_balance_sums_by_outcome_and_reason_and_leaves_other_lanes_alone() -> None:
    counts: Ledger = Counter(
        {
            (1, "f", "read", ""): 20,
            (1, "g", "read", ""): 5,
            (1, "f", "delivered", ""): 9,
            (1, "f", "rejected", "poison"): 2,
            (1, "g", "rejected", "poison"): 1,
            (1, "f", "dropped", "aged"): 3,
            (2, "f", "read", ""): 999,
        }
    )
    balance = law.balance(Lane(1, "a/logs", 0, 7), counts, Waiting(records=6, held=3))
    assert balance.document() == {
        "read": 25,
        "delivered": 9,
        "rejected": {"poison": 3},
        "dropped": {"aged": 3},
        "waiting": 9,
    }
    assert balance.missing == 1
    assert balance.orphaned


def test_what_waits_is_counted_from_rows_beyond_the_cursor_and_from_what_is_held(store: Store) -> None:
    held = {"window": Held(b"x", {("f", "logs"): 2, ("only_b", "logs"): 5, ("none", "logs"): 7})}
    store.commit(Group([taken(batch("f", 0, 3), batch("f", 3, 4)), taken(batch("only_b", 0, 1))]))
    reads = {("f", "logs"): 2, ("only_b", "logs"): 5, ("none", "logs"): 7}
    store.commit(Group([Taken(read=reads, states=held)]))
    first = store.waiting(1)
    assert (first.records, first.batches, first.held) == (7, 2, 2)
    assert first.oldest_time_ns == batch("f", 0, 3).first_time_ns
    store.commit(Group(acks={1: [Passed(1, "f", 3)]}))
    after = store.waiting(1)
    assert (after.records, after.batches) == (4, 1)
    assert after.oldest_time_ns == batch("f", 3, 4).first_time_ns
    assert after.bytes == store.waiting_bytes[1] < first.bytes
    assert store.waiting(2).held == 7
    assert [balance.missing for balance in store.balances()] == [0, 0]


def test_a_lane_with_nothing_to_do_waits_for_nothing(store: Store) -> None:
    assert store.waiting(1) == Waiting()


def test_a_lane_whose_number_begins_like_another_s_is_not_that_lane(store: Store) -> None:
    store.connection.execute("INSERT INTO route VALUES(5, '11,12', 0, 0)")
    assert law.routes_of(store.connection, 1) == []
    assert law.routes_of(store.connection, 12) == [5]


def test_what_is_missing_is_told_by_source_and_by_sign(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3)), taken(batch("g", 0, 4))]))
    counts = store.ledger + Counter({(1, "f", "read", ""): 10, (1, "h", "delivered", ""): 6})
    assert law.missing_by_source(store.connection, store.lanes[1], counts) == {"f": 10, "h": -6}
    assert law.missing_by_source(store.connection, store.lanes[2], counts) == {}


def test_records_nobody_wants_stand_by_source_and_signal(store: Store) -> None:
    store.commit(Group([taken(batch("none", 0, 3)), taken(batch("none", 3, 2))]))
    assert law.unrouted(store.ledger) == {"none/logs": 5}


@pytest.mark.parametrize("packed", ["", "x", "[1]", '[["f","logs",["a"],1]]', '[["f","logs",[1]]]'])
def test_what_no_processor_ever_wrote_is_refused(packed: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        law.decode_held(packed)
