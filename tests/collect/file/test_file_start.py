"""This file shows where reading starts: at the very first start, after a restart, in files that appear later."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from msgspec.structs import replace

from agent.collect.file.cursor import Cursor, decode
from agent.collect.file.identity import NOTHING, Fingerprint, inode_of_key, key_at
from tests.collect.conftest import Reader


def test_a_file_that_exists_at_the_very_first_start_is_read_from_its_end(reader: Reader) -> None:
    reader.write("a.log", b"old\n")
    reader.start(start_at="end")
    assert reader.read() == []
    reader.write("a.log", b"new\n")
    assert reader.read() == [b"new"]


def test_the_end_is_committed_though_no_line_came(reader: Reader) -> None:
    reader.write("a.log", b"old\n")
    reader.start(start_at="end")
    batch = reader.step()
    assert batch is not None
    assert (batch.count, batch.block) == (0, b"")
    assert len(batch.positions) == 2
    reader.stop()
    reader.write("a.log", b"new\n")
    reader.start(start_at="end")
    assert reader.read() == [b"new"]


def test_a_line_half_written_at_the_first_start_is_read_whole(reader: Reader) -> None:
    reader.write("a.log", b"old\nhal")
    reader.start(start_at="end")
    assert reader.read() == []
    reader.write("a.log", b"f\n")
    assert reader.read() == [b"half"]


def test_a_file_that_appears_later_is_read_from_its_beginning(reader: Reader) -> None:
    reader.start(start_at="end")
    assert reader.read() == []
    reader.write("a.log", b"one\n")
    assert reader.read() == [b"one"]


def test_a_file_that_appears_while_the_agent_is_down_is_read_from_its_beginning(reader: Reader) -> None:
    reader.start(start_at="end")
    assert reader.read() == []
    reader.stop()
    reader.write("a.log", b"one\n")
    reader.start(start_at="end")
    assert reader.read() == [b"one"]


def test_a_restart_goes_on_where_it_was_left(reader: Reader) -> None:
    reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    reader.start()
    assert reader.read() == []
    reader.write("a.log", b"two\n")
    reader.start()
    assert reader.read() == [b"two"]


def test_a_file_that_returns_goes_on_where_it_was_left(reader: Reader) -> None:
    path = reader.write("in/a.log", b"one\n")
    reader.start(paths=(f"{reader.logs}/in/*.log",))
    assert reader.read() == [b"one"]
    reader.stop()
    os.rename(path.parent, reader.root / "away")
    reader.start(paths=(f"{reader.logs}/in/*.log",))
    assert reader.read(100) == []
    os.rename(reader.root / "away", path.parent)
    reader.write("in/a.log", b"two\n")
    assert reader.read() == [b"two"]


def test_the_position_of_a_file_that_is_gone_is_forgotten_in_time(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    reader.start(forget_after_seconds=100.0)
    reader.read()
    reader.stop()
    os.unlink(path)
    reader.start(forget_after_seconds=100.0)
    reader.read(50)
    assert len(reader.committed) == 2
    reader.start(forget_after_seconds=100.0)
    reader.read(60)
    assert list(reader.committed) == ["started"]


def test_a_damaged_position_causes_a_repeat_and_no_gap(reader: Reader) -> None:
    reader.write("a.log", b"one\n")
    reader.start()
    reader.read()
    reader.committed = dict.fromkeys(reader.committed, "{")
    reader.start()
    assert reader.read() == [b"one"]


def test_another_device_number_after_a_boot_is_the_same_file(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    if key_at(str(path), (path.stat().st_dev, path.stat().st_ino)).endswith(":0"):
        pytest.skip("this file system tells no birth time")
    reader.start()
    reader.read()
    reader.stop()
    reader.committed = {"fff" + key if ":" in key else key: value for key, value in reader.committed.items()}
    reader.write("a.log", b"two\n")
    reader.start()
    assert reader.read() == [b"two"]
    assert not [key for key in reader.committed if key.startswith("fff")]


def test_one_file_under_many_names_is_read_once(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    os.link(path, reader.logs / "hard.log")
    (reader.logs / "soft.log").symlink_to(path)
    reader.start(paths=(f"{reader.logs}/*.log", f"{reader.logs}/**"))
    assert reader.read() == [b"one"]
    os.unlink(path)
    reader.write("hard.log", b"two\n")
    assert reader.read() == [b"two"]


def test_equal_files_are_told_apart(reader: Reader) -> None:
    for name in ("a", "b", "c"):
        reader.write(f"{name}.log", b"same\n" * 1000)
    reader.start()
    assert reader.read() == [b"same"] * 3000
    shutil.copyfile(reader.logs / "a.log", reader.logs / "d.log")
    assert reader.read(20) == [b"same"] * 1000


def test_a_file_that_was_found_and_never_read_is_missed_when_it_is_gone(reader: Reader) -> None:
    reader.write("a.log", b"one\n")
    path = reader.write("b.log", b"never read\n")
    reader.start()
    assert reader.step() is not None
    reader.stop()
    os.unlink(path)
    reader.start()
    reader.read()
    assert reader.lost("vanished") == len(b"never read\n")


def test_a_position_is_json_that_survives_any_name() -> None:
    cursor = Cursor("/var/log/\udcff\n.log", 10, 20, 30, Fingerprint(4, "ab"), Fingerprint(10, "cd"), True, 5)
    assert decode(cursor.encode()) == cursor
    assert cursor.encode().isascii()
    newer = json.dumps(json.loads(cursor.encode()) | {"from_a_newer_version": 1})
    assert decode(newer) == cursor


@pytest.mark.parametrize("value", ["", "null", "[]", "{}", '{"path":"/a"}', '{"path":"/a","offset":"x"}'])
def test_what_is_no_position_is_none(value: str) -> None:
    assert decode(value) is None


def test_a_position_whose_fingerprint_reaches_before_the_file_is_none() -> None:
    assert decode(replace(Cursor("/a", 1), before=Fingerprint(2, "ab")).encode()) is None


def test_a_key_that_is_none_has_no_inode() -> None:
    assert inode_of_key("started") is None
    assert inode_of_key("a:b:ff") == (10, 11)
    assert inode_of_key("a:b:zz") is None
    assert inode_of_key("x:y:0") is None


def test_everything_begins_with_nothing() -> None:
    assert NOTHING.holds(b"")
    assert Fingerprint.of(b"") is NOTHING
    assert Fingerprint.of(b"ab").holds(b"abc")
    assert not Fingerprint.of(b"ab").holds(b"a")
    assert not Fingerprint.of(b"ab").holds(b"ba")
