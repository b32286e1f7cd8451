"""This file shows that files nobody has written to for long are left alone when they are first found."""

from __future__ import annotations

import logging
import os

import pytest

from tests.collect.conftest import Reader

DAY_SECONDS = 86400


def write(reader: Reader, name: str, data: bytes, age_seconds: float) -> None:
    """Adds to a file, last modified so long ago by the clock of the test."""
    path = reader.write(name, data)
    at_ns = reader.clock.wall_ns() - round(age_seconds * 1e9)
    os.utime(path, ns=(at_ns, at_ns))


def test_an_old_file_is_left_alone_and_what_is_added_to_it_is_read(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(reader, "old.log", b"old\nhal", 2 * DAY_SECONDS)
    write(reader, "older.log", b"older\n", 3 * DAY_SECONDS)
    write(reader, "young.log", b"young\n", 0.5 * DAY_SECONDS)
    reader.start(max_age_seconds=DAY_SECONDS)
    assert reader.read(5) == [b"young"]
    assert [record.getMessage() for record in caplog.records] == [
        "2 files not modified for max_age_seconds = 86400 are left alone; what is added to them is read"
    ]
    assert reader.source is not None
    assert (reader.source.status()["files"], reader.source.status()["files_left_alone"]) == (1, 2)
    write(reader, "old.log", b"f\nnew\n", 0)
    assert reader.read(2) == [b"half", b"new"]
    assert reader.source.status()["files_left_alone"] == 1


def test_a_file_that_grows_old_while_it_is_followed_is_followed_on(reader: Reader) -> None:
    write(reader, "a.log", b"one\n", 0)
    reader.start(max_age_seconds=100.0)
    assert reader.read(300) == [b"one"]
    reader.start(max_age_seconds=100.0)
    assert reader.read() == []
    reader.stop()
    write(reader, "a.log", b"two\n", 500)
    reader.start(max_age_seconds=100.0)
    assert reader.read() == [b"two"]


def test_another_file_in_the_place_of_an_old_one_is_read_from_its_beginning(reader: Reader) -> None:
    write(reader, "a.log", b"old\n", 500)
    reader.start(max_age_seconds=100.0)
    assert reader.read() == []
    (reader.logs / "a.log").unlink()
    write(reader, "a.log", b"new, and longer\n", 0)
    assert reader.read() == [b"new, and longer"]


def test_an_old_file_that_was_cut_short_is_read_from_its_beginning(reader: Reader) -> None:
    write(reader, "a.log", b"old and long\n", 500)
    reader.start(max_age_seconds=100.0)
    assert reader.read() == []
    os.truncate(reader.logs / "a.log", 0)
    write(reader, "a.log", b"new\n", 0)
    assert reader.read() == [b"new"]
