"""This file is what the writers write: every record says who wrote it, which it is and when, and can be made again.

plain   a 12 at 1795193601.1234 xxx
json    {"time":"2026-11-20T16:53:21.123Z","level":"info","msg":"a 12 at 1795193601.1234 xxx"}
java    2026-11-20 16:53:21,123 ERROR [main] a 12 at 1795193601.1234 xxx
        java.lang.IllegalStateException: a 12
                at a.b12.of(Lines.java:0)
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime

RENAMED = ("a", "b", "c")
LINKED = "d"
"""The link d.log is turned to another file."""

MOVED = "e"
"""The directory of e.log is put away, and another one made."""

NAMES = (*RENAMED, LINKED, MOVED)
SHAPES = ("plain", "json", "java")
POISON_EVERY = 397
POISON_BYTES = 2500
"""Longer than the receiver of the torture takes; it refuses the line and nothing else."""

_said = re.compile(r"\b([a-e]) (\d+) at (\d+\.\d{4}) ").search


def poisonous(name: str, number: int) -> bool:
    """Whether this line is one that the receiver refuses."""
    return (number + zlib.crc32(name.encode())) % POISON_EVERY == 0


def pad_of(name: str, number: int) -> str:
    """What follows the time in a line: the same whenever it is asked for."""
    if poisonous(name, number):
        return "P" * POISON_BYTES
    mixed = number * 2654435761 % 1013
    return ("é" if mixed % 7 == 0 else "x") * (mixed % 311)


def record_of(shape: str, name: str, number: int, at: str) -> str:
    """The record, without its last newline; ``at`` is its time in seconds, with four decimals."""
    said = f"{name} {number} at {at} {pad_of(name, number)}"
    if shape == "plain":
        return said
    stamp = datetime.fromtimestamp(float(at), UTC)
    if shape == "json":
        return f'{{"time":"{stamp:%FT%T}.{stamp.microsecond // 1000:03}Z","level":"info","msg":"{said}"}}'
    frames = [f"\tat {name}.b{number}.of(Lines.java:{frame})" for frame in range(number % 9)]
    cause = [f"java.lang.IllegalStateException: {name} {number}", *frames] if number % 3 == 0 else []
    return "\n".join([f"{stamp:%F %T},{stamp.microsecond // 1000:03} ERROR [main] {said}", *cause])


def told_by(shape: str, record: str) -> tuple[str, int, float] | None:
    """Writer, number and time of a record that is one in every byte; None of any other text."""
    found = _said(record)
    if found is None or record_of(shape, found[1], int(found[2]), found[3]) != record:
        return None
    return found[1], int(found[2]), float(found[3])
