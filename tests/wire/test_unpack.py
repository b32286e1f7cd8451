"""This file shows that compressed data is unpacked a piece at a time, whatever its members, and that damage is told."""

from __future__ import annotations

import bz2
import gzip
import os
import random
import tracemalloc
from collections.abc import Callable

import cramjam
import pytest

from agent.wire.unpack import Unpackable, Unpacking, unpacking


def zstd(data: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(data))


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "zstd": zstd}
packed_by = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


def unpacked(packed: bytes, step: int = 1000, most_bytes: int = 777) -> tuple[bytes, Unpacking]:
    made, out = unpacking(packed[:4]), []
    for start in range(0, len(packed), step):
        made.take(packed[start : start + step])
        while given := made.give(most_bytes):
            assert len(given) <= most_bytes
            out.append(given)
    return b"".join(out), made


@packed_by
@pytest.mark.parametrize("step", [1, 3, 1000, 1 << 20])
def test_what_was_packed_is_unpacked(pack: Callable[[bytes], bytes], step: int) -> None:
    data = b"".join(b"%d\n" % random.Random(1).randrange(10**9) for _ in range(300)) + os.urandom(2000)
    out, made = unpacked(pack(data), step)
    assert out == data
    assert made.whole


@packed_by
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_members_one_after_the_other_are_one_text(pack: Callable[[bytes], bytes], step: int) -> None:
    out, made = unpacked(pack(b"one\n") + pack(b"") + pack(b"two\n"), step)
    assert out == b"one\ntwo\n"
    assert made.whole


@packed_by
def test_what_was_cut_short_is_not_whole(pack: Callable[[bytes], bytes]) -> None:
    data = os.urandom(5000)
    for size in (10, 100, 3000):
        out, made = unpacked(pack(data)[:size])
        assert data.startswith(out)
        assert not made.whole


@packed_by
def test_damage_is_told(pack: Callable[[bytes], bytes]) -> None:
    packed = bytearray(pack(os.urandom(5000)))
    packed[4:100] = bytes(96)
    with pytest.raises(Unpackable):
        unpacked(bytes(packed))


@packed_by
def test_a_member_and_rubbish_behind_it_is_damage(pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Unpackable):
        unpacked(pack(b"one\n") + b"no member of anything, long enough to be seen")


@packed_by
def test_a_small_file_that_holds_much_takes_little_memory(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(bytes(64 << 20))
    made, size = unpacking(packed[:4]), 0
    made.take(packed)
    tracemalloc.start()
    try:
        while given := made.give(1 << 16):
            size += len(given)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 64 << 20
    assert peak_bytes < 2 << 20


def test_what_begins_like_nothing_known_is_not_unpacked() -> None:
    with pytest.raises(Unpackable, match="not compressed as its name says"):
        unpacking(b"text\n")
