"""This file writes the two shapes of the protobuf wire format that our messages use.

Source: protobuf.dev/programming-guides/encoding. A field is a tag (field number << 3 | wire type) and a value; a
varint carries seven bits a byte, the least significant first, the high bit saying that more follow. Parsers take a
varint with needless bytes and fields in any order, which is what lets agent/wire/loki.py use fixed-width pieces.
"""

from __future__ import annotations


def varint(number: int) -> bytes:
    """``number`` (0 to 2**64 - 1) in as few bytes as it takes."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def padded_varint(number: int, size: int) -> bytes:
    """``number`` in exactly ``size`` bytes; raises OverflowError where it needs more."""
    if number >> (7 * size):
        raise OverflowError(f"{number} does not fit a varint of {size} bytes")
    groups = (number >> (7 * i) & 0x7F for i in range(size))
    return bytes(group | (0x80 if i < size - 1 else 0) for i, group in enumerate(groups))


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field: a string, bytes or an embedded message."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload
