"""This file shows that text arrives as UTF-8 whatever it was written in, and that NUL bytes never make a line."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from agent.collect.file import tail as file_tail
from agent.collect.file.options import FileOptions
from tests.collect.conftest import Reader

REPLACED = "telemetry_agent_characters_replaced_total"
NUL_BYTES = "telemetry_agent_nul_bytes_total"


def replaced(reader: Reader) -> float:
    return reader.meter.value(REPLACED, ("file",))


def nul_bytes(reader: Reader) -> float:
    return reader.meter.value(NUL_BYTES, ("file",))


@pytest.mark.parametrize(
    ("named", "written", "mark"),
    [
        ("utf-8", "utf-8", ""),
        ("utf-8", "utf-8", "\ufeff"),
        ("utf-8", "utf-16-le", "\ufeff"),
        ("utf-8", "utf-16-be", "\ufeff"),
        ("latin-1", "utf-16-be", "\ufeff"),
        ("utf-16", "utf-16-le", "\ufeff"),
        ("utf-16", "utf-16-le", ""),
        ("utf-16-be", "utf-16-be", ""),
        ("utf-32-le", "utf-32-le", ""),
        ("latin-1", "latin-1", ""),
        ("cp1252", "cp1252", ""),
        ("cp500", "cp500", ""),
        ("shift_jis", "shift_jis", ""),
    ],
)
@pytest.mark.parametrize("block_bytes", [4096, 1 << 20])
def test_text_arrives_as_utf8(reader: Reader, named: str, written: str, mark: str, block_bytes: int) -> None:
    word = {"shift_jis": "日本"}.get(written, "ünïcödé")
    lines = [f"{index} {word}" for index in range(1500)]
    text = mark + "".join(line + "\n" for line in lines) + "half"
    reader.write("a.log", text.encode(written))
    reader.start(encoding=named, block_bytes=block_bytes)
    assert reader.read() == [line.encode() for line in lines]
    reader.start(encoding=named, block_bytes=block_bytes)
    reader.write("a.log", " and whole\n".encode(written))
    assert reader.read() == [b"half and whole"]
    assert replaced(reader) == 0
    assert nul_bytes(reader) == 0


def test_every_byte_at_a_time_makes_no_difference(reader: Reader) -> None:
    reader.start()
    for number in "\ufeffaü\n\u0a00\u0a0a\nb\n".encode("utf-16-le"):
        reader.write("a.log", bytes([number]))
        reader.read()
    assert [line for batch in reader.batches for line in batch.records()] == [
        "aü".encode(),
        "\u0a00\u0a0a".encode(),
        b"b",
    ]


def test_a_newline_that_is_half_of_two_characters_ends_no_line(reader: Reader) -> None:
    reader.write("a.log", "\ufeff\u0a00\u0a41\u4100one\n\u0041\u0a00\u0a00\n".encode("utf-16-le"))
    reader.start()
    assert reader.read() == ["\u0a00\u0a41\u4100one".encode(), "A\u0a00\u0a00".encode()]


def test_reading_begins_at_the_end_of_a_file_in_utf16_too(reader: Reader) -> None:
    reader.write("a.log", "\ufeffold\nhal".encode("utf-16-be"))
    reader.start(start_at="end")
    assert reader.read() == []
    reader.write("a.log", "f\nnew\n".encode("utf-16-be"))
    assert reader.read() == [b"half", b"new"]


def test_what_is_not_of_the_encoding_is_replaced_and_counted(reader: Reader) -> None:
    reader.write("a.log", b"good\nb\xffd\n\xc3\n" + "genuine \ufffd".encode() + b"\n")
    reader.start()
    assert reader.read() == [b"good", "b\ufffdd".encode(), "\ufffd".encode(), "genuine \ufffd".encode()]
    assert replaced(reader) == 2


def test_a_long_line_is_cut_between_characters(reader: Reader) -> None:
    reader.write("a.log", "ü".encode() * 1000 + b"\n")
    reader.write(
        "b.log", "\ufeff".encode("utf-16-le") + "ü".encode("utf-16-le") * 1000 + "\nafter\n".encode("utf-16-le")
    )
    reader.start(max_line_bytes=1025)
    assert reader.read() == ["ü".encode() * 512, "ü".encode() * 511, b"after"]
    assert replaced(reader) == 0
    assert reader.lost("cut") == 2000 - 1024 + 2002 - 1024


def test_a_carriage_return_before_the_newline_is_no_part_of_a_line(reader: Reader) -> None:
    reader.write("a.log", b"one\r\ntwo\rthree\r\n\r\nfour\n")
    reader.start()
    assert reader.read() == [b"one", b"two\rthree", b"", b"four"]


def test_a_newline_whose_carriage_return_came_before_it_is_one(reader: Reader) -> None:
    reader.start()
    reader.write("a.log", b"one\r")
    assert reader.read() == []
    reader.write("a.log", b"\n")
    assert reader.read() == [b"one"]


def test_a_hole_of_gigabytes_is_passed_over(reader: Reader) -> None:
    path = reader.write("a.log", b"one\n")
    with path.open("r+b") as file:
        file.seek(2 << 30)
        file.write(b"two\nthree\n")
    reader.start()
    assert reader.read(0) == [b"one", b"two", b"three"]
    assert nul_bytes(reader) == (2 << 30) - len(b"one\n")
    assert reader.lost("cut") == 0


def test_zeros_that_are_on_the_disk_are_passed_over_in_turns(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_tail, "SKIP_BYTES", 1 << 20)
    reader.write("a.log", b"one\n" + bytes(5 << 20) + b"two\n")
    reader.write("b.log", b"other\n")
    reader.start()
    assert reader.read(0) == [b"one", b"other", b"two"]
    assert nul_bytes(reader) == 5 << 20


def test_a_writer_that_keeps_its_offset_through_a_copytruncate_loses_nothing(reader: Reader) -> None:
    path = reader.logs / "a.log"
    with path.open("wb", buffering=0) as writer:
        writer.write(b"one\n" * 100_000)
        reader.start()
        assert len(reader.read()) == 100_000
        (reader.logs / "a.log.1").write_bytes(path.read_bytes())
        os.truncate(path, 0)
        assert reader.read() == []
        writer.write(b"two\n")
        assert reader.read() == [b"two"]
        writer.write(b"three\n")
        assert reader.read() == [b"three"]
        assert nul_bytes(reader) == 400_000
        writer.write(b"four\n")
        (reader.logs / "a.log.2").write_bytes(path.read_bytes())
        os.truncate(path, 0)
        writer.write(b"five\n")
        assert reader.read() == [b"four", b"five"]
    assert reader.lost("truncated") == 0


@pytest.mark.parametrize("length", [16, 3000, 200_000])
def test_a_line_that_a_crash_broke_off_is_a_line(reader: Reader, length: int) -> None:
    reader.write("a.log", b"one\nbroken of" + bytes(length) + b"after the boot\n")
    reader.start(max_line_bytes=2048)
    assert reader.read() == [b"one", b"broken of", b"after the boot"]
    assert nul_bytes(reader) == length


def test_a_few_nul_bytes_within_a_line_are_left_out(reader: Reader) -> None:
    reader.write("a.log", b"a\0b\0\0c\n\0\0d\n")
    reader.start()
    assert reader.read() == [b"abc", b"d"]
    assert nul_bytes(reader) == 5


@pytest.mark.parametrize("block_bytes", [4096, 1 << 20])
def test_a_file_enlarged_in_advance_is_read_as_it_is_filled(reader: Reader, block_bytes: int) -> None:
    path = reader.write("a.log", bytes(100_000))
    reader.start(block_bytes=block_bytes)
    assert reader.read() == []
    at = 0
    for data in (b"one\n", b"two\nhal", b"f\n", b"three\n"):
        with path.open("r+b") as file:
            file.seek(at)
            at += file.write(data)
        os.utime(path, ns=(0, at))  # the clock of the kernel moves in ticks
        reader.read()
    assert [line for batch in reader.batches for line in batch.records()] == [b"one", b"two", b"half", b"three"]
    os.rename(path, f"{path}.1")
    assert reader.read(20) == []
    assert nul_bytes(reader) == 100_000 - at


async def test_text_is_read_again_as_it_was_handed_on(reader: Reader) -> None:
    from tests.collect.file.test_file_source import again

    reader.write("a.log", "\ufeffone\r\nt".encode("utf-16-le") + bytes(32) + "wo\nthr".encode("utf-16-le"))
    reader.start()
    reader.read()
    os.rename(reader.logs / "a.log", reader.logs / "a.log.1")
    reader.read(20)
    batches = [batch for batch in reader.batches if batch.count]
    reader.stop()
    assert b"".join(batch.block for batch in batches) == b"one\nt\nwo\nthr\n"
    assert [await again(reader, batch.origin) for batch in batches] == [batch.block for batch in batches]


@pytest.mark.parametrize("name", ["no-such", "base64", "punycode", "rot13"])
def test_an_encoding_in_which_no_lines_can_be_read_is_a_fault(name: str, tmp_path: Path) -> None:
    options = msgspec.convert({"paths": [f"{tmp_path}/*"], "encoding": name}, FileOptions)
    ((key, message),) = options.faults()
    assert key == "encoding"
    assert "utf-16" in message
