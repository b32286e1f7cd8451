"""This file shows that no rotation loses or repeats a line."""

from __future__ import annotations

import os
import shutil

from agent.collect.file.identity import AT_FDCWD, born_at_ns
from tests.collect.conftest import Reader


def test_lines_are_read_in_order_and_only_once(reader: Reader) -> None:
    reader.write("a.log", b"one\ntwo\n")
    reader.start()
    assert reader.read() == [b"one", b"two"]
    reader.write("a.log", b"three\n")
    assert reader.read() == [b"three"]
    assert reader.read() == []


def test_an_unfinished_line_waits_for_its_end(reader: Reader) -> None:
    reader.write("a.log", b"one\ntw")
    reader.start()
    assert reader.read(30) == [b"one"]
    reader.write("a.log", b"o\n")
    assert reader.read() == [b"two"]


def test_a_rotated_file_is_read_to_its_end_before_the_new_one(reader: Reader) -> None:
    reader.write("a.log", b"1\n")
    reader.start(block_bytes=4096)
    assert reader.read() == [b"1"]
    lines = [b"%05d" % i for i in range(5000)]
    path = reader.write("a.log", b"\n".join(lines) + b"\n")
    os.rename(path, f"{path}.1")
    reader.write("a.log", b"new\n")
    assert reader.read() == [*lines, b"new"]


def test_what_is_written_to_a_rotated_file_later_is_read(reader: Reader) -> None:
    path = reader.write("a.log", b"1\n")
    reader.start()
    reader.read()
    os.rename(path, f"{path}.1")
    reader.write("a.log", b"new\n")
    assert reader.read(60) == [b"new"]
    reader.write("a.log.1", b"late\n")
    assert reader.read() == [b"late"]


def test_a_rotated_file_moved_to_another_watched_directory_is_found(reader: Reader) -> None:
    path = reader.write("a/x.log", b"1\n")
    reader.write("b/y.log", b"")
    reader.start(paths=(f"{reader.logs}/*/*.log",))
    assert reader.read(60) == [b"1"]
    reader.write("a/x.log", b"2\n")
    reader.stop()
    os.rename(path, reader.logs / "b" / "x.old")
    reader.start(paths=(f"{reader.logs}/*/*.log",))
    assert reader.read() == [b"2"]


def test_the_unfinished_last_line_of_a_rotated_file_is_delivered_when_it_rests(reader: Reader) -> None:
    path = reader.write("a.log", b"one\nhalf")
    reader.start(rotate_wait_seconds=5.0)
    assert reader.read(20) == [b"one"]
    os.rename(path, f"{path}.1")
    assert reader.read(4) == []
    assert reader.read(3) == [b"half"]
    assert reader.read(60) == []


