"""This file shows that lines become records of several lines, none of them torn, and that nothing waits for ever."""

from __future__ import annotations

import os
from typing import Any

import pytest

from agent.batch import Logs
from agent.collect.file import parse
from agent.collect.file.options import FileOptions
from tests.collect.conftest import Reader

TRACE = b"1 error\n  at one\n  at two\n"
DATED = {"multiline": {"start": "^[0-9]"}}


def started(reader: Reader, **options: Any) -> None:
    import msgspec

    values = {"paths": [f"{reader.logs}/*.log"], "start_at": "beginning"} | DATED | options
    read = msgspec.convert(values, FileOptions)
    reader.start(**{name: getattr(read, name) for name in values})


def records(batches: list[Logs]) -> list[bytes]:
    return [record for batch in batches for record in batch.records()]


def test_lines_of_one_record_are_joined(reader: Reader) -> None:
    reader.write("a.log", TRACE + b"2 info\n" + TRACE)
    started(reader)
    assert reader.read(3) == [TRACE[:-1], b"2 info", TRACE[:-1]]
    assert [batch.count for batch in reader.batches if batch.count] == [2, 1]


def test_a_record_that_may_go_on_stays_unread_until_it_rests(reader: Reader) -> None:
    reader.write("a.log", b"1 one\n2 two\n")
    started(reader, join_seconds=2.0)
    assert reader.read(0) == [b"1 one"]
    reader.write("a.log", b"  at more\n")
    assert reader.read(1) == []
    reader.write("a.log", b"  at last\n")
    assert reader.read(1) == []
    started(reader, join_seconds=2.0)
    assert reader.read(1) == []
    assert reader.read(2) == [b"2 two\n  at more\n  at last"]
    assert reader.read(5) == []


def test_the_next_record_ends_the_one_before_at_once(reader: Reader) -> None:
    reader.write("a.log", TRACE)
    started(reader, join_seconds=100.0)
    assert reader.read(0) == []
    reader.write("a.log", b"2 next\n")
    assert reader.read(1) == [TRACE[:-1]]


def test_an_unfinished_line_does_not_hold_the_record_before_it_for_ever(reader: Reader) -> None:
    reader.write("a.log", TRACE + b"2 hal")
    started(reader)
    assert reader.read(5) == [TRACE[:-1]]
    reader.write("a.log", b"f\n")
    assert reader.read(5) == [b"2 half"]


@pytest.mark.parametrize("block_bytes", [4096, 1 << 16])
@pytest.mark.parametrize("waited_seconds", [0, 100])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_no_record_is_torn_between_blocks(reader: Reader, block_bytes: int, waited_seconds: int, encoding: str) -> None:
    written = [b"%d error" % number + b"\n  at x" * (number % 1500) for number in range(0, 6000, 37)]
    text = b"\n".join(written) + b"\n"
    reader.write("a.log", text.decode().encode(encoding))
    started(reader, block_bytes=block_bytes, join_seconds=1.0, encoding=encoding)
    for _ in range(3):
        reader.step()
    reader.clock.move(waited_seconds)
    reader.read(3)
    assert records(reader.batches) == written


def test_a_record_beyond_the_bound_is_divided(reader: Reader) -> None:
    reader.write("a.log", b"1 error\n" + b"  at x\n" * 3000 + b"2 info\n")
    started(reader, max_record_bytes=4096, block_bytes=4096)
    lines = [line for record in reader.read(3) for line in record.split(b"\n")]
    assert lines == [b"1 error", *[b"  at x"] * 3000, b"2 info"]
    assert max(map(len, records(reader.batches))) <= 4096


def test_the_last_record_of_a_rotated_file_is_read_when_it_is_let_go(reader: Reader) -> None:
    path = reader.write("a.log", TRACE + b"  at the end")
    started(reader, join_seconds=600.0, rotate_wait_seconds=3.0)
    assert reader.read(10) == []
    os.rename(path, f"{path}.1")
    reader.write("a.log", b"2 new\n3 newer\n")
    assert reader.read(1) == []
    assert reader.read(5) == [TRACE + b"  at the end", b"2 new"]
    reader.write("a.log.1", b"\n4 late\n")
    assert reader.read(5) == [b"", b"4 late"]


def test_the_last_record_of_a_deleted_file_is_read(reader: Reader) -> None:
    path = reader.write("a.log", TRACE)
    started(reader, join_seconds=600.0, rotate_wait_seconds=3.0)
    assert reader.read(2) == []
    os.unlink(path)
    assert reader.read(10) == [TRACE[:-1]]
    assert reader.lost("vanished") == 0


def test_a_copytruncate_reads_the_record_that_waited_from_the_copy(reader: Reader) -> None:
    path = reader.write("a.log", b"1 one\n" + TRACE)
    started(reader, join_seconds=600.0, rotate_wait_seconds=3.0)
    assert reader.read(0) == [b"1 one"]
    (reader.logs / "a.log.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    reader.write("a.log", b"2 new\n3 newer\n")
    assert reader.read(10) == [TRACE[:-1], b"2 new"]
    assert reader.lost("truncated") == 0


def test_auto_says_what_it_decided_for_each_file(reader: Reader) -> None:
    line = b"2023-11-14T22:13:20.5Z stdout F "
    reader.write("a.log", b"".join(line + b"%d\n" % number for number in range(100)))
    reader.write("b.log", b"".join(b"no format of anybody %d\n" % number for number in range(100)))
    started(reader, parse="auto", multiline=None)
    reader.read(3)
    assert reader.source is not None
    decided = reader.source.status()["formats"]
    assert decided[f"{reader.logs}/a.log"] == "cri"
    assert decided[f"{reader.logs}/b.log"] in ("none", "undecided")
    (batch,) = [batch for batch in reader.batches if batch.count and batch.format == "cri"]
    assert batch.times_ns is not None
    assert batch.times_ns[0] // 10**9 == 1_700_000_000


def test_status_names_more_files_than_fit_a_screen_and_counts_them_all(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse, "MOST_SHOWN", 30)
    line = b"2023-11-14T22:13:20.5Z stdout F a line\n"
    for number in range(40):
        reader.write(f"{number:02}.log", line * 100)
    started(reader, parse="auto", multiline=None)
    reader.read(50)
    assert reader.source is not None
    status = reader.source.status()
    assert len(status["formats"]) == 30
    assert status["formats_files"] == {"cri": 40}


def test_plain_lines_load_nothing_of_the_formats(reader: Reader) -> None:
    reader.write("a.log", b"one\n")
    reader.start()
    assert reader.read() == [b"one"]
    assert reader.source is not None
    assert reader.source._parser is None
    assert [tail.stream for tail in reader.source._followed.tails.values()] == [None]


async def test_records_are_read_again_as_they_were_handed_on(reader: Reader) -> None:
    reader.write("a.log", TRACE + b"2 info\n" + TRACE)
    started(reader)
    reader.read(3)
    assert reader.source is not None
    batches = [batch for batch in reader.batches if batch.count]
    for batch in batches:
        assert batch.origin is not None
        made = reader.source._again(batch.origin)
        assert made is not None
        assert (made.block, made.count, made.separator, made.times_ns) == (
            batch.block,
            batch.count,
            batch.separator,
            batch.times_ns,
        )
