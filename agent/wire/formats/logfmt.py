"""This file reads logs of ``name=value`` pairs, as Go's loggers, Heroku and Grafana's programs write them.

    time=2026-11-20T16:40:01.123Z level=INFO msg="listening on :8080" port=8080                    slog, logrus
    ts=2026-11-20T16:40:01.123Z caller=main.go:42 level=info msg="ready to \\"serve\\""              go-kit

A logger writes time and level among its first pairs, always in the same order. So a record tells the shape of others:
which pairs stand before its time and its level. Records that are not of the shape of the first are looked at by that
of the first among them, and so on.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import compress, islice, repeat
from operator import and_, is_not, itemgetter, methodcaller, not_
from typing import TYPE_CHECKING, Any, Final

from agent.wire.columns import moments
from agent.wire.format import Columns, Joining, Moment
from agent.wire.records import pieces
from agent.wire.severity import severities_of

if TYPE_CHECKING:
    from agent.batch import Logs

TIMES: Final = (b"time", b"ts", b"timestamp", b"t", b"@timestamp", b"datetime", b"date", b"at_time")
LEVELS: Final = (b"level", b"lvl", b"severity", b"loglevel", b"log.level", b"lev")
"""Names that say time or level; the first pair of such a name counts."""

_TIME_KEYS, _LEVEL_KEYS = frozenset(TIMES), frozenset(LEVELS)
MESSAGES: Final = ("message", "msg", "event")
MOST_PAIRS: Final = 16
"""Time and level are looked for among so many pairs."""
MOST_SHAPES: Final = 16
"""Shapes told in one piece of a block; what is of none of them goes without time and level."""

_KEY: Final = rb"[A-Za-z_@][\w.@/-]*+"
_VALUE: Final = rb'(?:"(?:[^"\\\n]++|\\.)*+"|[^ \t\r\n\v\f"]*+)'
_PAIR: Final = re.compile(rb"(%s)=(%s)(?=\s|\Z)\s*+" % (_KEY, _VALUE))
_ALL: Final = re.compile(rb"\s*+(?:%s=%s(?:\s++|\Z)){2,}" % (_KEY, _VALUE))
_FIELD: Final = re.compile(rb'([^\s="]++)(?:=("(?:[^"\\]|\\.)*+"|[^\s"]*+))?')
_FIRST: Final = re.compile(rb"\s*+%s=%s(?=\s|\Z)" % (_KEY, _VALUE))


def _search(names: Sequence[bytes]) -> Any:
    return re.compile(rb"(?<!\S)(?:%s)=" % b"|".join(map(re.escape, names))).search


_TELLS: Final = _search((*TIMES, *LEVELS))
_ALSO: Final = {(True, False): _search(TIMES), (False, True): _search(LEVELS)}
"""By whether a shape lacks time and level: finds records in which it may stand further on."""

_BOTH: Final = methodcaller("group", "time", "level")
_TIME, _LEVEL = itemgetter(0), itemgetter(1)

Pair = tuple[bytes, bytes]
Shape = tuple[tuple[bytes, bool], ...]
"""The names of pairs, and whether the value is in quotation marks, up to the later one of time and level."""


class Logfmt:
    """The format."""

    name: Final = "logfmt"
    joining: Joining | None = None

    def columns(self, batch: Logs, moment: Moment) -> Columns:
        """Times and levels; what does not begin with a pair is not of the format."""
        times = array("q")
        severities: list[bytes] = []
        unparsed = 0
        for records in pieces(batch):
            pairs, unknown = _pairs(records)
            unparsed += unknown
            times.extend(moments(list(map(_TIME, pairs)), moment))
            severities.append(severities_of(map(_LEVEL, pairs)))
        return Columns(times, b"".join(severities), unparsed)

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        """The values of all pairs, as texts; True for a name alone. The message also as ``message``."""
        if _PAIR.match(record.lstrip()) is None:
            return None
        found = {key.decode(errors="replace"): _value(value) for key, value in map(_groups, _FIELD.finditer(record))}
        named = next((name for name in MESSAGES if name in found), None)
        return found if named in (None, "message") else {**found, "message": found[named]}

    def matches(self, record: bytes) -> bool:
        """Whether it is nothing but pairs, at least two."""
        return _ALL.fullmatch(record) is not None


def _pairs(records: Sequence[bytes]) -> tuple[list[Pair], int]:
    """Time and level of each record, empty for none, and how many of the records do not begin with a pair."""
    pairs: list[Pair] = [(b"", b"")] * len(records)
    left = list(range(len(records)))
    unparsed, filtered = 0, False
    for _ in range(MOST_SHAPES):
        shape = _shape(records[left[0]]) if left else None
        if shape is None:
            break
        if not shape:
            if filtered:  # what looks like time or level stands in other values
                left = [at for at in left if _shape(records[at])]
            else:
                left, unparsed, filtered = *_telling(records, left), True
            continue
        left = _take(records, left, shape, pairs)
    for at in left:
        pairs[at] = _alone(records[at])
    return pairs, unparsed


def _take(records: Sequence[bytes], left: Sequence[int], shape: Shape, pairs: list[Pair]) -> list[int]:
    """Notes the pairs of those of the records at ``left`` that are of the shape; returns the others."""
    some = list(map(records.__getitem__, left))
    matches = list(map(_matcher(shape), some))
    found = list(map(is_not, matches, repeat(None)))
    if len(some) == len(records) and all(found):
        pairs[:] = map(_BOTH, matches)
    else:
        for at, pair in zip(compress(left, found), map(_BOTH, compress(matches, found)), strict=True):
            pairs[at] = pair
    also = _ALSO.get((_key_of(shape, _TIME_KEYS) is None, _key_of(shape, _LEVEL_KEYS) is None))
    if also is not None:
        for at in compress(left, map(and_, found, map(is_not, map(also, some), repeat(None)))):
            pairs[at] = _alone(records[at])
    return list(compress(left, map(not_, found)))


def _telling(records: Sequence[bytes], left: Sequence[int]) -> tuple[list[int], int]:
    """Which of the records at ``left`` may say time or level, and how many of the others do not begin with a pair."""
    tells = list(map(is_not, map(_TELLS, map(records.__getitem__, left)), repeat(None)))
    mute = map(records.__getitem__, compress(left, map(not_, tells)))
    return list(compress(left, tells)), sum(map(not_, map(_FIRST.match, mute)))


def _shape(record: bytes) -> Shape:
    """The shape of a record; empty where it says neither time nor level, or nothing at all."""
    found = [(key, value.startswith(b'"')) for key, value in islice(_first_pairs(record), MOST_PAIRS)]
    keys = [key for key, _ in found]
    wanted = (_key_of(found, _TIME_KEYS), _key_of(found, _LEVEL_KEYS))
    return tuple(found[: max((keys.index(key) + 1 for key in wanted if key is not None), default=0)])


def _key_of(pairs: Iterable[tuple[bytes, Any]], names: frozenset[bytes]) -> bytes | None:
    return next((key for key, _ in pairs if key in names), None)


def _alone(record: bytes) -> Pair:
    """Time and level of one record."""
    found = list(islice(_first_pairs(record), MOST_PAIRS))
    values = dict(reversed(found))
    time, level = (values.get(_key_of(found, names) or b"", b"").strip(b'"') for names in (_TIME_KEYS, _LEVEL_KEYS))
    return time, level


def _first_pairs(record: bytes) -> Iterator[tuple[bytes, bytes]]:
    found = _PAIR.match(record, len(record) - len(record.lstrip()))
    while found is not None:
        yield found[1], found[2]
        found = _PAIR.match(record, found.end())


@lru_cache(64)
def _matcher(shape: Shape) -> Any:
    """What matches records of a shape, with groups ``time`` and ``level``."""
    keys = ((_key_of(shape, _TIME_KEYS), b"time"), (_key_of(shape, _LEVEL_KEYS), b"level"))
    absent = b"".join(b"(?P<%s>)" % group for key, group in keys if key is None)
    groups = {key: group for key, group in keys if key is not None}
    parts = [_part(key, quoted, groups.pop(key, None)) for key, quoted in shape]
    return re.compile(rb"\s*+" + rb"\s++".join(parts) + absent).match


def _part(key: bytes, quoted: bool, group: bytes | None) -> bytes:
    named = b'"(?P<%s>[^"\\\n]*+)"' if quoted else rb'(?P<%s>[^ \t\r\n\v\f"]*+)'
    return re.escape(key) + b"=" + (named % group if group else _VALUE) + rb"(?=\s|\Z)"


def _groups(found: re.Match[bytes]) -> tuple[bytes, bytes | None]:
    return found[1], found[2]


def _value(value: bytes | None) -> str | bool:
    if value is None:
        return True
    text = value.decode(errors="replace")
    if not text.startswith('"'):
        return text
    if "\\" not in text:
        return text[1:-1]
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return text[1:-1]


FORMAT: Final = Logfmt()
