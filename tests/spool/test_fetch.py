"""Reading batches back: in order, within bounds, and never anything that is not what was written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.batch import Origin
from agent.errors import SpoolDamaged
from agent.spool import page_one, small_tables
from agent.spool.fetch import ROWS, fetch, header
from agent.spool.page_one import fresh_page_one, has_our_schema, require_schema, restore_page_one
from agent.spool.records import Group, Stored
from agent.spool.schema import PAGE_BYTES
from agent.spool.store import Store
from tests.spool.numbered import OPTIONS, Routes, batch, configure, records_of, taken


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "spool", OPTIONS)
    configure(store, ("a/logs", "b/logs"), Routes({"only_a": ("a/logs",), "only_b": ("b/logs",)}))
    yield store
    store.connection.close()


def ids(found: list[Stored]) -> list[int]:
    return [each.row.id for each in found]


def test_a_lane_gets_the_rows_of_all_its_routes_by_id_and_no_others(store: Store) -> None:
    for number in range(6):
        store.commit(Group([taken(batch(("only_a", "only_b", "both")[number % 3], number, 1))]))
    assert ids(fetch(store.connection, 1, 0, 1 << 20)) == [1, 3, 4, 6]
    assert ids(fetch(store.connection, 2, 3, 1 << 20)) == [5, 6]
    assert fetch(store.connection, 9, 0, 1 << 20) == []


def test_a_page_is_bounded_by_bytes_and_rows_and_never_empty_while_there_is_something(store: Store) -> None:
    store.commit(Group([taken(*(batch("f", number, 1, padding=500) for number in range(ROWS + 10)))]))
    size = batch("f", 0, 1, padding=500).size_bytes + 100  # what random records do not shrink by
    assert ids(fetch(store.connection, 1, 0, 1)) == [1]
    assert ids(fetch(store.connection, 1, 0, 3 * size)) == [1, 2, 3]
    assert len(fetch(store.connection, 1, 0, 1 << 30)) == ROWS


def test_no_read_transaction_outlives_a_fetch(store: Store, tmp_path: Path) -> None:
    store.commit(Group([taken(batch("f", 0, 1))]))
    fetch(store.connection, 1, 0, 1 << 20)
    busy, _, _ = store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert (tmp_path / "spool" / "spool.db-wal").stat().st_size == 0


BROKEN = {
    "the row does not match its seal": "UPDATE batch SET records = 7 WHERE id = 2",
    "the row holds a word for a number": "UPDATE batch SET first_time_ns = 'noon' WHERE id = 2",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_header_row_that_cannot_be_trusted_is_damage(store: Store, what: str) -> None:
    store.commit(Group([taken(*(batch("f", number, 1) for number in range(3)))]))
    store.connection.execute(BROKEN[what])
    with pytest.raises(SpoolDamaged):
        fetch(store.connection, 1, 0, 1 << 20)


def test_an_index_that_leads_to_the_row_of_another_route_is_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(Group([taken(batch("f", 0, 1))]))
    row = header(store.connection, 1)
    monkeypatch.setattr("agent.spool.fetch.header", lambda connection, row_id: replace(row, route=9))
    with pytest.raises(SpoolDamaged, match="has route 1, and it has 9"):
        fetch(store.connection, 1, 0, 1 << 20)


GONE = {
    "DELETE FROM payload WHERE id = 2": False,
    "UPDATE payload SET body = zeroblob(100) WHERE id = 2": True,
    "UPDATE payload SET body = substr(body, 1, 20) WHERE id = 2": True,
    "UPDATE payload SET body = 'a word' WHERE id = 2": True,
    "UPDATE payload SET body = 7 WHERE id = 2": True,
    "UPDATE payload SET body = (SELECT body FROM payload WHERE id = 3) WHERE id = 2": True,
}


@pytest.mark.parametrize("statement", GONE)
def test_a_damaged_payload_costs_its_own_batch_alone(store: Store, statement: str) -> None:
    store.commit(Group([taken(*(batch("f", number, 1) for number in range(4)))]))
    store.connection.execute(statement)
    found = fetch(store.connection, 1, 0, 1 << 20)
    assert ids(found) == [1, 2, 3, 4]
    assert [each.batch is None for each in found] == [False, True, False, False]
    assert found[1].unreadable is GONE[statement]
    assert [records_of(each) for each in found if each.batch is not None] == [[("f", 0)], [("f", 2)], [("f", 3)]]


def test_batches_that_will_be_read_again_count_with_what_they_will_take(store: Store) -> None:
    origin = Origin("f", 0, 1 << 20)
    store.commit(Group([taken(*(replace(batch("f", number, 1), origin=origin) for number in range(9)))]))
    store.connection.execute("DELETE FROM payload")
    assert ids(fetch(store.connection, 1, 0, 3 << 20)) == [1, 2, 3]


# Small tables


def test_rows_of_small_tables_come_back_without_their_seal(store: Store) -> None:
    small_tables.write(store.connection, "position", 3, [("f", "k", "ü\n\0"), ("f", "l", "2")])
    assert small_tables.read(store.connection, "position", 3) == [("f", "k", "ü\n\0"), ("f", "l", "2")]
    with pytest.raises(SpoolDamaged, match="from commit 3, the file ends at 2"):
        small_tables.read(store.connection, "position", 2)


@pytest.mark.parametrize("change", ["value = 'x'", "key = 'x'", "commit_id = 1", "seal = seal + 1", "source = ''"])
def test_a_row_that_anything_was_changed_in_is_not_believed(store: Store, change: str) -> None:
    small_tables.write(store.connection, "position", 2, [("f", "k", "1")])
    store.connection.execute(f"UPDATE position SET {change}")
    with pytest.raises(SpoolDamaged, match="position does not match its seal"):
        small_tables.read(store.connection, "position", 9)


def test_the_numbers_of_the_file_are_sealed_too(store: Store) -> None:
    assert small_tables.read_meta(store.connection) == {"commit_id": 0, "last_time_ns": 0, "next_id": 1}
    small_tables.write_meta(store.connection, commit_id=4, next_id=9)
    assert small_tables.read_meta(store.connection) == {"commit_id": 4, "last_time_ns": 0, "next_id": 9}
    store.connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'next_id'")
    with pytest.raises(SpoolDamaged, match="meta does not match its seal: next_id"):
        small_tables.read_meta(store.connection)


# The first page


def test_the_first_page_is_the_same_in_every_new_spool(store: Store, tmp_path: Path) -> None:
    store.close()
    first = (tmp_path / "spool" / "spool.db").read_bytes()[:PAGE_BYTES]
    changing = {*range(24, 28), *range(28, 32), *range(92, 96)}
    fresh = fresh_page_one(tmp_path)
    assert [at for at in range(PAGE_BYTES) if first[at] != fresh[at] and at not in changing] == []


def test_a_first_page_is_given_back_to_a_file_that_lost_it(store: Store, tmp_path: Path) -> None:
    store.commit(Group([taken(*(batch("f", number, 1, padding=300) for number in range(50)))]))
    store.close()
    path = tmp_path / "spool" / "spool.db"
    path.write_bytes(b"\xff" * PAGE_BYTES + path.read_bytes()[PAGE_BYTES:])
    restore_page_one(path)
    connection = sqlite3.connect(path)
    assert has_our_schema(connection)
    assert len(fetch(connection, 1, 0, 1 << 20)) == 50
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert not [each for each in path.parent.iterdir() if each.is_dir()]


def test_a_schema_is_ours_with_more_in_it_and_not_with_less(store: Store) -> None:
    assert has_our_schema(store.connection)
    store.connection.execute("CREATE TABLE more(id INTEGER PRIMARY KEY)")
    assert has_our_schema(store.connection)
    require_schema(store.connection)
    store.connection.execute("DROP TABLE skip")
    assert not has_our_schema(store.connection)


def test_tables_are_made_all_at_once_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_one, "CREATE", page_one.CREATE.replace("COMMIT;", "nonsense;"))
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        require_schema(connection)
    connection.execute("ROLLBACK")
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
