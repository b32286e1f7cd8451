"""This file is what a log format can say about records: when they happened, how severe they were, what they hold.

    block of records ──columns──▶ times · severities · how many were not of the format       (per block, when read)
    one record       ──fields───▶ {"status": 404, "path": "/", …}                            (when somebody asks)
    block of lines   ──joins────▶ where records of several lines begin                       (before both)

A format is a module of agent.wire.formats with a ``FORMAT`` that fulfils ``Format``; it never raises on any bytes.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from agent.batch import Logs


class Moment(Struct, frozen=True):
    """When records are read, for times that leave something out: the wall clock, and the zone of times without one."""

    now_ns: int
    zone: tzinfo


class Columns(Struct, frozen=True):
    """What a format read from the records of a batch, one value each: ``times_ns`` 0 and ``severities`` 0 where a
    record says none. None where the format says none at all. ``unparsed`` records were not of the format."""

    times_ns: array[int] | None = None
    severities: bytes | None = None
    unparsed: int = 0


class Joining(Struct, frozen=True):
    """How records of several lines are told apart, by bytes alone.

    ``starts`` matches at a newline whose next line begins a record (``\\n(?=…)``); a line at which it does not match
    goes on the record before it.
    """

    starts: re.Pattern[bytes]
    by_beginning: bool = False
    """Whether the beginning of a line is all there is to it: what follows a time and a level plays no part."""


class Joined(Struct, frozen=True):
    """Lines joined to ``count`` records, each followed by ``separator``, and what was read from them."""

    block: bytes
    separator: bytes
    count: int
    columns: Columns


AtOnce = Callable[[bytes, int, Moment], Joined | None]
"""What a format may have beside, as ``joined``: the lines of a block as records, none longer than so many bytes, and
their columns in the same look; None where it takes two."""


class Format(Protocol):
    """One way in which logs are written."""

    @property
    def name(self) -> str:
        """What ``parse`` and ``Logs.format`` call it."""
        ...

    @property
    def joining(self) -> Joining | None:
        """How its records of several lines are joined; None where each line is a record."""
        ...

    def columns(self, batch: Logs, moment: Moment) -> Columns:
        """Times and severities of the records of ``batch``, without Python of its own for each where that can be."""
        ...

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        """What one record holds, by name: text, numbers, booleans, None, or mappings and lists of these; the message
        itself, where there is one, as ``message``. None where the record is not of the format."""
        ...

    def matches(self, record: bytes) -> bool:
        """Whether a record is surely of this format, for telling formats by the first lines of a file."""
        ...
