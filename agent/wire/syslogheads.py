"""This file reads the beginnings of syslog messages, a block of them at a time.

    <34>1 2003-10-11T22:14:15.003Z host app 123 ID47 [data] text    RFC 5424
    <34>Oct 11 22:14:15 host app[123]: text                         RFC 3164
    <34>Oct 11 22:14:15 app[123]: text                              what syslog(3) writes into /dev/log
    <34>2003-10-11T22:14:15.003+02:00 host app[123]: text           RFC 3164 with the time of RFC 5424, as rsyslog sends
    Oct 11 22:14:15 host app[123]: text                             in files: without the priority
    <34>text · <189>57: *Mar  1 2003 22:14:15.003 UTC: %SYS-5-…     one at a time: what else there is

One expression finds the columns of all usual messages; each message that it passes over is looked at on its own.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import repeat
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Struct

from agent.wire.severity import SYSLOG
from agent.wire.timestamps import Layout, time_of, times_of

if TYPE_CHECKING:
    from agent.wire.format import Moment

MOST_PRIORITY: Final = 191
RFC5424_VERSION: Final = b"1"
_STAMP_AND_TAG: Final = rb"([^ \n:\[]*(?::(?= )|\[)|[^ \n]* [^ \n:\[]+[:\[]|[^ \n]*)"
_NO_ZONE: Final = rb"(?!(?:UTC|GMT|[12][0-9]{3}|[+-][0-9]{2}:?[0-9]{2}):? |[A-Z]{3,4}: %)"
"""What some routers put behind a time is no host."""
_REST_OR_ALL: Final = rb"[^\n]*\n|[^\n]*\n"


class _Shape(NamedTuple):
    """An expression that finds the columns of every message, and what they are; of one that is otherwise all are
    empty. ``tags`` are ``names`` as RFC 3164 has them."""

    pattern: re.Pattern[bytes]
    columns: tuple[str, ...]


_SHAPES: Final = (
    _Shape(
        re.compile(rb"<([0-9]{1,3})>1 ([0-9].{18})([^ \n]*) ([^ \n]+ [^ \n]+) " + _REST_OR_ALL),
        ("priorities", "seconds", "fractions", "names"),
    ),
    _Shape(
        re.compile(rb"<([0-9]{1,3})>([A-Z].{14}) " + _NO_ZONE + rb"([^ \n]* [^ \n:\[]+[:\[])" + _REST_OR_ALL),
        ("priorities", "stamps", "names"),
    ),
    _Shape(
        re.compile(rb"<([0-9]{1,3})>([0-9]{4}-.{14})([^ \n]*) ([^ \n]* [^ \n:\[]+[:\[])" + _REST_OR_ALL),
        ("priorities", "seconds", "fractions", "names"),
    ),
)
"""What most senders send, each by an expression of its own, which takes two thirds of the time."""

_ANY_SHAPE: Final = _Shape(
    re.compile(
        rb"(?:<([0-9]{1,3})>)?(?:(1 )?([0-9].{18})([^ \n]*)|([A-Z].{14})) "
        + _NO_ZONE
        + rb"(?(2)([^ \n]+ [^ \n]+) |"
        + _STAMP_AND_TAG
        + rb")"
        + _REST_OR_ALL
    ),
    ("priorities", "version", "seconds", "fractions", "stamps", "names", "tags"),
)
_SLICE_BYTES: Final = 128 << 10
"""About how much is looked at in one call, during which no other thread runs."""
_ODD_SHARE: Final = 8
"""One message in so many may be of another shape than the first of its block."""

_ALONE: Final = re.compile(
    rb"(?:<(?P<pri>[0-9]{1,3})>)?"
    rb"(?:(?P<version>[1-9][0-9]?) (?:-|(?P<iso>[0-9][^ ]*)) (?P<names>[^ ]+ [^ ]+)(?= |\Z)"
    rb"|(?:(?P<short>[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+)"
    rb"|(?:[0-9]+: )?(?:[^ :]+: )?[*.]?(?P<stamp>[A-Z][a-z]{2} [ 0-9][0-9])(?: (?P<year>[12][0-9]{3}))?"
    rb" (?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)(?: (?P<behind>[12][0-9]{3})(?= ))?"
    rb"(?: (?P<zone>UTC|GMT|[+-][0-9]{2}:?[0-9]{2}|[A-Z]{3,4}(?=: %))(?=[ :]))?:?)"
    rb" (?P<tag>[^ :\[]*(?::(?= )|\[)|[^ ]* [^ :\[]+[:\[]|[^ ]*))"
)
_MONTHS: Final = b"JanFebMarAprMayJunJulAugSepOctNovDec"
_PRIORITY: Final = re.compile(rb"<([0-9]{1,3})>")
_FRACTION: Final = re.compile(rb"\.([0-9]{1,9})(Z|[+-][0-9]{2}:[0-9]{2})")
_WHOLE: Final = 1_000_000_000
_INTEGERS: Final = msgspec.json.Decoder(list[int])


class Heads(Struct, frozen=True):
    """One value for each message: ``priorities`` as digits, empty where there is none; ``times_ns``, 0 where there is
    none; ``names`` as they stand there, for ``host_and_app``. ``unparsed`` messages were none."""

    priorities: Sequence[bytes]
    times_ns: array[int]
    names: Sequence[bytes]
    unparsed: int

    @property
    def severities(self) -> bytes:
        """OpenTelemetry's numbers, 0 where there is no priority."""
        table = {each: severity_of(each) for each in set(self.priorities)}
        return bytes(map(table.__getitem__, self.priorities))