def test_a_deleted_file_is_read_to_its_end(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    reader.write("a.log", b"two\nhalf")
    os.unlink(path)
    assert reader.read(20) == [b"two", b"half"]
    assert reader.lost("vanished") == 0
    assert [key for key in reader.committed if key != "started"] == []


def test_a_deleted_file_is_kept_while_somebody_writes_to_it(reader: Reader) -> None:
    path = reader.logs / "a.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"one\n")
        reader.start()
        assert reader.read() == [b"one"]
        os.unlink(path)
        assert reader.read(60) == []
        writer.write(b"two\n")
        assert reader.read() == [b"two"]
    assert reader.read(10) == []
    assert reader.source is not None
    assert reader.source.status()["files_open"] == 0


def test_bytes_of_a_file_that_vanished_unread_are_counted(reader: Reader) -> None:
    path = reader.write("a.log", b"one\nhalf a line")
    reader.start(max_open_files=2)
    assert reader.read() == [b"one"]
    reader.write("b.log", b"two\n")
    reader.write("c.log", b"three\n")
    assert sorted(reader.read()) == [b"three", b"two"]  # their turns closed a.log, the one used longest ago
    os.unlink(path)
    assert reader.read(3) == []
    assert reader.lost("vanished") == len(b"half a line")


def test_a_file_deleted_while_the_agent_was_down_is_counted_once(reader: Reader) -> None:
    path = reader.write("a.log", b"one\nhalf a line")
    reader.start()
    assert reader.read() == [b"one"]
    reader.stop()
    os.unlink(path)
    reader.start()
    assert reader.read() == []
    assert reader.lost("vanished") == len(b"half a line")
    reader.start()
    reader.read()
    assert reader.lost("vanished") == len(b"half a line")


def test_a_file_renamed_out_of_the_pattern_while_the_agent_was_down_is_read_to_its_end(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    reader.stop()
    reader.write("a.log", b"two\n")
    os.rename(path, f"{path}.1")
    os.rename(f"{path}.1", f"{path}.2")
    reader.write("a.log", b"three\n")
    reader.start()
    lines = reader.read()
    assert sorted(lines) == [b"three", b"two"]
    named = {dict(batch.labels)["filename"] for batch in reader.batches if batch.count}
    assert named == {str(path)}


def test_a_file_that_matches_under_its_rotated_name_is_not_read_again(reader: Reader) -> None:
    path = reader.write("a.log", b"one\ntwo")
    reader.start(paths=(f"{reader.logs}/a.log*",))
    assert reader.read() == [b"one"]
    os.rename(path, f"{path}.1")
    reader.write("a.log", b"three\n")
    assert sorted(reader.read(30)) == [b"three", b"two"]
    reader.start(paths=(f"{reader.logs}/a.log*",))
    assert reader.read(30) == []


def test_truncation_starts_again_from_the_beginning(reader: Reader) -> None:
    path = reader.write("a.log", b"one\ntwo\n")
    reader.start()
    assert reader.read() == [b"one", b"two"]
    os.truncate(path, 0)
    reader.write("a.log", b"3\n")
    assert reader.read() == [b"3"]


def test_a_file_rewritten_past_the_old_offset_is_read_from_its_beginning(reader: Reader) -> None:
    reader.write("a.log", b"one\ntwo\n")
    reader.start()
    reader.read()
    reader.write("a.log", b"eins\nzwei\ndrei\nvier\n", "r+b")
    assert reader.read() == [b"eins", b"zwei", b"drei", b"vier"]


def test_a_file_rewritten_with_the_same_first_kilobyte_is_read_from_its_beginning(reader: Reader) -> None:
    banner = b"#" * 2000 + b"\n"
    reader.write("a.log", banner + b"one\n")
    reader.start()
    assert reader.read() == [banner[:-1], b"one"]
    reader.write("a.log", banner + b"two\nthree\n", "r+b")
    assert reader.read() == [banner[:-1], b"two", b"three"]


def test_bytes_truncated_away_unread_are_counted(reader: Reader) -> None:
    path = reader.write("a.log", b"one\nhalf")
    reader.start()
    assert reader.read() == [b"one"]
    os.truncate(path, 0)
    assert reader.read() == []
    assert reader.lost("truncated") == len(b"half")


def copytruncate(path: str, copy: str) -> None:
    shutil.copyfile(path, copy)
    os.truncate(path, 0)


def test_copytruncate_reads_the_unread_rest_from_the_copy(reader: Reader) -> None:
    path = str(reader.write("a.log", b"one\n"))
    reader.start()
    assert reader.read() == [b"one"]
    reader.write("a.log", b"two\nthree\n")
    copytruncate(path, f"{path}.1")
    reader.write("a.log", b"4\n")
    assert reader.read() == [b"two", b"three", b"4"]
    assert reader.lost("truncated") == 0


def test_a_copy_that_matches_the_pattern_is_not_read_twice(reader: Reader) -> None:
    path = str(reader.write("a.log", b"one\n"))
    reader.start(paths=(f"{reader.logs}/a.log*",))
    assert reader.read() == [b"one"]
    reader.write("a.log", b"two\n")
    shutil.copyfile(path, f"{path}.1")
    assert reader.read() == [b"two"]
    os.truncate(path, 0)
    reader.write("a.log", b"3\n")
    assert reader.read(20) == [b"3"]
    reader.start(paths=(f"{reader.logs}/a.log*",))
    assert reader.read(20) == []


def test_copytruncate_while_the_agent_was_down(reader: Reader) -> None:
    path = str(reader.write("a.log", b"one\n"))
    reader.start()
    assert reader.read() == [b"one"]
    reader.stop()
    reader.write("a.log", b"two\n")
    copytruncate(path, f"{path}.1")
    reader.write("a.log", b"three, longer than before\n")
    reader.start()
    assert reader.read() == [b"two", b"three, longer than before"]


def test_a_plain_copy_is_read_after_a_while(reader: Reader) -> None:
    path = str(reader.write("a.log", b"one\n"))
    reader.start()
    reader.read()
    shutil.copyfile(path, str(reader.logs / "b.log"))
    assert reader.read(3) == []
    assert reader.read(5) == [b"one"]


def test_a_new_file_on_a_reused_inode_is_read_from_its_beginning(reader: Reader) -> None:
    path = reader.write("a.log", b"one\ntwo\n")
    number = os.stat(path).st_ino
    reader.start()
    reader.read()
    reader.stop()
    os.unlink(path)
    for attempt in range(200):
        candidate = reader.write(f"{attempt}.try", b"other one\nother two\n")
        if os.stat(candidate).st_ino == number:
            os.rename(candidate, path)
            break
    else:
        reader.write("a.log", b"other one\nother two\n")
    reader.start()
    assert reader.read() == [b"other one", b"other two"]


def test_directories_come_and_go(reader: Reader) -> None:
    reader.start(paths=(f"{reader.logs}/*/*.log",))
    assert reader.read() == []
    reader.write("x/a.log", b"one\n")
    assert reader.read() == [b"one"]
    shutil.rmtree(reader.logs / "x")
    assert reader.read(20) == []
    reader.write("x/a.log", b"two\n")
    assert reader.read() == [b"two"]
    os.rename(reader.logs / "x", reader.logs / "y")
    reader.write("y/a.log", b"three\n")
    assert reader.read(20) == [b"three"]


def test_a_file_replaced_by_a_rename_over_it_is_read_to_its_end(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    reader.start()
    reader.read()
    reader.write("a.log", b"two\n")
    os.rename(reader.write("next", b"three\n"), path)
    assert reader.read() == [b"two", b"three"]


def test_a_file_made_and_rotated_away_while_the_agent_was_down_is_read(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    reader.stop()
    reader.write("a.log", b"two\n")
    for name, line in ((".2", b"three\n"), (".1", b"four\n")):
        os.rename(path, f"{path}{name}")
        reader.write("a.log", line)
    reader.write("a.log.conf", b"not a log\n")
    reader.write("a.log.3.gz", b"compressed\n")
    reader.start(exclude=())
    assert reader.read() == [b"two", b"three", b"four"]
    assert {dict(batch.labels)["filename"] for batch in reader.batches if batch.count} == {str(path)}


def test_a_file_made_and_rotated_away_between_two_looks_is_read_in_order(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    os.rename(path, reader.logs / "a-20260101.log.1")
    reader.write("a.log", b"two\n")
    os.rename(path, f"{path}.1")
    reader.write("a.log", b"three\n")
    assert reader.read() == [b"two", b"three"]
    reader.start()
    assert reader.read() == []


def test_an_old_rotated_file_is_left_alone(reader: Reader) -> None:
    old = reader.write("a.log.1", b"before our time\n")
    born_ns = born_at_ns(AT_FDCWD, str(old))
    path = reader.write("a.log", b"one\n")
    while born_ns and born_at_ns(AT_FDCWD, str(path)) == born_ns:  # births are told in ticks of the kernel
        path.unlink()
        reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    os.rename(path, f"{path}.2")
    reader.write("a.log", b"two\n")
    reader.start()
    assert reader.read() == [b"two"]


def test_files_that_were_let_go_give_way_to_new_ones(reader: Reader) -> None:
    reader.start(max_files=3)
    for index in range(6):
        path = reader.write("a.log", b"%d\n" % index)
        assert reader.read(10) == [b"%d" % index]
        os.rename(path, f"{path}.{index}")
        assert reader.read(10) == []
    assert reader.lost("max_files") == 0
    reader.start(max_files=100)
    assert reader.read(10) == []


def test_what_a_copy_holds_of_a_file_truncated_before_it_was_read_is_not_missed(reader: Reader) -> None:
    reader.write("a.log", b"other\n")
    path = reader.write("b.log", b"one\n")
    reader.start()
    assert reader.step() is not None
    reader.stop()
    shutil.copyfile(path, f"{path}.1")
    os.truncate(path, 0)
    reader.start()
    assert reader.read(3) == [b"one"]
    reader.stop()
    os.unlink(path)
    reader.start()
    assert reader.read(10) == []
    assert reader.lost("vanished") == 0


def test_a_link_that_is_turned_to_another_file_is_followed_there(reader: Reader) -> None:
    """As Apache's rotatelogs does: the files have names of their own, and a link says which one is written to."""
    link = reader.logs / "current.log"
    reader.write("dated/1", b"one\n")
    link.symlink_to(reader.logs / "dated" / "1")
    reader.start()
    assert reader.read() == [b"one"]
    reader.write("dated/1", b"two\n")
    reader.write("dated/2", b"three\n")
    link.unlink()
    link.symlink_to(reader.logs / "dated" / "2")
    assert reader.read() == [b"two", b"three"]
    reader.write("dated/1", b"late\n")
    assert reader.read() == [b"late"]
    assert {dict(batch.labels)["filename"] for batch in reader.batches if batch.count} == {str(link)}


def test_what_was_unread_of_a_file_whose_inode_another_one_has_is_counted(reader: Reader) -> None:
    path = reader.write("a.log", b"one\nhalf")
    number = os.stat(path).st_ino
    reader.start()
    assert reader.read() == [b"one"]
    reader.stop()
    path.unlink()
    for attempt in range(200):
        if os.stat(reader.write(f"{attempt}.try", b"other\n")).st_ino == number:
            os.rename(reader.logs / f"{attempt}.try", path)
            break
    reader.start()
    assert reader.read() == ([b"other"] if path.exists() else [])
    assert reader.lost("vanished") == len(b"half")
