"""This file names the part of the journal that a batch was made of, so that it can be found again.

    ["nginx.service","stdout"] # 7340032.12 s=…;i=2f;… s=…;i=3b;…
    the fields of its labels     where its records begin among those of these fields, counted in bytes; how many they
                                 are; the entry before the block (a dash where there was none), the last of the block

What stands before the ``#`` stays the same from block to block, so that redact follows a private key from one record
of a unit to the next whatever other units write in between.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from agent.batch import Origin

NO_CURSOR = "-"
_FIRST_SHIFT = 24
"""Counting begins far apart for different fields, so that no two of them are taken for one another by their place."""


class Part(msgspec.Struct, frozen=True):
    """The ``count`` records with these ``fields`` in the block behind ``after`` that ends with ``last``."""

    fields: tuple[str | None, ...]
    start: int
    count: int
    after: str
    last: str

    def origin(self, size_bytes: int) -> Origin:
        """Where the records lie that have ``size_bytes``."""
        behind = f"{self.start}.{self.count} {self.after or NO_CURSOR} {self.last or NO_CURSOR}"
        return Origin(f"{stream_of(self.fields)}#{behind}", self.start, self.start + size_bytes)


def stream_of(fields: tuple[Any, ...]) -> str:
    """The text that stands for the fields of a label set; holds no ``#``."""
    return msgspec.json.encode(fields).decode(errors="replace").replace("#", "\\u0023")


def first_of(stream: str) -> int:
    """Where counting begins for a stream."""
    return (zlib.crc32(stream.encode()) + 1) << _FIRST_SHIFT


def part_of(key: str) -> Part:
    """The part that a key names. Raises ValueError for any other text."""
    stream, _, behind = key.partition("#")
    numbers, after, last = behind.split(" ")
    start, _, count = numbers.partition(".")
    fields = msgspec.json.decode(stream, type=tuple[str | None, ...])
    return Part(fields, int(start), int(count), after.replace(NO_CURSOR, ""), last.replace(NO_CURSOR, ""))
