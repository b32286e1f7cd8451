"""Looking into a spool: what is seen is what is there, what is damaged is named, and nothing is changed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.batch import Logs, Origin
from agent.spool import exporting, inspection
from agent.spool.inspection import SpoolUnreadable, opened
from agent.spool.listing import batches, listing
from agent.spool.schema import PAGE_BYTES
from agent.spool.verification import Report, verify
from tests.spool_contents import FILE, LOKI, broken, flip, hold, logs, numbered, passed, refuse, spool, take


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Loki has passed batch 1 and waits for 2 and 3; the file lane waits for 2, 3 and has refused 1."""
    with spool(tmp_path / "spool", (LOKI, FILE)) as store:
        refuse(store, FILE, logs(numbered(3, "bad")))
        passed(store, LOKI, 1)
        take(store, logs(numbered(5)), logs(numbered(7), source="file.web", origin=Origin("/var/log/web.log", 0, 42)))
        hold(store, "file.web", 2)
    return tmp_path / "spool"


def verified(directory: Path, *, alone: bool = True) -> Report:
    with opened(directory) as connection:
        return verify(connection, alone=alone)


# Opening


def test_nothing_can_be_written(directory: Path) -> None:
    with pytest.raises(SpoolUnreadable, match="readonly"), opened(directory) as connection:
        connection.execute("DELETE FROM batch")


def test_a_reader_sees_one_moment_while_the_agent_commits(directory: Path) -> None:
    with spool(directory, (LOKI, FILE)) as store, opened(directory) as connection:
        with inspection.one_moment(connection):
            before = connection.execute("SELECT count(*) FROM batch").fetchone()
            take(store, logs(numbered(1)))
            assert connection.execute("SELECT count(*) FROM batch").fetchone() == before
        assert connection.execute("SELECT count(*) FROM batch").fetchone() == (before[0] + 1,)


def test_a_spool_that_somebody_locks_for_good_says_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "BUSY_MILLISECONDS", 1)
    locking = sqlite3.connect(directory / "spool.db", isolation_level=None)
    locking.execute("PRAGMA locking_mode = EXCLUSIVE")
    locking.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(SpoolUnreadable, match="has had it locked for"), opened(directory):
            pass
    finally:
        locking.close()


# Listing


def test_the_listing_shows_what_waits_what_is_held_and_what_was_refused(directory: Path) -> None:
    with spool(directory, (LOKI,)), opened(directory) as connection:
        shown = listing(connection, directory)
    loki, file = shown["lanes"]
    assert (loki["name"], loki["cursor"], loki["waiting_records"], loki["waiting_batches"]) == (LOKI, 1, 12, 2)
    assert (loki["held_records"], loki["orphaned_ns"]) == (2, None)
    assert file["orphaned_ns"] is not None
    assert [(row["source"], row["batches"], row["records"]) for row in shown["sources"]] == [
        ("file.app", 1, 5),
        ("file.web", 1, 7),
    ]
    (refused,) = shown["quarantine"]
    assert (refused["lane"], refused["reason"], refused["records"], refused["detail"]) == (
        FILE, "line_too_long", 3, "too long",
    )  # fmt: skip
    assert shown["bytes"] > shown["log_bytes"] > 0


def test_the_listing_finds_what_was_set_aside_and_the_reserve(directory: Path) -> None:
    shutil.copytree(directory, directory.with_name("spool.damaged-1700000000"))
    (directory.parent / "reserve").write_bytes(b"x" * 100)
    with opened(directory) as connection:
        shown = listing(connection, directory)
    assert shown["reserve_bytes"] == 100
    (aside,) = shown["damaged_directories"]
    assert aside["path"].endswith("spool.damaged-1700000000")
    assert aside["bytes"] >= (directory / "spool.db").stat().st_size


