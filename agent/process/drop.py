"""This file drops what nobody wants: log records by content, series by name, whole batches by their labels.

One scan tells that a block holds none of the texts; then it goes on as it is, the same object. Otherwise its records
are tested in C, by `map`, some at a time. What is dropped counts under the processor's name in the ledger.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import compress, repeat
from operator import contains, is_not, itemgetter, methodcaller, not_
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.batch import Batch, Labels, Logs, Metrics
from agent.process.anchors import Anchors, literal
from agent.process.selection import select

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context, Held
    from agent.process.drop_options import DropOptions

AT_ONCE = 256
"""Records tested in one go: a slow expression takes microseconds for each, and holds the interpreter lock."""

_AT_LABELS = methodcaller("partition", b"{")
_FIRST = itemgetter(0)

Test = Callable[[Sequence[bytes]], Iterable[bool]]
"""Tells of each record whether it goes."""


class Dropper:
    """The processor."""

    def __init__(self, options: DropOptions) -> None:
        texts = [text.encode() for text in options.contains]
        self._anchors = Anchors([literal(text) for text in texts], exact=True)
        self._contains = [_holds(text) for text in texts]
        self._regex = [_found(re.compile(options.regex.encode()).search)] if options.regex else []
        self._names = [_found(re.compile(name.encode()).fullmatch) for name in options.metrics]
        self._labels = {name: re.compile(expression) for name, expression in options.labels.items()}
        self._whole = not (texts or options.regex or options.metrics)

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if not self._concerns(batch.labels):
            return (batch,)
        if self._whole:
            return ()
        return self._logs(batch) if batch.signal == "logs" else self._metrics(batch)

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        return None

    def _concerns(self, labels: Labels) -> bool:
        values = dict(labels)
        return all(expression.fullmatch(values.get(name, "")) for name, expression in self._labels.items())

    def _logs(self, batch: Logs) -> Iterable[Batch]:
        tests = self._contains if self._anchors.hits(batch.block) != [] else []
        tests = [*tests, *self._regex]
        if not tests:
            return (batch,)
        records = batch.records()
        keep = kept(records, tests)
        return _left(batch, keep, lambda: select(batch, records, keep))

    def _metrics(self, batch: Metrics) -> Iterable[Batch]:
        if not self._names:
            return (batch,)
        keep = kept(list(map(_FIRST, map(_AT_LABELS, batch.series))), self._names)
        return _left(
            batch,
            keep,
            lambda: replace(
                batch, series=tuple(compress(batch.series, keep)), values=array("d", compress(batch.values, keep))
            ),
        )


def _left(batch: Batch, keep: bytes, rest: Callable[[], Batch]) -> Iterable[Batch]:
    if 0 not in keep:
        return (batch,)
    return (rest(),) if 1 in keep else ()


def kept(records: Sequence[bytes], tests: Sequence[Test]) -> bytes:
    """For each record 1 when no test takes it, else 0."""
    keep = bytearray()
    for start in range(0, len(records), AT_ONCE):
        some = records[start : start + AT_ONCE]
        keep += bytes(map(not_, map(any, zip(*(test(some) for test in tests), strict=True))))
    return bytes(keep)


def _holds(text: bytes) -> Test:
    return lambda records: map(contains, records, repeat(text))


def _found(search: Callable[[bytes], object]) -> Test:
    return lambda records: map(is_not, map(search, records), repeat(None))


@asynccontextmanager
async def open_dropper(options: DropOptions, context: Context) -> AsyncIterator[Dropper]:
    """Compiles the texts and expressions; nothing is held."""
    yield Dropper(options)
