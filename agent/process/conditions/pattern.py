"""This file finds the records in which an expression matches, and looks at few of them where few can hold it.

What every match must contain is read from the expression: a block without that text is not looked at, and in one that
has it in few places, only the records around these are.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import is_not
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from agent.process.anchors import Anchors, literal
from agent.process.selection import in_parts

if TYPE_CHECKING:
    from agent.process.fields.reader import Table

LEAST_BYTES: Final = 3
"""A text shorter than that is everywhere."""
MOST_TEXTS: Final = 32
SLOW_AT_ONCE: Final = 256
"""Records searched in one go: a slow expression takes microseconds for each, and holds the interpreter lock."""


class Needed(Struct, frozen=True):
    """Texts of which each match contains at least one; in either case of ASCII letters where not ``exact``."""

    texts: tuple[bytes, ...]
    exact: bool = True


class Pattern:
    """One expression, over whole records and over single values. Raises what ``re.compile`` raises."""

    def __init__(self, expression: str) -> None:
        self._records = re.compile(expression.encode())
        self._needed = needed(expression.encode())
        self.search = re.compile(expression).search
        self._anchors: Anchors | None = None

    def mask(self, table: Table) -> bytes:
        """For each record of the table 1 where it matches."""
        batch = table.batch
        ends = None if self._needed is None else self._ends(batch.block)
        if ends is None:
            return b"".join(map(self._found, in_parts(table.records, SLOW_AT_ONCE)))
        mask = bytearray(batch.count)
        block, separator = batch.block, batch.separator
        index = counted = 0
        for end in ends:
            index, counted = index + block.count(separator, counted, end - 1), max(counted, end - 1)
            if index < batch.count and not mask[index]:
                start = block.rfind(separator, 0, end - 1)
                start = 0 if start < 0 else start + len(separator)
                mask[index] = self._records.search(block[start : block.find(separator, end - 1)]) is not None
        return bytes(mask)

    def _found(self, records: Sequence[bytes]) -> bytes:
        return bytes(map(is_not, map(self._records.search, records), repeat(None)))

    def _ends(self, block: bytes) -> Sequence[int] | None:
        """Where the texts that a match needs end, in order; None where they are too many to be looked at singly."""
        assert self._needed is not None
        if self._needed.exact and len(self._needed.texts) == 1:
            return ends_of(block, self._needed.texts[0])
        if self._anchors is None:
            self._anchors = Anchors([literal(text) for text in self._needed.texts], exact=self._needed.exact)
        hits = self._anchors.hits(block)
        return None if hits is None else [end for _, end in hits]


def ends_of(block: bytes, text: bytes) -> Sequence[int] | None:
    """Where ``text`` ends in ``block``, each time; None where that is more often than once in a kilobyte."""
    most = 16 + len(block) // 1024
    ends: list[int] = []
    at = block.find(text)
    while at >= 0:
        if len(ends) >= most:
            return None
        ends.append(at + len(text))
        at = block.find(text, at + len(text))
    return ends


def needed(expression: bytes) -> Needed | None:
    """What every match of ``expression`` contains, or None where that is unknown."""
    try:
        parser: Any = importlib.import_module("re._parser")
        parsed = parser.parse(expression)
        flags = parsed.state.flags
        texts = _best(list(parsed))
    except (ImportError, AttributeError, KeyError, TypeError, ValueError, RecursionError):  # it is no public module
        return None
    if texts is None or min(map(len, texts)) < LEAST_BYTES or len(texts) > MOST_TEXTS:
        return None
    return Needed(texts, not flags & re.IGNORECASE)


def _best(parsed: Iterable[tuple[Any, Any]]) -> tuple[bytes, ...] | None:
    """Of all that a sequence must contain the alternatives that say most."""
    found: list[tuple[bytes, ...]] = []
    run = bytearray()
    for operation, argument in parsed:
        if str(operation) == "LITERAL" and argument < 256:
            run.append(argument)
            continue
        found.append((bytes(run),))
        run.clear()
        inner = _inner(str(operation), argument)
        if inner is not None:
            found.append(inner)
    found.append((bytes(run),))
    best = max(found, key=lambda texts: (min(map(len, texts)), -len(texts)))
    return best if min(map(len, best)) else None


def _inner(operation: str, argument: Any) -> tuple[bytes, ...] | None:
    if operation == "SUBPATTERN":
        _, added, _, inner = argument
        return None if added & re.IGNORECASE else _best(inner)
    if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, _, inner = argument
        return _best(inner) if least else None
    if operation == "ATOMIC_GROUP":
        return _best(argument)
    if operation == "BRANCH":
        branches = [_best(branch) for branch in argument[1]]
        if all(branches):
            return tuple(dict.fromkeys(text for branch in branches for text in branch or ()))
    return None