def test_batches_are_listed_page_by_page_for_one_lane_or_all(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(directory) as connection:
        rows = batches(connection, None, 0, 10)
        assert [(row["id"], row["records"], row["waited_for_by"], row["sealed"]) for row in rows] == [
            (2, 5, [LOKI, FILE], True),
            (3, 7, [LOKI, FILE], True),
        ]
        assert rows[1]["origin"] == ["/var/log/web.log", 0, 42]
        assert [row["id"] for row in batches(connection, None, 0, 1)] == [2]
        assert [row["id"] for row in batches(connection, LOKI, 2, 10)] == [3]
        assert batches(connection, "other/logs", 0, 10) == []
        monkeypatch.setattr("agent.spool.listing.PAGE_ROWS", 1)
        assert [row["id"] for row in batches(connection, None, 0, 10)] == [2, 3]


# Exporting


def test_what_waits_is_exported_with_who_waits_for_it(directory: Path) -> None:
    with opened(directory) as connection:
        found = list(exporting.waiting(connection, None, 0))
        assert [(out.id, out.lanes) for out in found] == [(2, (LOKI, FILE)), (3, (LOKI, FILE))]
        assert isinstance(found[0].batch, Logs)
        assert found[0].batch.records() == numbered(5)
        assert [out.id for out in exporting.waiting(connection, LOKI, 2)] == [3]
        assert [out.id for out in exporting.waiting(connection, "other/logs", 0)] == []


def test_what_was_refused_is_exported_with_the_reason(directory: Path) -> None:
    with opened(directory) as connection:
        (out,) = exporting.quarantined(connection, None, 0)
        assert (out.lanes, out.reason, out.detail) == ((FILE,), "line_too_long", "too long")
        assert out.batch is not None
        assert out.batch.count == 3
        assert list(exporting.quarantined(connection, LOKI, 0)) == []
        assert list(exporting.quarantined(connection, None, out.id)) == []


def test_an_export_is_read_in_steps(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "STEP_ROWS", 1)
    with opened(directory) as connection:
        reading = exporting.waiting(connection, None, 0)
        assert next(reading).id == 2
        assert not connection.in_transaction
        assert [out.id for out in reading] == [3]


def test_a_batch_without_its_row_is_exported_all_the_same(directory: Path) -> None:
    with broken(directory) as connection:
        connection.execute("DELETE FROM batch WHERE id = 2")
        connection.execute("UPDATE payload SET body = x'0102' WHERE id = 3")
    with opened(directory) as connection:
        first, second = exporting.waiting(connection, None, 0)
    assert (first.id, first.lanes) == (2, (LOKI, FILE))
    assert (second.id, second.batch) == (3, None)
    assert "shorter than its prefix" in second.fault


def test_without_trustworthy_small_tables_everything_is_exported(directory: Path) -> None:
    with broken(directory) as connection:
        connection.execute("UPDATE lane SET cursor = 1000")
    with opened(directory) as connection:
        assert [(out.id, out.lanes) for out in exporting.waiting(connection, None, 0)] == [(2, ()), (3, ())]


# Checking


def test_a_sound_spool_is_read_back_whole(directory: Path) -> None:
    for alone in (True, False):
        report = verified(directory, alone=alone)
        assert report.sound
        assert (report.batches, report.quarantined, report.findings) == (2, 1, [])
        assert report.payload_bytes > 0


DAMAGES = {
    "a payload is gone": ("DELETE FROM payload WHERE id = 2", "batch 2 (5 records of file.app, waited for by"),
    "a payload is another's": (
        "UPDATE payload SET body = (SELECT body FROM payload WHERE id = 3) WHERE id = 2",
        "batch 2 (5 records of file.app, waited for by loki/logs, file/logs): payload does not match its checksum",
    ),
    "a payload is cut": ("UPDATE payload SET body = substr(body, 1, 40) WHERE id = 3", "does not match its checksum"),
    "a row is gone": ("DELETE FROM batch WHERE id = 2", "batch 2: there is a payload and no row"),
    "a row was changed": ("UPDATE batch SET records = 6 WHERE id = 2", "batch 2 does not match its seal"),
    "a cursor was changed": ("UPDATE lane SET cursor = 3", "small tables: a row of lane does not match its seal"),
    "a refusal is damaged": ("UPDATE quarantine SET body = 'x'", "quarantined batch 1"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_found_and_named(directory: Path, name: str) -> None:
    statement, said = DAMAGES[name]
    with broken(directory) as connection:
        connection.execute(statement)
    report = verified(directory)
    assert not report.sound
    assert any(said in finding for finding in report.findings), report.findings


def test_a_damaged_batch_says_where_it_can_be_read_again(directory: Path) -> None:
    with broken(directory) as connection:
        connection.execute("UPDATE payload SET body = x'00' WHERE id = 3")
    report = verified(directory)
    assert "can be read again from /var/log/web.log while that exists" in report.findings[0]
    assert report.damaged_records == 7


def test_a_batch_that_lies_in_its_file_only_is_no_damage(directory: Path) -> None:
    with broken(directory) as connection:
        connection.execute("DELETE FROM payload WHERE id = 3")
    report = verified(directory)
    assert report.sound
    assert report.to_read_again == 1


def test_damage_that_every_lane_has_passed_does_no_harm(tmp_path: Path) -> None:
    with spool(tmp_path / "spool", (LOKI, FILE)) as store:
        take(store, logs(numbered(5)))
        take(store, logs(numbered(5)))
        passed(store, LOKI, 1)
        lane = next(each for each in store.lanes.values() if each.name == FILE)
        store.skips.add(1)  # not swept, as a row that cannot be deleted is not
        passed(store, FILE, 1)
        assert store.lanes[lane.id].cursor == 1
    with broken(tmp_path / "spool") as connection:
        connection.execute("UPDATE payload SET body = x'00' WHERE id = 1")
    report = verified(tmp_path / "spool")
    assert report.sound
    assert report.passed_damaged == 1


def large(directory: Path) -> None:
    """Enough batches for the payload table to have interior pages, and overflow pages besides."""
    with spool(directory, (LOKI,)) as store:
        for number in range(130):
            take(store, logs([bytes([65 + number % 26]) * 3000, b"%d" % number * 2000]))
        take(store, logs([hex(number).encode() * 7 for number in range(20_000)]))


def pages(path: Path) -> Iterator[int]:
    """Offsets of all pages but the first, which holds the roots of all tables."""
    yield from range(PAGE_BYTES, path.stat().st_size, PAGE_BYTES)


def test_whichever_page_is_damaged_it_is_reported_or_harmless_and_never_a_traceback(tmp_path: Path) -> None:
    large(tmp_path / "spool")
    whole = tmp_path / "spool" / "spool.db"
    copy = tmp_path / "copy" / "spool.db"
    copy.parent.mkdir()
    found = 0
    for offset in pages(whole):
        for at in (0, 5, PAGE_BYTES // 2):
            shutil.copyfile(whole, copy)
            flip(copy, offset + at, 0xFF)
            try:
                report = verified(copy.parent)
            except SpoolUnreadable:
                found += 1
                continue
            found += not report.sound
            with opened(copy.parent) as connection:
                for out in exporting.waiting(connection, None, 0):
                    assert out.batch is None or out.batch.count
    assert found > len(list(pages(whole)))


def test_pages_are_read_in_short_transactions_and_progress_is_told(tmp_path: Path) -> None:
    large(tmp_path / "spool")
    told: list[tuple[int, int]] = []
    with opened(tmp_path / "spool") as connection:
        report = verify(connection, alone=True, progress=lambda reached, last: told.append((reached, last)))
    assert report.sound
    assert report.batches == 131
    assert told == [(64, 131), (128, 131), (131, 131)]
