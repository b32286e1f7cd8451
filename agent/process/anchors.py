"""This file finds, in one pass over a block, the few lines that a processor has to look at.

An anchor is an expression that matches wherever the exact, slow pattern may match. All anchors are one Hyperscan
database: a block is scanned at several GB/s with the interpreter lock released, and Python is called for matches only.
Hyperscan reports where a match ends; that offset lies in the record that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from operator import itemgetter
from typing import Any

SLICE_BYTES = 32 * 1024
"""A regular expression over this much text, with a match in every line, keeps the interpreter lock under 2 ms."""
BYTES_PER_HIT = 1 * 1024
"""More matches than one in so many bytes and the block is worked through slice by slice instead of line by line."""
LEAST_HITS = 16

Hit = tuple[int, int]
"""The index of an anchor and the offset behind its match."""
Span = tuple[int, int]
END = itemgetter(1)


def literal(text: bytes) -> bytes:
    """The expression that matches exactly ``text``."""
    return b"".join(b"\\x%02x" % byte for byte in text)


class Anchors:
    """Expressions (Hyperscan's syntax; ASCII letters match either case unless ``exact``) by index.

    An expression must not match the empty string. Raises ValueError for one that Hyperscan refuses.
    """

    def __init__(self, expressions: Sequence[bytes], *, exact: bool = False) -> None:
        self._expressions = expressions
        self._exact = exact
        self._everywhere = _scan(expressions, exact=exact, once=False) if expressions else _nothing

    def hits(self, block: bytes) -> list[Hit] | None:
        """Every match in order of its end, or None when there are too many to be handled one by one."""
        found: list[Hit] = []
        most = LEAST_HITS + len(block) // BYTES_PER_HIT

        def take(anchor: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            found.append((anchor, end))
            return len(found) > most

        self._everywhere(block, match_event_handler=take)
        if len(found) > most:
            return None
        found.sort(key=END)  # Hyperscan promises no order between expressions
        return found

    def present(self, text: bytes) -> set[int]:
        """The anchors that match anywhere in ``text``."""
        found: set[int] = set()
        self._once(text, match_event_handler=lambda anchor, *_: found.add(anchor))
        return found

    @cached_property
    def _once(self) -> Callable[..., Any]:
        """Compiled when a block has first very many matches: 20 ms that most never need."""
        return _scan(self._expressions, exact=self._exact, once=True) if self._expressions else _nothing


def _nothing(_block: bytes, match_event_handler: Callable[..., Any]) -> None:
    """The scan for no anchors."""


def _scan(expressions: Sequence[bytes], *, exact: bool, once: bool) -> Callable[..., Any]:
    import hyperscan

    flags = (0 if exact else hyperscan.HS_FLAG_CASELESS) | (hyperscan.HS_FLAG_SINGLEMATCH if once else 0)
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    try:
        database.compile(
            expressions=list(expressions), ids=list(range(len(expressions))), flags=[flags] * len(expressions)
        )
    except hyperscan.error as error:
        raise ValueError(str(error)) from error

    def scan(block: bytes, match_event_handler: Callable[..., Any]) -> None:
        with suppress(hyperscan.ScanTerminated):
            database.scan(block, match_event_handler=match_event_handler)

    return scan


def touched(block: bytes, hits: Sequence[Hit], separator: bytes) -> list[Span]:
    """Start and end (separator included) of the records in which a match ends, in order, each once."""
    spans: list[Span] = []
    past = 0
    for _, end in hits:
        if end <= past:
            continue
        before = block.rfind(separator, past, end - 1)
        start = past if before < 0 else before + len(separator)
        past = block.find(separator, end - 1) + len(separator)
        spans.append((start, past))
    return spans


def slices(block: bytes, separator: bytes, most_bytes: int = SLICE_BYTES) -> Iterator[bytes]:
    """The block in pieces of whole records, each of about ``most_bytes``; a longer record is a piece of its own."""
    start = 0
    while start < len(block):
        end = block.rfind(separator, start, start + most_bytes)
        if end < 0:
            end = block.find(separator, start)
        end = len(block) if end < 0 else end + len(separator)
        yield block[start:end]
        start = end
