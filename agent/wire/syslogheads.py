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
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Struct

from agent.wire.severity import SYSLOG
from agent.wire.timestamps import Layout, time_of, times_of

if TYPE_CHECKING:
    from agent.wire.format import Moment

MOST_PRIORITY: Final = 191
NO_PRIORITY: Final = 255
RFC5424_VERSION: Final = b"1"
_STAMP_AND_TAG: Final = rb"([^ \n:\[]*(?::(?= )|\[)|[^ \n]* [^ \n:\[]+[:\[]|[^ \n]*)"
_NO_ZONE: Final = rb"(?!(?:UTC|GMT|[12][0-9]{3}|[+-][0-9]{2}:?[0-9]{2}):? |[A-Z]{3,4}: %)"
"""What some routers put behind a time is no host."""
_REST_OR_ALL: Final = rb"[^\n]*\n|[^\n]*\n"


class _Shape(NamedTuple):
    """An expression that finds the columns of every message, and what they are; of one that is otherwise all are
    empty. ``begins`` are priority and second, ``layout`` is what the latter is; ``tags`` are ``names`` as RFC 3164 has
    them."""

    pattern: re.Pattern[bytes]
    columns: tuple[str, ...]
    layout: Layout = "iso"


_SHAPES: Final = (
    _Shape(
        re.compile(rb"<([0-9]{1,3}>1 [0-9].{18})([^ ]*) ([^ ]+ [^ ]+) .*\n|.*\n"),
        ("begins", "fractions", "names"),
    ),
    _Shape(
        re.compile(rb"<([0-9]{1,3}>[A-Z].{14}) " + _NO_ZONE + rb"([^ ]* [^ :\[]+[:\[]).*\n|.*\n"),
        ("begins", "names"),
        "syslog",
    ),
    _Shape(
        re.compile(rb"<([0-9]{1,3}>[0-9]{4}-.{14})([^ ]*) ([^ ]* [^ :\[]+[:\[]).*\n|.*\n"),
        ("begins", "fractions", "names"),
    ),
)
"""What most senders send, each by an expression of its own. It may take two lines for one message: then there are fewer
messages than lines, and the expression for all does it again. That halves the time."""

_ANY_SHAPE: Final = _Shape(
    re.compile(
        rb"(?:<([0-9]{1,3}>))?(?:(1 )?([0-9].{18})([^ \n]*)|([A-Z].{14})) "
        + _NO_ZONE
        + rb"(?(2)([^ \n]+ [^ \n]+) |"
        + _STAMP_AND_TAG
        + rb")"
        + _REST_OR_ALL
    ),
    ("begins", "version", "seconds", "fractions", "stamps", "names", "tags"),
)
_SLICE_BYTES: Final = 64 << 10
"""About how much is looked at in one call, during which no other thread runs; and what it gives is small enough to stay
near the processor until it has been used."""
_SEVERITIES: Final = bytes(SYSLOG[each & 7] if each <= MOST_PRIORITY else 0 for each in range(256))
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
_WHOLE_DIGITS: Final = 11
"""With the comma between them; the first lacks its 1."""
_INTEGERS: Final = msgspec.json.Decoder(list[int])


class Heads(Struct, frozen=True):
    """One value for each message: ``priorities``, NO_PRIORITY where there is none; ``times_ns``, 0 where there is none;
    ``names`` as they stand there, for ``host_and_app``. ``unparsed`` messages were none. ``timed``: each is known to
    have a time."""

    priorities: bytes
    times_ns: array[int]
    names: Sequence[bytes]
    unparsed: int = 0
    timed: bool = False

    @property
    def severities(self) -> bytes:
        """OpenTelemetry's numbers, 0 where there is no priority."""
        return self.priorities.translate(_SEVERITIES)


