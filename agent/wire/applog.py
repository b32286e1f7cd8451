"""This file knows what the logs of programs have in common, whatever language they are written in.

    2026-11-20 16:40:01,123 [main] ERROR org.example.Orders - order 18 failed        time, thread, level, logger
    java.lang.IllegalStateException: no price                                        exception_type, exception_message
        at org.example.Orders.price(Orders.java:12)                                  stack, from the exception on

A program's layout is its own; what is read of each is its time, and its level where a word in the next few is one.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from operator import add
from typing import Any, Final

from agent.wire.format import Moment
from agent.wire.shapes import Severities, Shape, severities_by
from agent.wire.timestamps import NANOSECONDS, times_of

ISO_TIME: Final = (
    rb"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?+"
    rb"(?:Z| ?[+-]\d\d(?::?\d\d)?+| (?:UTC|GMT|[A-Z]{1,3}T)\b)?+"
)
"""Of zones without a number only those that are no level's name: ``INFO`` stands there too."""
ISO: Final = rb"(?P<time>" + ISO_TIME + rb")"
DAY_NS: Final = 86_400 * NANOSECONDS
AHEAD_NS: Final = 3_600 * NANOSECONDS
WITHIN: Final = rb"[^\nSEP]{0,160}?"
"""What may stand between a time and a level: threads, loggers, process ids."""


def levels_of(names: bytes) -> bytes:
    """An expression for one of ``names`` (``A|B``) as a word of its own; most bytes are ruled out by the first.

    A name in small letters may be any word of a message, so it counts only in brackets, as structlog has it.
    """
    each = names.split(b"|")
    first = bytes({name[0] for name in each})
    small = b"|".join(name for name in each if name[:1].islower())
    capital = b"|".join(name for name in each if not name[:1].islower())
    words = capital + (rb"|(?<=\[)(?:" + small + rb")(?= {0,9}\])" if small else b"")
    return rb"(?=[" + first + rb"])(?<![\w.-])(?P<level>" + words + rb")(?![\w.-])"


def head(time: bytes, names: bytes, **more: Any) -> Shape:
    """The shape of records that begin with ``time``, with a level near it or without, for columns."""
    return Shape(time + rb"(?>" + WITHIN + levels_of(names) + rb")?+", names=names, **more)


def levelled(time: bytes, names: bytes, *, sure: bool, **more: Any) -> tuple[Shape, Shape]:
    """The shapes of records that begin with ``time``: with a level near it, and without."""
    between = rb"(?>" + WITHIN + levels_of(names) + rb")"
    after = rb" {0,9}+[\]:>)|]*+[ \t]*+(?:- |: )?+(?P<message>.*)"
    return (
        Shape(time + between, after, sure=sure, **more),
        Shape(time, rb"[\],:]*+[ \t]*+(?P<message>.*)", sure=False, **more),
    )


def clock_times(texts: Sequence[bytes], moment: Moment) -> array[int]:
    """Times of which only the hour, minute and second are said: of today, or of yesterday where that is still ahead."""
    now = datetime.fromtimestamp(moment.now_ns // NANOSECONDS, UTC).astimezone(moment.zone)
    today = now.strftime("%Y-%m-%d ").encode()
    times = times_of(list(map(add, repeat(today), texts)), "iso", moment)
    if max(times, default=0) <= moment.now_ns + AHEAD_NS:
        return times
    return array("q", (each - DAY_NS if each > moment.now_ns + AHEAD_NS else each for each in times))


class _Rewritten(dict[bytes, bytes]):
    """Times as ISO 8601 has them, by how they were written."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern

    def __missing__(self, text: bytes) -> bytes:
        found = self.pattern.fullmatch(text)
        iso = self[text] = b"" if found is None else _iso(found.groupdict(b""))
        return iso


_MONTHS: Final = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")


def _iso(parts: Mapping[str, bytes]) -> bytes:
    """A date of whose parts the month is a name or a number, the year has two digits or four, the hour may be of 12."""
    month = parts["month"].lower()
    number = _MONTHS.index(month) + 1 if month in _MONTHS else int(month) if month.isdigit() else 0
    hour = int(parts["hour"])
    if half := parts.get("half"):
        hour = hour % 12 + 12 * (half == b"PM")
    date = b"%04d-%02d-%02d" % (int(b"20"[: 4 - len(parts["year"])] + parts["year"]), number, int(parts["day"]))
    return b"%s %02d:%s" % (date, hour, parts["rest"])


def rewritten(pattern: bytes) -> Any:
    """Reads times that ``pattern`` takes apart into year, month, day, hour and the rest."""
    compiled = re.compile(pattern)

    def read(texts: Sequence[bytes], moment: Moment) -> array[int]:
        return times_of(list(map(_Rewritten(compiled).__getitem__, texts)), "iso", moment)

    return read


def severities(**known: int) -> Severities:
    """Severities of levels in capitals, of which some mean something else here than elsewhere."""
    return severities_by({name.encode(): severity for name, severity in known.items()})


def cut(groups: dict[str, Any], at: int, stack_at: int | None = None) -> dict[str, Any]:
    """The same with the message ended at ``at``, and what begins at ``stack_at`` as ``stack``."""
    message = groups["message"]
    kept = {**groups, "message": message[:at].rstrip()}
    return kept if stack_at is None else {**kept, "stack": message[stack_at:].rstrip()}
