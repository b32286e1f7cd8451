"""What an operator may do to a spool: each is one transaction, each is in the ledger, and the law holds after it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.batch import Logs, Metrics, Origin
from agent.clock import RecordTimes
from agent.errors import AgentError, SpoolFull
from agent.spool import replay
from agent.spool.fetch import fetch
from agent.spool.recount import recount
from agent.spool.store import Store
from tests.fakes import FakeClock
from tests.spool_contents import FILE, LOKI, TIME_NS, broken, logs, numbered, passed, refuse, spool, take

METRICS = "prom/metrics"
NOW_NS = TIME_NS + 10 * 86400 * 10**9


@pytest.fixture
def times() -> RecordTimes:
    """Ten days after everything that the spool was filled with."""
    return RecordTimes(FakeClock(NOW_NS))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with spool(tmp_path / "spool", (LOKI, FILE, METRICS)) as opened:
        yield opened


def lane(store: Store, name: str) -> int:
    return next(each.id for each in store.lanes.values() if each.name == name)


def waiting(store: Store, name: str) -> list[Logs]:
    found = fetch(store.connection, lane(store, name), store.lanes[lane(store, name)].cursor, 1 << 30)
    return [each.batch for each in found if isinstance(each.batch, Logs)]


def counted(store: Store, name: str) -> dict[str, int]:
    return {
        outcome: n
        for (at, source, outcome, _), n in store.ledger.items()
        if (at, source) == (lane(store, name), "replay")
    }


def holds(store: Store) -> bool:
    return recount(store.connection).holds and not any(balance.missing for balance in store.balances())


def test_what_is_taken_in_is_read_from_replay_by_every_lane_of_its_signal(store: Store, times: RecordTimes) -> None:
    assert replay.take_in(store, times, [logs(numbered(3)), logs(numbered(2))]) == 5
    for name in (LOKI, FILE):
        assert counted(store, name) == {"read": 5}
        assert [batch.records() for batch in waiting(store, name)] == [numbered(3), numbered(2)]
    assert store.waiting(lane(store, METRICS)).records == 0
    assert store.connection.execute("SELECT count(*) FROM batch").fetchone() == (2,), "kept once for both lanes"
    assert holds(store)


def test_a_named_lane_alone_gets_it(store: Store, times: RecordTimes) -> None:
    assert replay.take_in(store, times, [logs(numbered(3))], FILE) == 3
    assert (store.waiting(lane(store, FILE)).records, store.waiting(lane(store, LOKI)).records) == (3, 0)
    assert holds(store)


def test_records_happened_when_they_did_and_are_read_anew(store: Store, times: RecordTimes) -> None:
    own = array("q", [5, 6])
    origin = Origin("/var/log/app.log", 0, 9)
    replay.take_in(store, times, [logs(numbered(2), origin=origin), logs(numbered(2), times_ns=own)], LOKI)
    first, second = waiting(store, LOKI)
    assert list(first.times_ns or ()) == [TIME_NS, TIME_NS + 1]
    assert list(second.times_ns or ()) == [5, 6]
    assert (first.first_time_ns, second.first_time_ns) == (NOW_NS, NOW_NS + 2)
    assert (first.origin, first.source) == (None, "replay")
    assert store.last_time_ns == NOW_NS + 3, "no later record gets a time of these"


def test_samples_keep_the_moment_they_were_taken_at(store: Store, times: RecordTimes) -> None:
    batch = Metrics("host", (), (b"up",), array("d", [1.0]), first_time_ns=TIME_NS)
    assert replay.take_in(store, times, [batch]) == 1
    (stored,) = fetch(store.connection, lane(store, METRICS), 0, 1 << 20)
    assert stored.batch is not None
    assert stored.batch.first_time_ns == TIME_NS
    assert holds(store)


def test_what_no_lane_takes_is_refused_and_named(store: Store, times: RecordTimes) -> None:
    store.router = lambda flow: ()
    with pytest.raises(AgentError, match=r"no destination takes logs .*--lane \(loki/logs, file/logs, prom/metrics\)"):
        replay.take_in(store, times, [logs(numbered(3))])
    with pytest.raises(AgentError, match="there is no lane 'x'; the spool knows file/logs, loki/logs, prom/metrics"):
        replay.take_in(store, times, [logs(numbered(3))], "x")
    with pytest.raises(AgentError, match="lane 'prom/metrics' takes metrics, and these are logs"):
        replay.take_in(store, times, [logs(numbered(3))], METRICS)
    assert store.next_id == 1


def test_all_of_a_request_is_taken_in_or_nothing(store: Store, times: RecordTimes) -> None:
    mixed = [logs(numbered(3)), Metrics("host", (), (b"up",), array("d", [1.0]), first_time_ns=1)]
    with pytest.raises(AgentError, match="these are metrics"):
        replay.take_in(store, times, mixed, LOKI)
    assert (store.next_id, sum(store.ledger.values())) == (1, 0)


def test_a_full_lane_and_a_full_spool_refuse_and_let_go_of_nothing(store: Store, times: RecordTimes) -> None:
    take(store, logs(numbered(100)))
    store.bounds.max_bytes[lane(store, LOKI)] = 10
    with pytest.raises(AgentError, match=r"lane 'loki/logs' is full: \d+ of 10 bytes wait; replay the rest"):
        replay.take_in(store, times, [logs(numbered(3))])
    store.bounds.max_bytes.clear()
    store.used_bytes = store.options.max_bytes
    with pytest.raises(AgentError, match="the spool is full"):
        replay.take_in(store, times, [logs(numbered(3))])
    assert store.waiting(lane(store, LOKI)).records == 100
    assert holds(store)


def test_a_commit_that_fails_leaves_no_trace(store: Store, times: RecordTimes) -> None:
    store.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(SpoolFull):
        replay.take_in(store, times, [logs(numbered(3))])
    store.connection.execute("PRAGMA query_only = OFF")
    assert (store.next_id, sum(store.ledger.values())) == (1, 0)
    assert replay.take_in(store, times, [logs(numbered(3))]) == 3
    assert holds(store)


def again(store: Store, times: RecordTimes, name: str | None = None) -> tuple[int, int]:
    """Records and damaged batches of all steps."""
    records = damaged = 0
    after: int | None = 0
    while after is not None:
        step = replay.from_quarantine(store, times, name, after)
        records, damaged, after = records + step.records, damaged + step.damaged, step.last_id
    return records, damaged


def test_what_was_refused_goes_back_to_the_lane_that_refused_it(store: Store, times: RecordTimes) -> None:
    refuse(store, LOKI, logs(numbered(4)))
    refuse(store, FILE, logs(numbered(2, "other")))
    assert again(store, times) == (6, 0)
    assert counted(store, LOKI) == {"read": 4}
    assert counted(store, FILE) == {"read": 2}
    assert waiting(store, LOKI)[-1].records() == numbered(4)
    assert store.connection.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
    assert again(store, times) == (0, 0)
    assert holds(store)


def test_one_lane_may_be_chosen_and_an_orphaned_one_may_not(store: Store, times: RecordTimes) -> None:
    refuse(store, LOKI, logs(numbered(4)))
    refuse(store, FILE, logs(numbered(2)))
    assert again(store, times, FILE) == (2, 0)
    store.configure([FILE], NOW_NS)
    assert again(store, times) == (0, 0)
    with pytest.raises(AgentError, match="'loki/logs' has left the configuration"):
        again(store, times, LOKI)
    assert store.connection.execute("SELECT count(*) FROM quarantine").fetchone() == (1,), "still there to be exported"


def test_a_damaged_refusal_stays_and_the_others_go(store: Store, times: RecordTimes, tmp_path: Path) -> None:
    for count in (1, 2, 3):
        refuse(store, LOKI, logs(numbered(count)))
    with broken(tmp_path / "spool") as connection:
        connection.execute("UPDATE quarantine SET body = x'00' WHERE records = 2")
    assert again(store, times) == (4, 1)
    assert store.connection.execute("SELECT records FROM quarantine").fetchall() == [(2,)]
    assert holds(store)


def test_a_large_quarantine_is_taken_back_step_by_step(
    store: Store, times: RecordTimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "STEP_BYTES", 1)
    for _ in range(3):
        refuse(store, LOKI, logs(numbered(2)))
    assert replay.from_quarantine(store, times).records == 2
    assert again(store, times) == (4, 0)
    assert holds(store)


def test_only_what_left_the_configuration_can_be_retired(store: Store) -> None:
    take(store, logs(numbered(5)))
    with pytest.raises(AgentError, match="was configured when the agent last started"):
        replay.retire_named(store, LOKI)
    with pytest.raises(AgentError, match="there is no lane 'nothing'"):
        replay.retire_named(store, "nothing")
    store.configure([FILE, METRICS], NOW_NS)
    assert replay.retire_named(store, LOKI) == 5
    assert store.ledger[lane(store, LOKI), "file.app", "dropped", "retired"] == 5
    assert store.waiting(lane(store, FILE)).records == 5
    assert replay.retire_named(store, LOKI) == 0
    assert holds(store)


def test_without_a_configuration_lanes_take_the_signal_in_their_name(store: Store) -> None:
    store.configure([FILE, METRICS], NOW_NS)
    route = replay.by_name(store)
    assert route(("replay", "logs")) == (lane(store, FILE),)
    assert route(("replay", "metrics")) == (lane(store, METRICS),)


def test_replayed_records_are_delivered_and_swept_like_any_other(store: Store, times: RecordTimes) -> None:
    take(store, logs(numbered(1)))
    replay.take_in(store, times, [replace(logs(numbered(2)), separator=b"\n")], LOKI)
    passed(store, LOKI, 1, 2)
    assert counted(store, LOKI) == {"read": 2, "delivered": 2}
    assert store.connection.execute("SELECT id FROM batch").fetchall() == [(1,)], "the file lane still waits for it"
    assert holds(store)
