"""This file reads records whose first line has one of a few known shapes: a time, a level, and what stands around them.

    10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/7.88.1"
                  └──────── time ──────────┘                   └level┘
    └───────────────────────────── head ────────────────────────────┘└───── rest ──────┘

A shape is written once, as expressions with named groups. ``fields`` reads head and rest of one record. For the columns
of a block only heads are read, by one ``findall`` a slice: first by the shape that the last records had (or its
``quick`` form), and only where a record of the slice is none, by all shapes at once. A format of many layouts has
fewer shapes for its columns, in which a layout does not matter.

Expressions are linear: quantifiers that might give back are possessive or in atomic groups, and what is optional is
told by its first bytes. ``SEP`` in a class stands for what lies between records, which no expression may pass.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from operator import methodcaller, or_
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from agent.wire.format import Columns, Joined, Joining, Moment
from agent.wire.heads import Read, joined_with_heads
from agent.wire.severity import severities_of, severity_of
from agent.wire.timestamps import Layout, times_of

if TYPE_CHECKING:
    from agent.batch import Logs

Times = Callable[[Sequence[bytes], Moment], "array[int]"]
Severities = Callable[[Sequence[bytes]], bytes]

SLICE_BYTES: Final = 128 << 10
SLICE_RECORDS: Final = 1000
"""What is read while the interpreter lock is kept."""

FIRST_BYTES: Final = 4096
"""So much of a block tells which shape its first record has."""

SEP: Final = b"SEP"
LINE_FEED: Final = rb"[^\x00-\x09\x0b-\xffSEP]"
"""A line feed inside of a record, of which there is none where line feeds lie between records."""

_NAMED: Final = re.compile(rb"\(\?P<(\w+)>")
_INSTEAD: Final = b"\x1e"


class Shape(Struct, frozen=True):
    """One way in which records begin. ``head`` has a group ``time``, or one called as ``level`` says, or both.

    A level ``mark`` is no field: what tells the severity there is not a level's name.
    """

    head: bytes
    rest: bytes = b"(?P<message>.*)"
    times: Layout | Times = "iso"
    level: str = "level"
    severities: Severities = severities_of
    quick: bytes = b""
    """Finds time and level, as groups in that order, in most records of this shape and in no other. It may pass the end
    of a record, or take something else for a time: that is seen, and the slice is read by ``head`` again."""

    sure: bool = True
    """Whether no other format has such records."""

    names: bytes = b""
    """The names (``A|B``) of the levels that ``head`` looks for, where it looks at one line only."""

    @property
    def in_line(self) -> bytes:
        """The head for text in which nothing but line feeds lies between records: time and level are its groups."""
        return _two_groups(self).replace(SEP, b"")

    @property
    def pattern(self) -> re.Pattern[bytes]:
        return _pattern(self.head + self.rest)

    def times_of(self, texts: Sequence[bytes], moment: Moment) -> array[int]:
        if callable(self.times):
            return self.times(texts, moment)
        return times_of(texts, self.times, moment)


@lru_cache(256)
def _pattern(expression: bytes) -> re.Pattern[bytes]:
    return re.compile(expression.replace(b"[^SEP]", b".").replace(SEP, b""), re.DOTALL)


Finish = Callable[[dict[str, Any]], Mapping[str, Any]]


class Shaped(Struct, frozen=True):
    """A format whose records have one of ``shapes``; of several that fit the first is taken. ``heads`` are shapes for
    the columns, where they are others; ``numbers`` are fields that are whole numbers; ``finish`` makes of the groups
    what they mean."""

    name: str
    shapes: tuple[Shape, ...]
    joining: Joining | None = None
    numbers: frozenset[str] = frozenset({"pid", "tid", "line"})
    finish: Finish = dict
    heads: tuple[Shape, ...] = ()

    def columns(self, batch: Logs, moment: Moment) -> Columns:
        """Times and severities as ``Format`` has them."""
        data, separator = single(batch.block, batch.separator)
        reader = _Reader(self.heads or self.shapes, separator, moment, data)
        times, severities, unparsed = array("q"), bytearray(), 0
        for start, end, count in slices(data, separator):
            piece = reader.read(data, start, end, count)
            times += piece[0]
            severities += piece[1]
            unparsed += piece[2]
        return Columns(times, bytes(severities), unparsed)

    def joined(self, block: bytes, max_record_bytes: int, moment: Moment) -> Joined | None:
        """As agent.wire.format.AtOnce has it."""
        if self.joining is None:
            return None
        shapes = self.heads or self.shapes
        first = _Reader(shapes, b"\n", moment, b"\n" + block[:FIRST_BYTES])

        def read(separator: bytes) -> Read:
            reader = _Reader(shapes, separator, moment, separator + block[:FIRST_BYTES])
            return lambda data: reader.read(data, 0, len(data), data.count(separator))

        return joined_with_heads(self.joining, shapes[first.last], block, max_record_bytes, moment, read)

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        """The groups of the shape that the record has, without those that took no part."""
        record = record.removesuffix(b"\r")
        for shape in self.shapes:
            found = shape.pattern.fullmatch(record)
            if found is not None:
                return self.finish(self._values(found.groupdict()))
        return None

    def _values(self, groups: dict[str, bytes | None]) -> dict[str, Any]:
        groups.pop("mark", None)
        texts = {name: text.decode("utf-8", "replace") for name, text in groups.items() if text is not None}
        for name in self.numbers & texts.keys():
            if is_number(texts[name]):
                texts[name] = int(texts[name])  # type: ignore[assignment]  # the mapping is one of text until here
        return texts

    def matches(self, record: bytes) -> bool:
        """Whether the record has a shape that is of this format alone."""
        record = record.removesuffix(b"\r")
        return any(shape.sure and shape.pattern.fullmatch(record) is not None for shape in self.shapes)


def is_number(text: str) -> bool:
    """Whether a text is a whole number of a size that all who read it can hold."""
    return len(text) <= 18 and text.isascii() and text.isdigit()


def single(block: bytes, separator: bytes) -> tuple[bytes, bytes]:
    """The records each behind a separator of one byte, for expressions to hold on to, and that byte.

    Separators of several bytes stand only in blocks that hold all bytes one would choose: the byte chosen then is left
    out of the records.
    """
    if len(separator) == 1:
        return separator + block, separator
    records = map(methodcaller("translate", None, _INSTEAD), block.split(separator))
    return _INSTEAD + _INSTEAD.join(records), _INSTEAD


def slices(data: bytes, separator: bytes) -> Iterator[tuple[int, int, int]]:
    """Parts of ``data`` of about SLICE_BYTES or SLICE_RECORDS that begin with a separator and end before one, and how
    many separators are in each."""
    start, last = 0, len(data) - 1
    while start < last:
        end = data.find(separator, start + SLICE_BYTES)
        end = last if end < 0 else end
        while (count := data.count(separator, start, end)) > SLICE_RECORDS:
            middle = start + (end - start) // 2
            end = data.rfind(separator, start + 1, middle)
            end = data.find(separator, middle) if end < 0 else end
        yield start, end, count
        start = end


class _Reader:
    """Reads the slices of one block."""

    def __init__(self, shapes: tuple[Shape, ...], separator: bytes, moment: Moment, data: bytes) -> None:
        self.shapes = shapes
        self.separator = separator
        self.moment = moment
        self.last = self._shape_of_first(data)

    def _shape_of_first(self, data: bytes) -> int:
        for index, shape in enumerate(self.shapes):
            found = _columns_of((shape,), self.separator, quick=True).match(data)
            if found is not None and any(found.groups()):
                return index
        return 0

    def read(self, data: bytes, start: int, end: int, count: int) -> tuple[array[int], bytes, int]:
        """Times, severities and how many of the ``count`` records were of no shape."""
        shape = self.shapes[self.last]
        rows = _columns_of((shape,), self.separator, quick=True).findall(data, start, end)
        if len(rows) == count and NOTHING not in rows:
            time, level = zip(*rows, strict=True)
            times = shape.times_of(time, self.moment)
            if not shape.quick or 0 not in times:
                return times, shape.severities(level), 0
        return self._read_odd(data, start, end)

    def _read_odd(self, data: bytes, start: int, end: int) -> tuple[array[int], bytes, int]:
        """The same by all shapes: columns of one have nothing where a record has another."""
        rows = _columns_of(self.shapes, self.separator, quick=False).findall(data, start, end)
        columns = list(zip(*rows, strict=True))
        self.last = _first_with_anything(columns)
        pairs = list(zip(self.shapes, columns[::2], columns[1::2], strict=True))
        pairs = [each for each in pairs if any(each[1]) or any(each[2])]
        times = [shape.times_of(time, self.moment) for shape, time, _ in pairs]
        severities = [shape.severities(level) for shape, _, level in pairs]
        unparsed = rows.count((b"",) * len(columns))
        if len(pairs) == 1:
            return times[0], severities[0], unparsed
        none = array("q", bytes(8 * len(rows)))
        return (
            array("q", reduce(_either, times, none)),
            bytes(reduce(_either, severities, bytes(len(rows)))),
            unparsed,
        )


NOTHING: Final = (b"", b"")


def _either(some: Any, others: Any) -> Any:
    return map(or_, some, others)


def _first_with_anything(columns: Sequence[tuple[bytes, ...]]) -> int:
    """Which shape the first record of any shape has."""
    for row in zip(*columns, strict=True):
        for index, text in enumerate(row):
            if text:
                return index // 2
    return 0


@lru_cache(64)
def _columns_of(shapes: tuple[Shape, ...], separator: bytes, quick: bool) -> re.Pattern[bytes]:
    """An expression that matches once for every record behind ``separator``, with two groups for each shape."""
    heads = [shape.quick if quick and shape.quick else _two_groups(shape) for shape in shapes]
    inside = re.escape(separator)
    return re.compile(inside + b"(?:" + b"|".join(head.replace(SEP, inside) for head in heads) + b"|)")


def _two_groups(shape: Shape) -> bytes:
    """The head with a group for the time and one for the level, in that order, and no other."""
    level = shape.level.encode()
    names = [name for name in _NAMED.findall(shape.head) if name in (b"time", level)]
    if names == [level, b"time"]:
        return b"(?=" + _only(shape.head, b"time") + b")" + _only(shape.head, level)
    head = _only(shape.head, *names)
    return {(b"time",): head + b"()", (level,): b"()" + head}.get(tuple(names), head)


def _only(head: bytes, *names: bytes) -> bytes:
    return _NAMED.sub(lambda found: b"(" if found[1] in names else b"(?:", head)


def severities_by(known: Mapping[bytes, int]) -> Severities:
    """Severities of levels of which ``known`` holds those that mean something else here than elsewhere."""

    class Known(dict[bytes, int]):
        def __missing__(self, level: bytes) -> int:
            severity = self[level] = severity_of(level)
            return severity

    return lambda levels: bytes(map(Known(known).__getitem__, levels))
