"""This file reads many numbers of a few digits at once, one in every 64 bits of a single large integer.

    texts      "07.5" "12.0" "59.9"      columns    "015" "729" "509"      lanes    75 | 120 | 599

Each column of digits is laid into its byte of every lane by one slice assignment. Then three multiplications of the
whole integer make eight digits one number: neighbours become pairs, pairs fours, fours the number. Nothing overflows
from one lane into the next, because what a lane holds below its mask is always less than the mask.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from typing import Final

LANE_BYTES: Final = 8
MOST: Final = 4096
"""Numbers that are read at once."""


def lanes(columns: Sequence[bytes]) -> int:
    """The numbers of at most eight columns of ASCII digits, the first the most significant, one to a lane.

    The columns are equally long, not longer than MOST, and hold digits only.
    """
    raw = bytearray(LANE_BYTES * len(columns[0]))
    for place, column in enumerate(columns, LANE_BYTES - len(columns)):
        raw[place::LANE_BYTES] = column
    ones, pairs, fours, eights = _masks()
    digits = int.from_bytes(raw, "little") & ones
    digits = (digits * 10 + (digits >> 8)) & pairs
    digits = (digits * 100 + (digits >> 16)) & fours
    return (digits * 10_000 + (digits >> 32)) & eights


def everywhere(value: int, count: int) -> int:
    """The same number in so many lanes; from 0 on and below 2**63."""
    return int.from_bytes(value.to_bytes(LANE_BYTES, "little") * count, "little")


def numbers(of: int, count: int) -> array[int]:
    """What so many lanes hold."""
    column = array("q")
    column.frombytes(of.to_bytes(LANE_BYTES * count, "little"))
    return column


@cache
def _masks() -> tuple[int, int, int, int]:
    shapes = (b"\x0f" * 8, b"\xff\0" * 4, b"\xff\xff\0\0" * 2, b"\xff\xff\xff\xff\0\0\0\0")
    ones, pairs, fours, eights = (int.from_bytes(shape * MOST, "little") for shape in shapes)
    return ones, pairs, fours, eights
