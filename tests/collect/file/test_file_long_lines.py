"""This file shows that a line that is too long is cut, marked and counted, and stops nothing."""

from __future__ import annotations

import os

import pytest

from agent.batch import Logs
from agent.collect.file import tail as file_tail
from agent.collect.file.identity import inode_of, key_of_open
from agent.collect.file.tail import Tail
from tests.collect.conftest import Reader

CUT = "telemetry_agent_lines_cut_total"


def records(reader: Reader) -> list[bytes]:
    return [line for batch in reader.batches for line in batch.records()]


def cut_batches(reader: Reader) -> list[Logs]:
    return [batch for batch in reader.batches if batch.metadata]


@pytest.mark.parametrize("block_bytes", [4096, 65536, 1 << 20])
def test_a_line_that_is_too_long_is_cut_and_marked(reader: Reader, block_bytes: int) -> None:
    reader.write("a.log", b"before\n" + b"x" * 5000 + b"\nafter\n")
    reader.start(max_line_bytes=1024, block_bytes=block_bytes)
    assert reader.read() == [b"before", b"x" * 1024, b"after"]
    (cut,) = cut_batches(reader)
    assert cut.metadata == {0: (("cut_bytes", "3976"),)}
    assert reader.meter.value(CUT, ("file",)) == 1
    assert reader.lost("cut") == 3976


@pytest.mark.parametrize(("length", "kept"), [(1023, 1023), (1024, 1024), (1025, 1024)])
def test_the_bound_itself_is_not_too_long(reader: Reader, length: int, kept: int) -> None:
    reader.write("a.log", b"x" * length + b"\n")
    reader.start(max_line_bytes=1024)
    assert reader.read() == [b"x" * kept]
    assert reader.lost("cut") == length - kept


def test_a_line_longer_than_a_block_is_read_whole(reader: Reader) -> None:
    line = b"y" * 20_000
    reader.write("a.log", b"a\n" + line + b"\nb\n")
    reader.start(block_bytes=4096)
    assert reader.read() == [b"a", line, b"b"]


def test_a_long_line_that_grows_is_read_when_it_ends(reader: Reader) -> None:
    reader.start(block_bytes=4096)
    for _ in range(20):
        reader.write("a.log", b"z" * 1000)
        assert reader.read() == []
    reader.write("a.log", b"\n")
    assert reader.read() == [b"z" * 20_000]


def test_reading_a_growing_line_is_not_quadratic(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = 0
    pread = os.pread

    def counting(fd: int, length: int, offset: int) -> bytes:
        nonlocal read_bytes
        data = pread(fd, length, offset)
        read_bytes += len(data)
        return data

    path = reader.write("a.log", b"")
    tail = Tail(inode_of(path.stat()), "", str(path), str(path))
    tail.fd = os.open(path, os.O_RDONLY)
    tail.key = key_of_open(tail.fd)
    monkeypatch.setattr(file_tail.os, "pread", counting)
    for _ in range(200):
        reader.write("a.log", b"z" * 1000)
        tail.look(path.stat(), 0.0)
        assert tail.read(4096, 1 << 20) is None
    reader.write("a.log", b"\n")
    tail.look(path.stat(), 0.0)
    piece = tail.read(4096, 1 << 20)
    os.close(tail.fd)
    assert piece is not None
    assert piece.count == 1
    assert read_bytes < 3 * 200_000


def test_a_restart_inside_a_long_line_goes_on_skipping(reader: Reader) -> None:
    reader.write("a.log", b"x" * 5000)
    reader.start(max_line_bytes=1024)
    assert reader.read() == [b"x" * 1024]
    reader.write("a.log", b"x" * 5000)
    reader.start(max_line_bytes=1024)
    assert reader.read() == []
    reader.write("a.log", b"x\nafter\n")
    reader.start(max_line_bytes=1024)
    assert reader.read() == [b"after"]
    assert reader.lost("cut") == 10_001 - 1024


def test_a_line_of_many_megabytes_gives_the_others_their_turn(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_tail, "SKIP_BYTES", 64 << 10)
    monkeypatch.setattr(file_tail, "_SKIP_CHUNK_BYTES", 16 << 10)
    reader.write("a.log", b"x" * (1 << 20) + b"\nend\n")
    reader.write("b.log", b"other\n")
    reader.start(max_line_bytes=1024)
    reader.read()
    assert records(reader) == [b"x" * 1024, b"other", b"end"]
    assert reader.lost("cut") == (1 << 20) - 1024


def test_a_cut_line_is_read_again_as_it_was_handed_on(reader: Reader) -> None:
    reader.write("a.log", b"x" * 5000 + b"\nafter\n")
    reader.start(max_line_bytes=1024)
    reader.read()
    (cut,) = cut_batches(reader)
    assert cut.origin is not None
    assert (cut.origin.start, cut.origin.end) == (0, 1024)
