r"""This file joins lines to records and reads time and level of each in the same look at its first line.

    2026-11-20 16:40:01.123 ERROR no\n\tat a.b(C)\n2026-11-20 16:40:01.124 INFO  yes\n
                                                 ▲ └──────── time ───────┘ └level┘
                                                 └ split here, with what stands ahead as groups

``re.split`` gives three columns then: records, times, levels. The first record of a block tells what most of them look
like, so that an expression for digits and a name where it has them stands before the one for all that is known of the
format, and takes half of its time. A thousand records of which one is otherwise are read again, as they would have been
had they been joined first. So is a block that holds a record longer than it may be, or than a slice is.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from agent.wire.format import Columns, Joined, Joining, Moment
from agent.wire.joining import absent_from, divided, slices

if TYPE_CHECKING:
    from agent.wire.shapes import Shape

AT_ONCE: Final = 1000
"""Records whose times are read in one go."""

Read = Callable[[bytes], "tuple[array[int], bytes, int]"]
"""Times, severities and how many were of no shape, of records each behind the separator."""

_TIME: Final = re.compile(rb"[0-9:/., TZ+-]{8,40}")
_BETWEEN: Final = re.compile(rb"[\[\]()|: ]{1,4}")
_NAME: Final = re.compile(rb"[A-Z]{3,9}")
_DIGITS: Final = tuple(b"%d" % digit for digit in range(10))


def joined_with_heads(
    joining: Joining, shape: Shape, block: bytes, max_record_bytes: int, moment: Moment, read: Callable[[bytes], Read]
) -> Joined | None:
    """The lines of ``block`` as records with their times and severities; None where two looks are needed.

    ``read`` makes of a separator what reads records that are not of ``shape``.
    """
    separator = absent_from(block)
    if len(separator) > 1 or not shape.names or joining.starts.groups:
        return None
    found = _split(joining, shape, block)
    if found is None:
        return None
    records, heads, levels = found
    whole = separator.join((*records, b""))
    if divided(whole, separator, max_record_bytes)[1]:
        return None
    times, severities, unparsed = array("q"), bytearray(), 0
    otherwise = read(separator)
    for at in range(0, len(records), AT_ONCE):
        some = heads[at : at + AT_ONCE]
        if all(some):
            times += shape.times_of(some, moment)
            severities += shape.severities(levels[at : at + AT_ONCE])
            continue
        odd = otherwise(separator.join((b"", *records[at : at + AT_ONCE])))
        times, severities, unparsed = times + odd[0], severities + odd[1], unparsed + odd[2]
    if b"\n" not in whole:
        whole, separator = block, b"\n"
    return Joined(whole, separator, len(records), Columns(times, bytes(severities), unparsed))


def _split(joining: Joining, shape: Shape, block: bytes) -> tuple[list[bytes], list[Any], list[Any]] | None:
    """Records, times and levels, None for those that are not of the shape; None where the block
    does not begin with one, or one is longer than a slice."""
    records: list[bytes] = []
    times: list[Any] = []
    levels: list[Any] = []
    split = expression(joining, shape, block[: block.find(b"\n")]).split
    plain = joining.starts.split
    for piece in slices(joining, block):
        parts = split(piece if times else b"\n" + piece)
        if parts[0]:
            return None
        if split is plain:
            records += parts[1:]
            times += [None] * (len(parts) - 1)
            levels += [None] * (len(parts) - 1)
            continue
        records += parts[3::3]
        some = parts[1::3]
        times += some
        levels += parts[2::3]
        if not all(some):
            split = plain
    return (records, times, levels) if records else None


def expression(joining: Joining, shape: Shape, record: bytes) -> re.Pattern[bytes]:
    """What to split lines at, with time and level as groups: made for records like ``record`` where that can be."""
    found = _head(shape).match(record)
    if joining.by_beginning and found is not None and all(found.groups()):
        before, time, between = record[: found.start(1)], found[1], record[found.end(1) : found.start(2)]
        if _TIME.fullmatch(time) and _BETWEEN.fullmatch(between):
            zeros = time.translate(_ZEROS)
            return _alike(joining, shape, before, zeros, between) or _any(joining, shape)
    return _any(joining, shape)


_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")


@lru_cache(32)
def _head(shape: Shape) -> re.Pattern[bytes]:
    return re.compile(shape.in_line)


@lru_cache(32)
def _any(joining: Joining, shape: Shape) -> re.Pattern[bytes]:
    return re.compile(joining.starts.pattern + b"(?:(?=" + shape.in_line + b")|)")


@lru_cache(32)
def _alike(joining: Joining, shape: Shape, before: bytes, zeros: bytes, between: bytes) -> re.Pattern[bytes] | None:
    """An expression for records that have digits and a level where one has them; None where it would find others than
    the shape's own does, or something that begins no record."""
    names = [name for name in shape.names.split(b"|") if _NAME.fullmatch(name)]
    for digit in _DIGITS:
        time = zeros.replace(b"0", digit)
        for name in names:
            line = before + time + between + name
            found = _head(shape).match(line)
            if found is None or found.groups() != (time, name) or not joining.starts.match(b"\n" + line):
                return None
    time_like = re.escape(zeros).replace(b"0", rb"\d")
    head = re.escape(before) + b"(" + time_like + b")" + re.escape(between) + b"(" + b"|".join(names) + rb")(?![\w.-])"
    return re.compile(rb"\n(?![\t ])(?:(?=" + head + b")|" + joining.starts.pattern.removeprefix(rb"\n") + b")")
