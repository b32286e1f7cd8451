"""The store: one transaction, ids that rise, and what it says of files that are not as it left them."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.batch import Position
from agent.contract import Held
from agent.errors import SpoolDamaged, SpoolFull
from agent.spool import draft, sweep
from agent.spool.records import Group, Passed, Taken
from agent.spool.schema import SCHEMA_VERSION, SpoolOptions
from agent.spool.store import Store, translated
from tests.spool.numbered import OPTIONS, TIME_NS, Routes, batch, configure, taken, unbalanced

LANES = ("a/logs", "b/logs")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    store = Store(directory, OPTIONS)
    configure(store, LANES, Routes())
    yield store
    store.close()


def again(store: Store) -> Store:
    """The same spool, opened anew."""
    store.close()
    opened = Store(store.directory, OPTIONS)
    configure(opened, LANES, Routes())
    return opened


# Committing


def test_a_commit_is_all_or_nothing_in_the_file_and_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    before = (dict(store.lanes), Counter(store.ledger), dict(store.positions), store.next_id, store.commit_id)

    def fails(*_: object, **__: object) -> None:
        raise KeyError("as if")

    monkeypatch.setattr(draft.small_tables, "write_meta", fails)
    with pytest.raises(SpoolDamaged, match="KeyError"):
        store.commit(Group([taken(batch("f", 3, 3))], {1: [Passed(1, "f", 3)]}))
    monkeypatch.undo()
    assert (dict(store.lanes), Counter(store.ledger), dict(store.positions), store.next_id, store.commit_id) == before
    assert store.connection.execute("SELECT count(*) FROM batch").fetchone() == (1,)
    store = again(store)
    assert (store.positions, store.next_id) == ({("f", "f"): "3"}, 2)
    store.close()


def test_ids_are_never_used_again_even_when_every_row_is_gone(store: Store) -> None:
    store.commit(Group([taken(*(batch("f", number, 1) for number in range(9)))]))
    for lane in (1, 2):
        store.commit(Group(acks={lane: [Passed(row, "f", 1) for row in range(1, 6)]}))
    store.connection.execute("DELETE FROM batch WHERE id > 5")
    store.connection.execute("DELETE FROM payload WHERE id > 5")
    reopened = Store(store.directory, OPTIONS, unchecked=True)
    assert reopened.next_id == 10
    reopened.close()


def test_record_times_positions_and_states_are_there_again(store: Store) -> None:
    states = {"window": Held(b"blob", {("f", "logs"): 2}), "gone": Held(b"", {})}
    store.commit(Group([Taken(read={("f", "logs"): 2}, states=states)], last_time_ns=TIME_NS + 5))
    store.commit(Group([Taken(positions=(("f", Position("k", "1")), ("f", Position("old", "9"))))]))
    store.commit(Group([Taken(positions=(("f", Position("old", None)),), states={"gone": None})], last_time_ns=7))
    store = again(store)
    assert store.last_time_ns == TIME_NS + 5
    assert store.positions == {("f", "k"): "1"}
    assert {name: blob for name, (blob, _) in store.states.items()} == {"window": b"blob"}
    assert store.sources == {"f"}
    assert store.waiting(1).held == 2
    store.close()


def test_no_more_is_counted_for_a_batch_than_it_holds(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    store.commit(Group(acks={1: [Passed(1, "f", 99, {"a": 2, "b": 5}, {"c": 5})]}))
    counts = {key[2:]: n for key, n in store.ledger.items() if key[0] == 1 and n}
    assert counts == {("read", ""): 3, ("rejected", "a"): 2, ("rejected", "b"): 1}
    assert unbalanced(store) == {}


def test_a_batch_nothing_was_said_of_is_counted_when_a_later_one_is_acknowledged(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3), batch("f", 3, 4))]))
    store.commit(Group(acks={1: [Passed(2, "f", 4)]}))
    assert store.ledger[1, "f", "dropped", "skipped"] == 3
    assert store.ledger[1, "f", "delivered", ""] == 4
    assert unbalanced(store) == {}


def test_an_answer_for_ids_that_were_never_given_moves_no_cursor_beyond_the_last(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    store.commit(Group(acks={1: [Passed(1, "f", 3), Passed(10**12, "f", 3)], 9: [Passed(1, "f", 3)], 2: []}))
    assert store.lanes[1].cursor == 1
    assert store.ledger[1, "f", "delivered", ""] == 3
    assert 9 not in store.lanes
    assert unbalanced(store) == {}


def test_a_row_that_cannot_be_deleted_is_walked_around(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sweep.delete_rows

    def refuses(connection: sqlite3.Connection, ids: list[int]) -> None:
        if 2 in ids:
            raise sqlite3.DatabaseError("database disk image is malformed")
        real(connection, ids)

    monkeypatch.setattr(sweep, "delete_rows", refuses)
    store.commit(Group([taken(*(batch("f", number, 1) for number in range(4)))]))
    for lane in (1, 2):
        store.commit(Group(acks={lane: [Passed(row, "f", 1) for row in range(1, 5)]}))
    assert store.skips == {2}
    assert store.connection.execute("SELECT id FROM batch").fetchall() == [(2,)]
    store.sweep(3)
    assert unbalanced(store) == {}
    monkeypatch.undo()
    store = again(store)
    assert store.skips == {2}
    store.commit(Group())
    assert store.connection.execute("SELECT id FROM batch").fetchall() == [(2,)]
    store.close()


def test_a_commit_of_a_mebibyte_is_written_once_and_in_few_statements(store: Store) -> None:
    statements: list[str] = []
    store.connection.set_trace_callback(statements.append)
    store.commit(Group([taken(batch("f", 0, 500, padding=1000))], {1: []}))
    store.connection.set_trace_callback(None)
    assert len(statements) < 60
    assert statements.count("COMMIT") == 1


# Lanes


def test_a_new_lane_starts_from_now_and_an_old_one_where_it_was(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    configure(store, ("b/logs", "c/logs"), Routes())
    lanes = {lane.name: lane for lane in store.lanes.values()}
    assert lanes["a/logs"].orphaned_ns == TIME_NS
    assert (lanes["b/logs"].cursor, lanes["b/logs"].orphaned_ns) == (0, None)
    assert (lanes["c/logs"].id, lanes["c/logs"].cursor) == (3, 1)
    configure(store, ("a/logs",), Routes())
    assert store.lanes[1].orphaned_ns is None
    assert store.lanes[1].cursor == 0
    store = again(store)
    assert len(store.lanes) == 3
    store.close()


def test_the_id_of_a_lane_is_never_given_to_another_while_the_ledger_knows_it(directory: Path) -> None:
    store = Store(directory, OPTIONS)
    store.ledger[7, "f", "read", ""] = 0
    assert store.configure(["a/logs"], TIME_NS) == {"a/logs": 8}
    store.close()


# Opening


def damage(directory: Path, statement: str) -> None:
    connection = sqlite3.connect(directory / "spool.db", isolation_level=None)
    connection.execute(statement)
    connection.close()


BROKEN = {
    "a count was changed": "UPDATE ledger SET records = 99",
    "a count is from a commit that is gone": "UPDATE ledger SET commit_id = 99",
    "a row is gone": "DELETE FROM batch WHERE id = 1",
    "a count is gone": "DELETE FROM ledger WHERE outcome = 'read' AND lane = 1",
    "a cursor is a word": "UPDATE lane SET cursor = 'far'",
    "a route is not a text": "UPDATE route SET lanes = 5",
    "a route leads elsewhere": "UPDATE route SET lanes = '1,9'",
    "the number of the last commit is another": "UPDATE meta SET value = 1000 WHERE key = 'commit_id'",
    "the number of the last commit is gone": "DELETE FROM meta",
    "a table is gone": "DROP TABLE state",
    "a table is another": "ALTER TABLE payload RENAME COLUMN body TO soul",
    "an index is gone": "DROP INDEX batch_by_route",
    "bytes wait that are not there": "UPDATE batch SET bytes = 1 << 60",
    "bytes wait that are a word": "UPDATE batch SET bytes = 'many'",
    "fewer bytes wait than none": "UPDATE batch SET bytes = -5",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_is_not_as_it_was_left_is_called_damaged(store: Store, what: str) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    store.close()
    damage(store.directory, BROKEN[what])
    with pytest.raises(SpoolDamaged):
        Store(store.directory, OPTIONS)


def test_what_seems_to_be_missing_is_not_made_anew(store: Store) -> None:
    store.close()
    damage(store.directory, "DROP TABLE quarantine")
    for _ in range(2):
        with pytest.raises(SpoolDamaged, match="tables of a spool"):
            Store(store.directory, OPTIONS)


def test_a_log_without_its_file_is_not_deleted(store: Store, tmp_path: Path) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    shutil.copytree(store.directory, tmp_path / "copy")
    for left in (b"", None):
        path = tmp_path / "copy" / "spool.db"
        path.write_bytes(b"")
        if left is None:
            path.unlink()
        with pytest.raises(SpoolDamaged, match="without its file"):
            Store(path.parent, OPTIONS)
        assert (tmp_path / "copy" / "spool.db-wal").stat().st_size > 0


def test_a_spool_that_a_newer_agent_has_added_to_opens(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    store.close()
    damage(store.directory, "CREATE TABLE new_in_version_2(id INTEGER PRIMARY KEY)")
    damage(store.directory, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    store = again(store)
    store.commit(Group([taken(batch("f", 3, 3))]))
    assert store.connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    store.close()


def test_a_spool_whose_tables_were_never_made_is_made(directory: Path) -> None:
    directory.mkdir()
    connection = sqlite3.connect(directory / "spool.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    store = Store(directory, OPTIONS)
    assert store.connection.execute("PRAGMA page_size").fetchone() in {(4096,), (16384,)}
    store.close()


def test_a_place_where_nothing_can_be_written_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolFull):
        Store(tmp_path / "file" / "spool", OPTIONS)
    (tmp_path / "spool" / "spool.db").mkdir(parents=True)
    with pytest.raises(SpoolFull, match="cannot be opened"):
        Store(tmp_path / "spool", OPTIONS)


def test_how_the_file_is_written_is_as_the_design_says(store: Store) -> None:
    asked = ("page_size", "auto_vacuum", "journal_mode", "secure_delete", "wal_autocheckpoint", "journal_size_limit")
    found = [store.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
    assert found == [16384, 2, "wal", 0, 64, 8 << 20]


def test_closing_folds_the_log_into_the_file(store: Store) -> None:
    store.commit(Group([taken(batch("f", 0, 3))]))
    store.close()
    assert [path.name for path in store.directory.iterdir()] == ["spool.db"]


# What an error means


def error(code: int | None) -> sqlite3.Error:
    made = sqlite3.OperationalError("x")
    if code is not None:
        made.sqlite_errorcode = code
    return made


MEANINGS = [
    (error(sqlite3.SQLITE_FULL), SpoolFull),
    (error(sqlite3.SQLITE_BUSY_SNAPSHOT), SpoolFull),
    (error(sqlite3.SQLITE_IOERR_FSYNC), SpoolFull),
    (error(sqlite3.SQLITE_IOERR_SHORT_READ), SpoolDamaged),
    (error(sqlite3.SQLITE_CANTOPEN), SpoolFull),
    (error(sqlite3.SQLITE_READONLY_DBMOVED), SpoolFull),
    (error(sqlite3.SQLITE_PROTOCOL), SpoolFull),
    (error(sqlite3.SQLITE_CORRUPT_INDEX), SpoolDamaged),
    (error(sqlite3.SQLITE_NOTADB), SpoolDamaged),
    (error(sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY), SpoolDamaged),
    (error(sqlite3.SQLITE_TOOBIG), SpoolDamaged),
    (error(None), SpoolDamaged),
    (MemoryError(), SpoolFull),
    (OSError(28, "No space left on device"), SpoolFull),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), SpoolDamaged),
    (OverflowError("x"), SpoolDamaged),
    (AttributeError("x"), SpoolDamaged),
    (IndexError("x"), SpoolDamaged),
]


@pytest.mark.parametrize(("raised", "meant"), MEANINGS)
def test_an_error_says_whether_to_try_again_or_to_replace_the_file(raised: Exception, meant: type[Exception]) -> None:
    with pytest.raises(meant), translated():
        raise raised


def test_a_bug_of_ours_is_called_neither(directory: Path) -> None:
    with pytest.raises(RuntimeError), translated():
        raise RuntimeError("x")


def test_the_quarantine_never_takes_the_spool(tmp_path: Path) -> None:
    assert SpoolOptions(max_bytes=16 << 20).quarantine_bound == 2 << 20
    assert SpoolOptions().quarantine_bound == 16 << 20