def heads_of(block: bytes, messages: Sequence[bytes] | None, moment: Moment) -> Heads:
    """What the messages in ``block`` begin with, each of which a line feed ends and none holds.

    ``messages`` are the same as they were, where a line feed of their own has been replaced.
    """
    names: list[bytes] = []
    same: dict[bytes, bytes] = {}
    begun = _Begun(moment)
    priorities: list[bytes] = []
    times_ns = array("q")
    unparsed = at = 0
    timed = True
    while at < len(block):
        end = block.find(b"\n", at + _SLICE_BYTES) + 1 or len(block)
        heads = _heads(block, at, end, begun)
        if not heads.timed and heads.times_ns.count(0):
            timed = False
            lines = block[at:end].split(b"\n") if messages is None else messages[len(names) :]
            heads = _with_the_odd(heads, lines, moment)
        priorities.append(heads.priorities)
        names += map(same.setdefault, heads.names, heads.names)  # a few objects, instead of one for each message
        times_ns += heads.times_ns
        unparsed += heads.unparsed
        at = end
        del heads  # its memory is the next one's
    return Heads(b"".join(priorities), times_ns, names, unparsed, timed)


def _heads(block: bytes, at: int, end: int, begun: _Begun) -> Heads:
    """The heads of the lines in ``block[at:end]``; those that are not of the usual shape have no time."""
    for shape in _SHAPES:
        found = shape.pattern.match(block, at, end)
        if found is not None and found[1] is not None:
            columns = _columns(shape, block, at, end)
            names = columns["names"]
            if names.count(b"") * _ODD_SHARE <= len(names) == block.count(b"\n", at, end):
                return begun.heads(columns["begins"], columns.get("fractions"), names, shape.layout)
            break
    columns = _columns(_ANY_SHAPE, block, at, end)
    begins, names = columns["begins"], tuple(map(add, columns["names"], columns["tags"]))
    times_ns = _times(columns["seconds"], columns["fractions"], columns["stamps"], begun.moment)
    return Heads(begun.priorities(begins, set(begins)), times_ns, names)


def _columns(shape: _Shape, block: bytes, at: int, end: int) -> dict[str, tuple[bytes, ...]]:
    return dict(zip(shape.columns, zip(*shape.pattern.findall(block, at, end), strict=True), strict=True))


class _Begun:
    """What begins of messages say, kept from slice to slice of a block: priorities and seconds are few."""

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self._priorities: dict[bytes, int] = {}
        self._starts: dict[tuple[str, bytes], dict[bytes, int]] = {}

    def heads(
        self, begins: Sequence[bytes], fractions: Sequence[bytes] | None, names: Sequence[bytes], layout: Layout
    ) -> Heads:
        """The heads of messages that begin so; empty begins have no time."""
        if fractions is not None and not fractions[0].startswith(b"."):  # nothing but a zone
            begins, fractions = tuple(map(add, begins, fractions)), None
        distinct = set(begins)
        priorities = self.priorities(begins, distinct)
        if fractions is None:
            starts = self._seconds(distinct, b"", layout, 0)
            timed = all(map(starts.__getitem__, distinct))
            return Heads(priorities, array("q", map(starts.__getitem__, begins)), names, timed=timed)
        times_ns, timed = self._with_fractions(begins, fractions, distinct)
        return Heads(priorities, times_ns, names, timed=timed)

    def priorities(self, begins: Sequence[bytes], distinct: set[bytes]) -> bytes:
        """The priorities, each a byte."""
        for begin in distinct.difference(self._priorities):
            self._priorities[begin] = _priority(begin)
        return bytes(map(self._priorities.__getitem__, begins))

    def _with_fractions(
        self, begins: Sequence[bytes], fractions: Sequence[bytes], distinct: set[bytes]
    ) -> tuple[array[int], bool]:
        """The times, and whether each is known to be one."""
        values, tail = _numbers(fractions)
        starts = self._seconds(distinct, tail, "iso", _WHOLE)
        if values is None or any(starts[begin] == -_WHOLE for begin in distinct if begin):
            return times_of(list(map(add, map(_second, begins), fractions)), "iso", self.moment), False
        times_ns = array("q", map(add, map(starts.__getitem__, begins), values))
        if b"" in distinct:
            for i in [i for i, begin in enumerate(begins) if not begin]:
                times_ns[i] = 0
        return times_ns, b"" not in distinct

    def _seconds(self, distinct: set[bytes], tail: bytes, layout: Layout, less_ns: int) -> dict[bytes, int]:
        """When the seconds that begins say begin in the zone that ``tail`` is, so much less; 0 less that for none."""
        known = self._starts.setdefault((layout, tail), {})
        if new := distinct.difference(known):
            texts = [text and text + tail for text in map(_second, new)]
            known.update(zip(new, (start - less_ns for start in times_of(texts, layout, self.moment)), strict=True))
        return known


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


