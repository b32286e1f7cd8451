"""This file says by what records are known as repeats: eight bytes for each, the same after a restart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from operator import methodcaller
from typing import TYPE_CHECKING, Final

from agent.process.fields.values import text_of
from agent.process.selection import in_parts, mapped

if TYPE_CHECKING:
    from agent.batch import Labels
    from agent.process.fields.reader import Table

DIGEST_BYTES: Final = 8
AT_ONCE: Final = 1024
"""Records worked on in one call, which keeps the interpreter lock."""

TIME: Final = re.compile(
    rb"[0-9]{2}:[0-9]{2}:[0-9]{2}(?!:[0-9])(?:[.,][0-9]+)?"
    rb"|(?<![0-9])1[5-9][0-9]{8,17}(?:\.[0-9]+)?(?![0-9])"
)
"""A time of day, and seconds or parts of them since 1970. A date changes once a day, and may tell repeats apart."""
_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_TIME_IN_ZEROS: Final = re.compile(rb"00:00:00(?!:0)(?:[.,]0+)?")
_EPOCH_IN_ZEROS: Final = re.compile(rb"0000000000(?:0{1,9})?(?:\.0+)?")
_EPOCH: Final = b"0" * 10
_EPOCH_BEGINS: Final = frozenset(b"1%d" % digit for digit in range(5, 10))
NEWLINE: Final = b"\n"


def digests(table: Table, key: Sequence[str], ignore: str) -> list[bytes]:
    """What each record is known by, within its stream."""
    keys = _by_fields(table, key) if key else table.records
    ignoring = _IGNORING.get(ignore)
    make = partial(blake2b, digest_size=DIGEST_BYTES, salt=_stream(table.batch.source, table.batch.labels))
    found: list[bytes] = []
    for part in in_parts(keys, AT_ONCE):
        found += map(methodcaller("digest"), map(make, part if ignoring is None else ignoring(part)))
    return found


def without_times(texts: Sequence[bytes]) -> Sequence[bytes]:
    """The texts without times. With all digits alike a time is a word that is found in one go."""
    joined = NEWLINE.join(texts)
    if joined.count(NEWLINE) >= len(texts):  # a text has more lines than one
        return [TIME.sub(b"", text) for text in texts]
    zeros = joined.translate(_ZEROS)
    spans = [match.span() for match in _TIME_IN_ZEROS.finditer(zeros)]
    if _EPOCH in zeros:
        spans = sorted([*spans, *_epochs(joined, zeros)])
    if not spans:
        return texts
    left: list[bytes] = []
    at = 0
    for start, end in spans:
        if start >= at:
            left.append(joined[at:start])
            at = end
    return b"".join((*left, joined[at:])).split(NEWLINE)


def _epochs(joined: bytes, zeros: bytes) -> Iterator[tuple[int, int]]:
    """Numbers that are times since 1970: ten to nineteen digits, from 1.5 billion seconds on."""
    for match in _EPOCH_IN_ZEROS.finditer(zeros):
        start, end = match.span()
        alone = zeros[start - 1 : start] != b"0" and zeros[end : end + 1] != b"0"
        if alone and joined[start : start + 2] in _EPOCH_BEGINS:
            yield start, end


def _without_numbers(texts: Sequence[bytes]) -> Iterable[bytes]:
    return map(methodcaller("translate", None, b"0123456789"), texts)


_IGNORING: Final[dict[str, Callable[[Sequence[bytes]], Iterable[bytes]]]] = {
    "timestamps": without_times,
    "numbers": _without_numbers,
}


def _by_fields(table: Table, key: Sequence[str]) -> list[bytes]:
    """The values of the fields; of a record that has none of them all of it."""
    columns = [table.column(name) for name in key]
    if len(columns) == 1 and set(map(type, columns[0])) == {str}:
        return mapped(methodcaller("encode", "utf-8", "replace"), columns[0])
    return [
        "\0".join(map(text_of, values)).encode("utf-8", "replace")
        if any(value is not None for value in values)
        else table.records[place]
        for place, values in enumerate(zip(*columns, strict=True))
    ]


@lru_cache(maxsize=256)
def _stream(source: str, labels: Labels) -> bytes:
    return blake2b(repr((source, labels)).encode(), digest_size=blake2b.SALT_SIZE).digest()
