"""This file encodes the times of log records as Loki's entries want them, a thousand at once and none by itself.

Python's whole numbers are of any length and C works on them: the times of a piece lie in one number, each in a lane of
128 bits, and an operation on that number is done on every lane.

    lane, from its lowest byte   0a 0c 10   n0 n1 n2 n3 n4   08   s0 s1 s2 s3 s4   00 00
                                 tag, length, tag   nanos    tag      seconds      left out

``n`` and ``s`` are varints padded to five bytes (protobuf, "Base 128 Varints": seven bits a byte, the lowest first,
the eighth says that one more follows). Seconds are the time times 2**93 / 10**9, rounded up, over 2**93: exact for all
times below 2**62 (Granlund and Montgomery, "Division by Invariant Integers using Multiplication", theorem 4.2), and
the product stays within its lane.
"""

from __future__ import annotations

import functools
import struct
from array import array
from typing import TYPE_CHECKING, Final

from agent.wire.protobuf import padded_varint

if TYPE_CHECKING:
    from collections.abc import Sequence

NANOSECONDS: Final = 1_000_000_000
TIMESTAMP: Final = b"\x0a\x0c\x10"
"""The tag of an entry's time, its length (12), and the tag of ``nanos`` in it."""
SECONDS: Final = b"\x08"
TIMESTAMP_BYTES: Final = 14
LANES: Final = 1024
_LANE_BYTES: Final = 16
_LANE_BITS: Final = 8 * _LANE_BYTES
_SHIFT: Final = 93
_RECIPROCAL: Final = (1 << _SHIFT) // NANOSECONDS + 1
_SECOND_BITS: Final = 33
_SEVEN: Final = 0x7F
_MORE: Final = 0x80808080
"""The eighth bits of the first four of five bytes."""


def timestamps(times_ns: Sequence[int]) -> list[bytes]:
    """Each time as field 1 of an entry, 14 bytes. What lies before 1970 becomes 1970, which Loki refuses as too old."""
    found: list[bytes] = []
    for first in range(0, len(times_ns), LANES):
        found += _piece(array("q", times_ns[first : first + LANES]))
    return found


def timestamp(time_ns: int) -> bytes:
    """One time as field 1 of an entry."""
    second, nanos = divmod(max(time_ns, 0), NANOSECONDS)
    return TIMESTAMP + padded_varint(nanos, 5) + SECONDS + padded_varint(second, 5)


def _piece(times_ns: array[int]) -> Sequence[bytes]:
    count = 1 << (len(times_ns) - 1).bit_length()
    lanes = array("q", bytes(count * _LANE_BYTES))
    lanes[0 : 2 * len(times_ns) : 2] = times_ns
    masks = _Masks.of(count)
    times = int.from_bytes(lanes.tobytes(), "little")
    if times & masks.out_of_range:
        return list(map(timestamp, times_ns))
    seconds = times * _RECIPROCAL >> _SHIFT & masks.second
    values = times - seconds * NANOSECONDS | seconds << 64
    spread = 0
    for place, seven in enumerate(masks.sevens):
        spread |= (values & seven) << place
    encoded = (spread & masks.nanos) << 24 | (spread & masks.seconds) << 8 | masks.fixed
    return masks.cut(encoded.to_bytes(count * _LANE_BYTES, "little"))[: len(times_ns)]


class _Masks:
    """What is the same in every lane of ``count``, a power of two: no more than eleven of these are ever made."""

    def __init__(self, count: int) -> None:
        self.out_of_range = _in_each_lane(3 << 62, count)
        self.second = _in_each_lane((1 << _SECOND_BITS) - 1, count)
        self.sevens = [_in_each_lane((_SEVEN | _SEVEN << 64) << 7 * place, count) for place in range(5)]
        five_bytes = (1 << 40) - 1
        self.nanos = _in_each_lane(five_bytes, count)
        self.seconds = _in_each_lane(five_bytes << 64, count)
        tags = int.from_bytes(TIMESTAMP, "little") | int.from_bytes(SECONDS, "little") << 64
        self.fixed = _in_each_lane(tags | _MORE << 24 | _MORE << 72, count)
        self.cut = struct.Struct(f"{TIMESTAMP_BYTES}s{_LANE_BYTES - TIMESTAMP_BYTES}x" * count).unpack

    @staticmethod
    @functools.cache
    def of(count: int) -> _Masks:
        """The masks of that many lanes."""
        return _Masks(count)


def _in_each_lane(value: int, count: int) -> int:
    return int.from_bytes(value.to_bytes(_LANE_BYTES, "little") * count, "little")
