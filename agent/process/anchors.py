"""This file finds, in one pass over a block, the few lines that a processor has to look at.

An anchor is an expression that matches wherever the exact, slow pattern may match. All anchors are one Hyperscan
database: a block is scanned at several GB/s with the interpreter lock released, and Python is called for matches only.
Hyperscan reports where a match ends; that offset lies in the record that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from operator import itemgetter

SLICE_BYTES = 32 * 1024
"""A regular expression over this much text, with a match in every line, keeps the interpreter lock under 2 ms."""
BYTES_PER_HIT = 1 * 1024
"""More matches than one in so many bytes and the block is worked through slice by slice instead of line by line."""
LEAST_HITS = 16

Hit = tuple[int, int]
"""The index of an anchor and the offset behind its match."""
Span = tuple[int, int]
END = itemgetter(1)
Take = Callable[[int, int, int, int, object], bool | None]
Scan = Callable[[bytes, Take], None]
"""Calls with index, start, end, flags and context for each match, until that returns True."""

_PLAIN = re.compile(rb"(?:[A-Za-z0-9_ -]|\\x[0-9a-f]{2})+")


def literal(text: bytes) -> bytes:
    """The expression that matches exactly ``text``."""
    return b"".join(b"\\x%02x" % byte for byte in text)


def plain(expression: bytes) -> bytes | None:
    """The text that is all that ``expression`` matches, or None where it matches more than one."""
    if not _PLAIN.fullmatch(expression):
        return None
    return re.sub(rb"\\x(..)", lambda found: bytes.fromhex(found[1].decode()), expression)


class Anchors:
    """Expressions (Hyperscan's syntax; ASCII letters match either case unless ``exact``) by index.

    An expression must not match the empty string. Compiled when first asked; that raises ValueError for one that
    Hyperscan refuses.
    """

    def __init__(self, expressions: Sequence[bytes], *, exact: bool = False) -> None:
        # Compiled together they would take three times as long and leave 4 MB of heap behind.
        plain = [(index, each) for index, each in enumerate(expressions) if _PLAIN.fullmatch(each)]
        others = [(index, each) for index, each in enumerate(expressions) if not _PLAIN.fullmatch(each)]
        self._groups = [group for group in (plain, others) if group]
        self._exact = exact

    @property
    def compiled(self) -> bool:
        """Whether a text has been looked at, so that the next costs nothing but its scan."""
        return "_everywhere" in self.__dict__ or "_once" in self.__dict__

    def hits(self, block: bytes) -> list[Hit] | None:
        """Every match in order of its end, or None when there are too many to be handled one by one."""
        found: list[Hit] = []
        most = LEAST_HITS + len(block) // BYTES_PER_HIT

        def take(anchor: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            found.append((anchor, end))
            return len(found) > most

        for scan in self._everywhere:
            scan(block, take)
            if len(found) > most:
                return None
        found.sort(key=END)  # Hyperscan promises no order between expressions
        return found

    def present(self, text: bytes) -> set[int]:
        """The anchors that match anywhere in ``text``."""
        found: set[int] = set()
        for scan in self._once:
            scan(text, lambda anchor, *_: found.add(anchor))
        return found

    @cached_property
    def _everywhere(self) -> list[Scan]:
        return self._compiled(once=False)

    @cached_property
    def _once(self) -> list[Scan]:
        """Compiled when a block first has very many matches, which most never have."""
        return self._compiled(once=True)

    def _compiled(self, *, once: bool) -> list[Scan]:
        return [_scan(group, exact=self._exact, once=once) for group in self._groups]


def _scan(expressions: Sequence[tuple[int, bytes]], *, exact: bool, once: bool) -> Scan:
    import hyperscan

    flags = (0 if exact else hyperscan.HS_FLAG_CASELESS) | (hyperscan.HS_FLAG_SINGLEMATCH if once else 0)
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    indexes, texts = zip(*expressions, strict=True)
    try:
        database.compile(expressions=texts, ids=indexes, flags=[flags] * len(texts))
    except hyperscan.error as error:
        raise ValueError(str(error)) from error

    def scan(block: bytes, take: Take) -> None:
        with suppress(hyperscan.ScanTerminated):
            database.scan(block, match_event_handler=take)

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
