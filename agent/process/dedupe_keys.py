"""This file says by what records are known as repeats: eight bytes for each, the same after a restart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from operator import methodcaller
from typing import TYPE_CHECKING, Final

from agent.process.fields import text_of
from agent.process.selection import in_parts

if TYPE_CHECKING:
    from agent.batch import Labels
    from agent.process.fields import Table

DIGEST_BYTES: Final = 8
SLOW_AT_ONCE: Final = 256

_MONTH: Final = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
TIMESTAMP: Final = re.compile(
    rb"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T _][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
    rb"(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?"
    rb"|[0-9]{2}/" + _MONTH + rb"/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2}(?: [+-][0-9]{4})?"
    rb"|" + _MONTH + rb" [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?: [0-9]{4})?"
    rb"|[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
    rb"|1[5-9][0-9]{8}(?:\.[0-9]+|[0-9]{3}|[0-9]{6}|[0-9]{9})?(?![0-9])"
)
"""RFC 3339 and what is like it, access logs, syslog and ctime, a time of day, seconds and their parts since 1970."""

_IGNORING: Final[dict[str, Callable[[bytes], bytes]]] = {
    "timestamps": partial(TIMESTAMP.sub, b""),
    "numbers": methodcaller("translate", None, b"0123456789"),
}


def digests(table: Table, key: Sequence[str], ignore: str) -> list[bytes]:
    """What each record is known by, within its stream."""
    keys: Iterable[bytes] = _by_fields(table, key) if key else table.records
    ignoring = _IGNORING.get(ignore)
    make = partial(blake2b, digest_size=DIGEST_BYTES, salt=_stream(table.batch.source, table.batch.labels))
    found: list[bytes] = []
    for part in in_parts(list(keys), SLOW_AT_ONCE):
        seen = part if ignoring is None else map(ignoring, part)
        found += map(methodcaller("digest"), map(make, seen))
    return found


def _by_fields(table: Table, key: Sequence[str]) -> Iterable[bytes]:
    """The values of the fields; of a record that has none of them all of it."""
    columns = [table.column(name) for name in key]
    for place, values in enumerate(zip(*columns, strict=True)):
        if all(value is None for value in values):
            yield table.records[place]
        else:
            yield "\0".join(map(text_of, values)).encode("utf-8", "replace")


@lru_cache(maxsize=256)
def _stream(source: str, labels: Labels) -> bytes:
    return blake2b(repr((source, labels)).encode(), digest_size=blake2b.SALT_SIZE).digest()