def heads_of(block: bytes, messages: Sequence[bytes] | None, moment: Moment) -> Heads:
    """What the messages in ``block`` begin with, each of which a line feed ends and none holds."""
    if not block:
        return Heads((), array("q"), (), 0)
    columns = _columns_of(block)
    names = columns["names"]
    if "tags" in columns:
        names = tuple(map(add, names, columns["tags"]))
    times_ns = _times(columns.get("seconds"), columns.get("fractions", ()), columns.get("stamps"), moment)
    heads = Heads(columns["priorities"], times_ns, names, 0)
    if not times_ns.count(0):
        return heads
    return _with_the_odd(heads, block.split(b"\n") if messages is None else messages, moment)


def _columns_of(block: bytes) -> dict[str, tuple[bytes, ...]]:
    for shape in _SHAPES:
        found = shape.pattern.match(block)
        if found is not None and found[1] is not None:
            columns = _columns(shape, block)
            names = columns["names"]
            if names.count(b"") * _ODD_SHARE <= len(names):
                return columns
    return _columns(_ANY_SHAPE, block)


def _columns(shape: _Shape, block: bytes) -> dict[str, tuple[bytes, ...]]:
    rows: list[tuple[bytes, ...]] = []
    at, size = 0, len(block)
    while at < size:
        end = block.find(b"\n", at + _SLICE_BYTES) + 1 or size
        rows += shape.pattern.findall(block, at, end)
        at = end
    return dict(zip(shape.columns, zip(*rows, strict=True), strict=True))


class Head(Struct, frozen=True):
    """What one message begins with, as bytes. ``names`` are of the host and the application, for ``host_and_app``, and
    begin at ``names_at``. ``version`` is empty for RFC 3164, ``layout`` that of ``time``."""

    priority: bytes
    version: bytes = b""
    time: bytes = b""
    layout: Layout = "iso"
    names: bytes = b""
    names_at: int = 0


def find_head(message: bytes) -> Head | None:
    """What a message begins with; None where it is none."""
    found = _ALONE.match(message)
    if found is None or not _possible(found["pri"]) or (found["version"] and not found["pri"]):
        alone = _PRIORITY.match(message)
        return Head(alone[1], names_at=alone.end()) if alone is not None and _possible(alone[1]) else None
    priority = found["pri"] or b""
    if found["version"]:
        return Head(priority, found["version"], found["iso"] or b"", "iso", found["names"], found.start("names"))
    names, names_at = found["tag"], found.start("tag")
    if found["short"]:
        return Head(priority, b"", found["short"], "iso", names, names_at)
    return Head(priority, b"", *_cisco(found), names, names_at)


