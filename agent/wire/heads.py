r"""This file joins lines to records and reads time and level of each in the same look at its first line.

    2026-11-20 16:40:01.123 ERROR no\n\tat a.b(C)\n2026-11-20 16:40:01.124 INFO  yes\n
                                                 ▲ └──────── time ───────┘ └level┘
                                                 └ split here, with what stands ahead as groups

``re.split`` gives three columns then: records, times, levels. The first record of a block tells what most of them look
like, so that an expression for digits and a name where it has them stands before the one for all that is known of the
format, and takes half of its time. What it finds lies side by side as fixed columns.

From the first slice on that holds a record which is otherwise, the format reads records that were joined before. So it
does with a block that begins in the middle of a record, or has one that is longer than it may be or than a slice is.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from agent.wire.format import Columns, Joined, Joining, Moment
from agent.wire.joining import absent_from, divided, slices
from agent.wire.timestamps import times_together

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
_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")


class Look(Struct, frozen=True):
    """What to split lines at, with time and level of what follows as groups.

    Where all times that it finds have the same ``length``, there is one group: from the time to the first letter of
    the level, ``width`` bytes, and ``severities`` has what that letter means, as a table for ``translate``.
    """

    split: Callable[[bytes], list[Any]]
    length: int = 0
    width: int = 0
    severities: bytes = b""

    @property
    def step(self) -> int:
        """Of what it splits every how manieth is a record."""
        return 2 if self.width else 3


def joined_with_heads(
    joining: Joining, shape: Shape, block: bytes, max_record_bytes: int, moment: Moment, read: Callable[[bytes], Read]
) -> Joined | None:
    """The lines of ``block`` as records with their times and severities; None where two looks are needed.

    ``read`` makes of a separator what reads records that are not of ``shape``.
    """
    separator = absent_from(block)
    if len(separator) > 1 or not shape.names or joining.starts.groups:
        return None
    heads = _Heads(look_for(joining, shape, block[: block.find(b"\n")]), shape, moment, read(separator))
    split, step = heads.look.split, heads.look.step
    records: list[bytes] = []
    for piece in slices(joining, block):
        parts = split(piece if records else b"\n" + piece)
        if parts[0]:
            return None
        some = parts[step::step] if split is heads.look.split else parts[1:]
        records += some
        if split is not heads.look.split or not heads.take(parts):
            heads.take_odd(separator.join((b"", *some)))
            split = joining.starts.split
    whole = separator.join((*records, b""))
    if not records or divided(whole, separator, max_record_bytes)[1]:
        return None
    columns = heads.columns()
    if b"\n" not in whole:
        whole, separator = block, b"\n"
    return Joined(whole, separator, len(records), columns)


class _Heads:
    """The columns of a block as they grow; times are read once there are a thousand."""

    def __init__(self, look: Look, shape: Shape, moment: Moment, otherwise: Read) -> None:
        self.look, self.shape, self.moment, self.otherwise = look, shape, moment, otherwise
        self.times, self.severities, self.unparsed = array("q"), bytearray(), 0
        self.texts: list[bytes] = []
        self.waiting = 0

    def take(self, parts: list[Any]) -> bool:
        """Whether all records of a slice had a time where it is looked for; the slice is taken only then."""
        found = parts[1 :: self.look.step]
        if not all(found):
            return False
        width = self.look.width
        if width:
            together = b"".join(found)
            self.texts.append(together)
            self.severities += together[width - 1 :: width].translate(self.look.severities)
        else:
            self.texts += found
            self.severities += self.shape.severities(parts[2::3])
        self.waiting += len(found)
        if self.waiting >= AT_ONCE:
            self.read()
        return True

    def take_odd(self, text: bytes) -> None:
        """Records as the format reads them where they are of any shape."""
        self.read()
        times, severities, unparsed = self.otherwise(text)
        self.times += times
        self.severities += severities
        self.unparsed += unparsed

    def read(self) -> None:
        """Reads the times that are waiting."""
        look, layout = self.look, self.shape.times
        if not self.texts:
            return
        if look.width and not callable(layout):
            self.times += times_together(b"".join(self.texts), look.length, look.width, layout, self.moment)
        else:
            self.times += self.shape.times_of(self.texts, self.moment)
        self.texts.clear()
        self.waiting = 0

    def columns(self) -> Columns:
        """Those of the whole block."""
        self.read()
        return Columns(self.times, bytes(self.severities), self.unparsed)


def look_for(joining: Joining, shape: Shape, record: bytes) -> Look:
    """How to look for records like ``record``: made for what it looks like, where that can be."""
    found = _head(shape).match(record)
    if joining.by_beginning and found is not None and all(found.groups()) and not callable(shape.times):
        before, time, between = record[: found.start(1)], found[1], record[found.end(1) : found.start(2)]
        if _TIME.fullmatch(time) and _BETWEEN.fullmatch(between):
            look = _alike(joining, shape, before, time.translate(_ZEROS), between)
            if look is not None and all(look.split(b"\n" + record)[1:2]):
                return look
    return _any(joining, shape)


@lru_cache(32)
def _head(shape: Shape) -> re.Pattern[bytes]:
    return re.compile(shape.in_line)


@lru_cache(32)
def _any(joining: Joining, shape: Shape) -> Look:
    return Look(re.compile(joining.starts.pattern + b"(?:(?=" + shape.in_line + b")|)").split)


@lru_cache(32)
def _alike(joining: Joining, shape: Shape, before: bytes, zeros: bytes, between: bytes) -> Look | None:
    """A look for records that have digits and a level where one has them; None where that would find something else
    than the shape's own expression does, or what begins no record."""
    names, severities = _told_by_initial(shape)
    for digit in _DIGITS:
        time = zeros.replace(b"0", digit)
        for name in names:
            line = before + time + between + name
            found = _head(shape).match(line)
            if found is None or found.groups() != (time, name) or not joining.starts.match(b"\n" + line):
                return None
    time = re.escape(zeros).replace(b"0", rb"\d")
    level = b"(?=(?:" + b"|".join(names) + rb")(?![\w.-]))."
    head = re.escape(before) + b"(" + time + re.escape(between) + level + b")"
    none = rb"\t " if joining.starts.match(b"\n\n") else rb"\t \n"
    split = re.compile(
        rb"\n(?![" + none + rb"])(?:(?=" + head + b")|" + joining.starts.pattern.removeprefix(rb"\n") + b")"
    ).split
    return Look(split, len(zeros), len(zeros + between) + 1, severities)


def _told_by_initial(shape: Shape) -> tuple[list[bytes], bytes]:
    """The names whose first letter tells their severity, and a table of those; FATAL goes before FINE."""
    names = [name for name in shape.names.split(b"|") if _NAME.fullmatch(name)]
    known: dict[int, int] = {}
    told = [
        name
        for name, severity in zip(names, shape.severities(names), strict=True)
        if known.setdefault(name[0], severity) == severity
    ]
    return told, bytes(known.get(letter, 0) for letter in range(256))
