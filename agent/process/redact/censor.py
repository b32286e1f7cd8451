"""This file takes what the rules name out of text, in C whether one record holds a secret or every one does.

The spans of the secrets come from ``finditer`` through ``map``, the text between them through ``map(slice)``, and one
``join`` puts it together, so that the number of Python calls does not grow with the number of records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import methodcaller

from msgspec import Struct

from agent.process.redact.patterns import REDACTED, Rule

Span = tuple[int, int]
Counts = dict[str, int]

_SECRET = methodcaller("span", "secret")
_IS_FOUND = (-1, -1).__ne__
_REDACTED = re.compile(re.escape(REDACTED))
_BYTES = tuple(bytes((number,)) for number in (10, 0, *range(1, 10), *range(11, 256)))


class OwnRule(Struct, frozen=True):
    """A pattern from the configuration; it sees one record at a time, without its separator."""

    name: str
    anchors: tuple[bytes, ...]
    pattern: re.Pattern[bytes]


def censor(text: bytes, separator: bytes, rules: Iterable[Rule], counts: Counts) -> bytes:
    """``text`` (whole records) with every secret as ``[REDACTED]``; adds how many there were to ``counts`` by name."""
    lines, undo = as_lines(text, separator)
    for rule in rules:
        lines = _count(lines, _spans(rule, lines), rule.name, counts)
    return undo(lines)


def censor_own(text: bytes, separator: bytes, rules: Sequence[OwnRule], counts: Counts) -> bytes:
    """The same for patterns from the configuration; a match of nothing, or within ``[REDACTED]``, is left alone."""
    if not rules:
        return text
    records = text.split(separator)
    for rule in rules:
        records = [_count(record, list(_own_spans(rule.pattern, record)), rule.name, counts) for record in records]
    return separator.join(records)


def as_lines(text: bytes, separator: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """``text`` with its records ended by ``\\\\n`` and line ends within them as ``\\\\v``, and what undoes it.

    Three bytes change places, so that nothing is lost whatever the records hold.
    """
    if separator == b"\n":
        return text, bytes
    one = separator if len(separator) == 1 else unused_byte(text + b"\n\v")
    there = bytes.maketrans(b"\n\v" + one, b"\v" + one + b"\n") if one != b"\v" else bytes.maketrans(b"\n\v", b"\v\n")
    back = bytes.maketrans(there, bytes(range(256)))
    lines = text.replace(separator, one).translate(there)
    return lines, lambda changed: changed.translate(back).replace(one, separator)


def unused_byte(text: bytes) -> bytes:
    """A byte that ``text`` does not hold; NUL when it holds all there are."""
    return next((one for one in _BYTES if one not in text), b"\0")


def _count(text: bytes, spans: Sequence[Span], name: str, counts: Counts) -> bytes:
    if not spans:
        return text
    counts[name] = counts.get(name, 0) + len(spans)
    cuts = [0, *chain.from_iterable(spans), len(text)]
    return REDACTED.join(map(text.__getitem__, map(slice, cuts[0::2], cuts[1::2])))


def _spans(rule: Rule, text: bytes) -> list[Span]:
    matches = rule.pattern.finditer(text.lower() if rule.folded else text)
    if rule.within is None:
        return list(filter(_IS_FOUND, map(_SECRET, matches)))
    return [
        (match.start("secret") + start, match.start("secret") + end)
        for match in matches
        for start, end in rule.within(match["secret"])
    ]


def _own_spans(pattern: re.Pattern[bytes], record: bytes) -> Iterator[Span]:
    group = "secret" if "secret" in pattern.groupindex else 0
    redacted = [found.span() for found in _REDACTED.finditer(record)] if REDACTED in record else ()
    for match in pattern.finditer(record):
        start, end = match.span(group)
        if start < end and not any(start < last and first < end for first, last in redacted):
            yield start, end