def host_and_app(names: bytes) -> tuple[bytes, bytes]:
    """The host and the application of what Heads has as names; empty where there is none."""
    first, space, second = names.partition(b" ")
    if not space and names.endswith((b":", b"[")):
        first, second = b"", names
    second = second.rstrip(b":[")
    return b"" if first == b"-" else first, b"" if second == b"-" else second


def severity_of(priority: bytes) -> int:
    """OpenTelemetry's number of a priority, 0 where it is none."""
    return SYSLOG[int(priority) & 7] if priority and int(priority) <= MOST_PRIORITY else 0


def _with_the_odd(heads: Heads, messages: Sequence[bytes], moment: Moment) -> Heads:
    """The same, those without a time looked at again, one by one."""
    priorities, names, times_ns = list(heads.priorities), list(heads.names), heads.times_ns
    unparsed = 0
    for i in [i for i, time_ns in enumerate(times_ns) if not time_ns]:
        head = find_head(messages[i])
        unparsed += head is None
        head = head or Head(b"")
        priorities[i], names[i] = head.priority, head.names
        times_ns[i] = time_of(head.time, head.layout, moment) if head.time else 0
    return Heads(priorities, times_ns, names, unparsed)


def _times(
    seconds: Sequence[bytes] | None, fractions: Sequence[bytes], stamps: Sequence[bytes] | None, moment: Moment
) -> array[int]:
    """The times of all messages, each of which has one of the two kinds, or none."""
    without_years = None
    if stamps is not None and (seconds is None or any(stamps)):
        without_years = _without_years(stamps, moment)
    if seconds is None or not any(seconds):
        return without_years or array("q", bytes(8 * len(seconds or ())))
    times_ns = _with_fractions(seconds, fractions, moment)
    if times_ns is None:
        times_ns = times_of(list(map(add, seconds, fractions)), "iso", moment)
    return times_ns if without_years is None else array("q", map(add, times_ns, without_years))


def _without_years(stamps: Sequence[bytes], moment: Moment) -> array[int]:
    """There are few of them: one a second."""
    distinct = list(set(stamps))
    table = dict(zip(distinct, times_of(distinct, "syslog", moment), strict=True))
    return array("q", map(table.__getitem__, stamps))


def _with_fractions(seconds: Sequence[bytes], fractions: Sequence[bytes], moment: Moment) -> array[int] | None:
    """The times where all are written alike, with a fraction and a zone; else None.

    ``.003Z .250Z …`` becomes ``1003000000,1250000000,…``, so that one call reads all numbers.
    """
    first = _FRACTION.fullmatch(fractions[0])
    if first is None:
        return None
    digits, tail = first.groups()
    numbers = b" ".join((*fractions, b"")).replace(tail + b" ", b"0" * (9 - len(digits)) + b",").replace(b".", b"1")
    try:
        values = _INTEGERS.decode(b"[%s]" % numbers[:-1])
    except msgspec.DecodeError:
        return None
    if len(values) != len(seconds) or min(values) < _WHOLE or max(values) >= 2 * _WHOLE:
        return None
    distinct = list(set(seconds))
    starts_ns = times_of(list(map(add, distinct, repeat(tail))), "iso", moment)
    if starts_ns.count(0):
        return None
    table = {text: start_ns - _WHOLE for text, start_ns in zip(distinct, starts_ns, strict=True)}
    return array("q", map(add, map(table.__getitem__, seconds), values))


def _cisco(found: re.Match[bytes]) -> tuple[bytes, Layout]:
    """The time of a message that may have more to it than RFC 3164 says: a year, a fraction, a zone."""
    year, zone = found["year"] or found["behind"], found["zone"] or b""
    if not year:
        return b"%s %s%s" % (found["stamp"], found["clock"], b" " * bool(zone) + zone), "syslog"
    month = _MONTHS.find(found["stamp"][:3]) // 3 + 1
    day = found["stamp"][4:].replace(b" ", b"0")
    tail = b"Z" if zone in (b"UTC", b"GMT") else zone
    return b"%s-%02d-%sT%s%s" % (year, month, day, found["clock"], tail), "iso"


def _possible(priority: bytes | None) -> bool:
    return priority is None or int(priority) <= MOST_PRIORITY
