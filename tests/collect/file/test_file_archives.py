"""This file shows that compressed files are read once: from where the file they were made of was left, or whole."""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cramjam
import pytest

from agent.collect.file import archive as file_archive
from agent.collect.parse_options import Multiline
from tests.collect.conftest import Reader

ERRORS = "telemetry_agent_archive_errors_total"


def zstd(data: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(data))


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd}
packed_by = pytest.mark.parametrize(("suffix", "pack"), PACKERS.items(), ids=PACKERS)
numbers = [b"%06d" % number for number in range(20_000)]


def lines(first: int, end: int) -> bytes:
    return b"".join(number + b"\n" for number in numbers[first:end])


def compress(path: Path, suffix: str = ".gz", pack: Callable[[bytes], bytes] = gzip.compress) -> Path:
    """As gzip does: the compressed file appears, with the times of the other, which then goes."""
    packed = Path(f"{path}{suffix}")
    packed.write_bytes(pack(path.read_bytes()))
    shutil.copystat(path, packed)
    path.unlink()
    return packed


def errors(reader: Reader) -> float:
    return reader.meter.value(ERRORS, ("file",))


@packed_by
def test_the_rest_of_a_file_compressed_while_the_agent_was_down_is_read(
    reader: Reader, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    path = reader.write("a.log", lines(0, 1000))
    reader.start()
    assert reader.read() == numbers[:1000]
    reader.stop()
    reader.write("a.log", lines(1000, 15_000))
    compress(path, ".1" + suffix, pack)
    reader.write("a.log", lines(15_000, 20_000))
    reader.start(block_bytes=4096)
    assert reader.read(5) == numbers[1000:]
    assert reader.lost("vanished") == 0
    assert {dict(batch.labels)["filename"] for batch in reader.batches if batch.count} == {str(path)}
    reader.start()
    assert reader.read(5) == []
    assert not [key for key in reader.committed if key.startswith("archive:")]


@packed_by
def test_a_restart_in_the_middle_of_it_goes_on_there(
    reader: Reader, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    path = reader.write("a.log", lines(0, 1000))
    reader.start()
    assert reader.read() == numbers[:1000]
    reader.stop()
    reader.write("a.log", lines(1000, 20_000))
    compress(path, ".1" + suffix, pack)
    read = []
    for _ in range(12):
        reader.start(block_bytes=4096)
        for _ in range(3):
            batch = reader.step()
            read += batch.records() if batch is not None else []
    reader.start()
    assert read + reader.read(3) == numbers[1000:]


def test_compressing_at_once_loses_nothing_of_a_file_that_was_not_open(reader: Reader) -> None:
    paths = [reader.write(f"{name}.log", lines(index, index + 1)) for index, name in enumerate("abcdef")]
    reader.start(max_open_files=2)
    assert sorted(reader.read(3)) == numbers[:6]
    for index, path in enumerate(paths):
        reader.write(path.name, lines(10 + index, 11 + index))
        os.rename(path, f"{path}.1")
        compress(Path(f"{path}.1"))
        reader.write(path.name, lines(20 + index, 21 + index))
    assert sorted(reader.read(5)) == numbers[10:16] + numbers[20:26]
    assert reader.lost("vanished") == 0


@pytest.mark.parametrize("added", [10, 5000])
def test_what_a_copytruncate_left_unread_is_read_from_the_compressed_copy(reader: Reader, added: int) -> None:
    path = reader.write("a.log", lines(0, 1000))
    reader.start()
    assert reader.read() == numbers[:1000]
    reader.stop()
    reader.write("a.log", lines(1000, 2000))
    shutil.copyfile(path, f"{path}.1")
    os.truncate(path, 0)
    compress(Path(f"{path}.1"))
    reader.write("a.log", lines(2000, 2000 + added))
    later_ns = path.stat().st_mtime_ns + 1_000_000_000  # it is written to long after its copy was compressed
    os.utime(path, ns=(later_ns, later_ns))
    reader.start()
    assert reader.read(3) == numbers[1000 : 2000 + added]
    assert reader.lost("truncated") == 0


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
def test_rotated_files_that_a_pattern_finds_compressed_are_not_read_again(
    reader: Reader, delayed: bool, restarted: bool
) -> None:
    options = {"paths": (f"{reader.logs}/*.log", f"{reader.logs}/*.gz")}
    reader.start(**options)
    read = []
    for turn in range(6):
        path = reader.write("a.log", lines(turn * 10, turn * 10 + 10))
        read += reader.read(8)
        for number in range(9, 0, -1):
            for suffix in ("", ".gz"):
                if Path(f"{path}.{number}{suffix}").exists():
                    os.rename(f"{path}.{number}{suffix}", f"{path}.{number + 1}{suffix}")
        os.rename(path, f"{path}.1")
        if delayed and Path(f"{path}.2").exists():
            compress(Path(f"{path}.2"))
        elif not delayed:
            compress(Path(f"{path}.1"))
        if restarted:
            reader.start(**options)
    read += reader.read(30)
    assert read == numbers[:60]
    assert errors(reader) == 0


@packed_by
def test_compressed_files_that_a_pattern_names_are_read_once(
    reader: Reader, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    reader.write(f"old.log.1{suffix}", pack(lines(0, 20_000) + b"half"))
    reader.write("plain.log", b"plain\n")
    options = {"paths": (f"{reader.logs}/*{suffix}",), "block_bytes": 4096}
    reader.start(**options)
    assert reader.read(3) == [*numbers, b"half"]
    reader.start(**options)
    assert reader.read(3) == []
    os.rename(reader.logs / f"old.log.1{suffix}", reader.logs / f"old.log.2{suffix}")
    assert reader.read(3) == []
    shutil.copyfile(reader.logs / f"old.log.2{suffix}", reader.logs / f"copy{suffix}")
    assert reader.read(3) == []


def test_compressed_files_are_read_only_where_a_pattern_ends_in_their_suffix(reader: Reader) -> None:
    reader.write("a.log.1.gz", gzip.compress(b"one\n"))
    reader.start(paths=(f"{reader.logs}/*", f"{reader.logs}/**"))
    assert reader.read(3) == []


def test_at_the_very_first_start_those_that_exist_are_left_alone(reader: Reader) -> None:
    options = {"paths": (f"{reader.logs}/*.gz",), "start_at": "end"}
    reader.write("a.gz", gzip.compress(b"old\n"))
    reader.start(**options)
    assert reader.read(3) == []
    reader.write("b.gz", gzip.compress(b"new\n"))
    assert reader.read(3) == [b"new"]
    reader.start(**options)
    assert reader.read(3) == []


def test_equal_beginnings_are_told_apart(reader: Reader) -> None:
    banner = b"#" * 2000 + b"\n"
    texts = {name: banner + name.encode() * 300 + b"\n" for name in "abcd"}
    for name, text in texts.items():
        reader.write(f"{name}.log", text)
    reader.start()
    assert len(reader.read()) == 8
    reader.stop()
    for name in texts:
        path = reader.write(f"{name}.log", b"rest of " + name.encode() + b"\n")
        compress(path, ".1.gz")
    reader.start()
    assert sorted(reader.read(5)) == [b"rest of a", b"rest of b", b"rest of c", b"rest of d"]
    assert reader.lost("vanished") == 0


def test_one_that_holds_something_else_is_not_taken_for_the_rest(reader: Reader) -> None:
    banner = b"#" * 2000 + b"\n"
    path = reader.write("a.log", banner + b"one\n")
    reader.start()
    assert len(reader.read()) == 2
    reader.stop()
    reader.write("a.log", b"unread\n")
    path.unlink()
    reader.write("b.log.1.gz", gzip.compress(banner + b"another\n" * 100))
    reader.committed = {key: value.replace('"size":2005', '"size":2012') for key, value in reader.committed.items()}
    reader.start()
    assert reader.read(5) == []
    assert reader.lost("vanished") == len(b"unread\n")


def test_one_that_is_still_written_is_waited_for(reader: Reader) -> None:
    packed = gzip.compress(lines(0, 20_000))
    reader.start(paths=(f"{reader.logs}/*.gz",), rotate_wait_seconds=5.0)
    reader.write("a.gz", packed[:1])
    read = reader.read(2)
    for start in range(1, len(packed), 9000):
        reader.write("a.gz", packed[start : start + 9000])
        read += reader.read(2)
    assert read == numbers
    assert errors(reader) == 0


@packed_by
def test_a_truncated_or_damaged_one_is_counted_once_and_harms_nobody(
    reader: Reader, suffix: str, pack: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    packed = pack(os.urandom(30_000).hex().encode() + b"\n" + lines(0, 20_000))
    damaged = bytearray(packed)
    damaged[5:50] = bytes(45)
    reader.write(f"cut{suffix}", packed[:-20])
    reader.write(f"damaged{suffix}", damaged)
    reader.write(f"text{suffix}", b"not compressed\n")
    reader.write("good.log", b"good\n")
    reader.start(paths=(f"{reader.logs}/*{suffix}", f"{reader.logs}/*.log"), block_bytes=4096)
    read = reader.read(20)
    assert b"good" in read
    assert errors(reader) == 3
    assert len(caplog.records) == 3
    assert reader.source is not None
    assert len(reader.source.status()["files_unreadable"]) == 3
    reader.write(f"cut{suffix}", packed[-20:])
    read += reader.read(10)
    assert read.count(numbers[-1]) == 1
    assert errors(reader) == 3


def test_a_small_one_that_holds_much_takes_little_memory(reader: Reader) -> None:
    import tracemalloc

    reader.write("bomb.gz", gzip.compress(b"x" * (200 << 20)))
    reader.write("nul.gz", gzip.compress(bytes(200 << 20) + b"after\n"))
    reader.start(paths=(f"{reader.logs}/*.gz",), max_line_bytes=4096)
    tracemalloc.start()
    try:
        assert reader.read(0) == [b"x" * 4096, b"after"]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_one_at_a_time_is_unpacked_and_other_files_have_their_turns(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_archive, "SKIP_BYTES", 10_000)
    for index in range(5):
        reader.write(f"{index}.gz", gzip.compress(lines(index * 1000, index * 1000 + 1000)))
    reader.write("b.log", b"other\n" * 10_000)
    reader.start(paths=(f"{reader.logs}/*.gz", f"{reader.logs}/*.log"), block_bytes=4096)
    reader.drain()
    order = [batch.block[:1] for batch in reader.batches if batch.count]
    assert order[:4] in ([b"0", b"o"] * 2, [b"o", b"0"] * 2)
    assert sorted(line for batch in reader.batches for line in batch.records()) == numbers[:5000] + [b"other"] * 10_000


async def test_a_batch_is_read_again_from_a_compressed_file(reader: Reader) -> None:
    from tests.collect.file.test_file_source import again

    path = reader.write("a.log", lines(0, 1000))
    reader.start()
    reader.read()
    compress(path, ".1.gz")
    batches = [batch for batch in reader.batches if batch.count]
    reader.stop()
    assert [await again(reader, batch.origin) for batch in batches] == [batch.block for batch in batches]


@pytest.mark.parametrize("block_bytes", [4096, 1 << 20])
def test_records_of_several_lines_are_not_torn(reader: Reader, block_bytes: int) -> None:
    written = [b"%d error" % number + b"\n  at x" * (number % 1500) for number in range(0, 6000, 37)]
    reader.write("a.gz", gzip.compress(b"\n".join(written)))
    multiline = Multiline(start="^[0-9]")
    reader.start(paths=(f"{reader.logs}/*.gz",), multiline=multiline, block_bytes=block_bytes)
    assert reader.read(3) == written


def test_text_in_another_encoding_is_read(reader: Reader) -> None:
    reader.write("a.gz", gzip.compress("\ufeffünï\r\ncödé".encode("utf-16-le")))
    reader.start(paths=(f"{reader.logs}/*.gz",))
    assert reader.read(3) == ["ünï".encode(), "cödé".encode()]


def test_many_that_are_still_written_do_not_take_all_descriptors(reader: Reader) -> None:
    texts = [b"".join(b"%d.%s\n" % (index, number) for number in numbers[:2000]) for index in range(60)]
    packed = [gzip.compress(text) for text in texts]
    reader.start(paths=(f"{reader.logs}/*.gz",))
    for index, data in enumerate(packed):
        reader.write(f"{index}.gz", data[: len(data) // 2])
    before = len(os.listdir("/proc/self/fd"))
    half = reader.read(2)
    assert len(os.listdir("/proc/self/fd")) - before <= 17
    for index, data in enumerate(packed):
        reader.write(f"{index}.gz", data[len(data) // 2 :])
    rest = reader.read(5)
    assert sorted(half + rest) == sorted(b"".join(texts).splitlines())
    assert errors(reader) == 0