def _priority(begin: bytes) -> int:
    """The priority that a message begins with, without its ``<``; NO_PRIORITY for none."""
    digits = begin.partition(b">")[0]
    return int(digits) if digits and int(digits) <= MOST_PRIORITY else NO_PRIORITY


def _with_the_odd(heads: Heads, messages: Sequence[bytes], moment: Moment) -> Heads:
    """The same, those without a time looked at again, one by one."""
    priorities, names, times_ns = bytearray(heads.priorities), list(heads.names), heads.times_ns
    unparsed = 0
    for i in [i for i, time_ns in enumerate(times_ns) if not time_ns]:
        head = find_head(messages[i])
        unparsed += head is None
        head = head or Head(b"")
        priorities[i], names[i] = _priority(head.priority), head.names
        times_ns[i] = time_of(head.time, head.layout, moment) if head.time else 0
    return Heads(bytes(priorities), times_ns, names, unparsed)


def _times(seconds: Sequence[bytes], fractions: Sequence[bytes], stamps: Sequence[bytes], moment: Moment) -> array[int]:
    """The times of all messages, each of which has one of the two kinds, or none."""
    without_years = _without_years(stamps, moment)
    if not any(seconds):
        return without_years
    return array("q", map(add, times_of(list(map(add, seconds, fractions)), "iso", moment), without_years))


def _numbers(fractions: Sequence[bytes]) -> tuple[list[int] | None, bytes]:
    """The nanoseconds of fractions that are all written alike, each more by a second; None where they are not. And the
    zone that stands behind them.

    ``.003Z .250Z …`` becomes ``1003000000,1250000000,…``, so that one call reads all numbers.
    """
    first = _FRACTION.fullmatch(fractions[0])
    if first is None:
        return None, b""
    digits, tail = first.groups()
    zeros = b"0" * (9 - len(digits))
    if b"" in fractions:
        fractions = [fraction or fractions[0] for fraction in fractions]
    if tail == b"Z":
        text = (zeros + b",1").join(fractions).translate(None, b".Z") + zeros
    else:
        text = (b" ".join((*fractions, b""))).replace(tail + b" ", zeros + b",1").replace(b".", b"")[:-2]
    try:
        values = _INTEGERS.decode(b"[1%s]" % text)
    except msgspec.DecodeError:
        return None, tail
    # As many digits as there have to be, none of them too large: none is too small.
    alike = len(values) == len(fractions) and len(text) == _WHOLE_DIGITS * len(values) - 2 and max(values) < 2 * _WHOLE
    return values if alike else None, tail


def _without_years(stamps: Sequence[bytes], moment: Moment) -> array[int]:
    """There are few of them: one a second."""
    distinct = list(set(stamps))
    table = dict(zip(distinct, times_of(distinct, "syslog", moment), strict=True))
    return array("q", map(table.__getitem__, stamps))


def _cisco(found: re.Match[bytes]) -> tuple[bytes, Layout]:
    """The time of a message that may have more to it than RFC 3164 says: a year, a fraction, a zone."""
    year, zone = found["year"] or found["behind"], found["zone"] or b""
    if not year:
        return b"%s %s%s" % (found["stamp"], found["clock"], b" " * bool(zone) + zone), "syslog"
    month = _MONTHS.find(found["stamp"][:3]) // 3 + 1
    day = found["stamp"][4:].replace(b" ", b"0")
    tail = b"Z" if zone in (b"UTC", b"GMT") else zone
    return b"%s-%02d-%sT%s%s" % (year, month, day, found["clock"], tail), "iso"


def _second(begin: bytes) -> bytes:
    """The time in what a message begins with, without its ``<``."""
    return begin.partition(b">")[2].removeprefix(b"1 ")


def _possible(priority: bytes | None) -> bool:
    return priority is None or int(priority) <= MOST_PRIORITY
