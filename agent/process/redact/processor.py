"""This file removes secrets and personal data from logs before anything touches the disk.

A batch is scanned once for anchors. Without any it goes on as it is, the same object. Otherwise only the records that
hold one are looked at or, where very many do, the block in slices. Labels and metadata are looked at as well. Metrics
are not: the label values of a metric are the identity of its series. The number of records never changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.batch import Batch, Origin
from agent.clock import Time
from agent.contract import Held
from agent.process.anchors import literal
from agent.process.redact.censor import Counts, OwnRule, as_lines, unused_byte
from agent.process.redact.open_keys import OpenKeys
from agent.process.redact.options import compiled
from agent.process.redact.pairs import PairRedactor
from agent.process.redact.patterns import EMAIL, IP_ADDRESSES, KEY_MARKERS, RULES, Rule
from agent.process.redact.private_keys import NOTHING_OPEN, Bounds, OpenKey, remove_keys, unfinished
from agent.process.redact.text import TextRedactor

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.contract import Context
    from agent.ownmetrics import Meter
    from agent.process.redact.options import RedactOptions

PRIVATE_KEY = "private_key"
NOWHERE = Origin("", 0, 0)
UNENDED_KEY = "private_key_unended"
"""Counted where a key was given up because its END did not come within the bounds."""


class Redactor:
    """The processor: text, private keys across blocks, labels and metadata."""

    def __init__(self, options: RedactOptions, meter: Meter, name: str, state: bytes | None, clock: Clock) -> None:
        self._meter = meter
        self._name = name
        self._keys = PRIVATE_KEY not in options.disable
        self._bounds = Bounds(options.key_max_lines, options.key_max_bytes)
        self._open = OpenKeys(state)
        self._text = TextRedactor(rules_of(options), own_rules_of(options), KEY_MARKERS if self._keys else (), clock)
        self._pairs = PairRedactor(lambda text: self._text.hits(text) == [], self._value, options.disable)

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or not batch.count:
            return (batch,)
        counts: Counts = {}
        origin = batch.origin or NOWHERE
        place = (batch.source, origin.stream)
        left = self._open.left_at(place, origin.start)
        block, after = self._block(batch.block, batch.separator, self._open.get(left), counts)
        labels = self._pairs.labels(batch.labels, counts)
        metadata = self._pairs.metadata(batch.metadata, counts)
        self._open.forget(left)
        _add(counts, UNENDED_KEY, self._open.set(place, _ending(after, origin.end)))
        for pattern, count in counts.items():
            self._meter.add("telemetry_agent_redacted_total", count, (self._name, pattern))
        if block is batch.block and labels is batch.labels and metadata is batch.metadata:
            return (batch,)
        return (replace(batch, block=block, labels=labels, metadata=metadata),)

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        """The private keys that are open; no record is held back for them."""
        blob = self._open.blob()
        return Held(blob) if blob else None

    def _block(self, block: bytes, separator: bytes, before: OpenKey, counts: Counts) -> tuple[bytes, OpenKey]:
        hits = self._text.hits(block)
        after = NOTHING_OPEN
        if self._keys:
            marked = hits != [] and self._text.marked(block, hits)
            if marked or before is not NOTHING_OPEN:
                whole, block, after = block, *self._without_keys(block, separator, before, counts, marked=marked)
                if block is not whole:
                    hits = self._text.hits(block)
            else:
                after = unfinished(block, separator)
        return self._text.redact(block, separator, hits, counts) if hits != [] else block, after

    def _without_keys(
        self, block: bytes, separator: bytes, before: OpenKey, counts: Counts, *, marked: bool
    ) -> tuple[bytes, OpenKey]:
        lines, undo = as_lines(block, separator)
        removal = remove_keys(lines, before, self._bounds, marked=marked)
        _add(counts, PRIVATE_KEY, removal.began)
        _add(counts, UNENDED_KEY, removal.unended)
        return block if removal.text == lines else undo(removal.text), removal.open

    def _value(self, value: bytes, counts: Counts) -> bytes:
        separator = unused_byte(value)
        redacted, _ = self._block(value + separator, separator, NOTHING_OPEN, counts)
        return redacted[:-1]


def rules_of(options: RedactOptions) -> list[Rule]:
    """The built-in rules that are switched on, in their order."""
    rules = [rule for rule in RULES if rule.name not in options.disable]
    if options.emails:
        rules.append(EMAIL)
    if options.ip_addresses:
        rules += IP_ADDRESSES
    return rules


def own_rules_of(options: RedactOptions) -> list[OwnRule]:
    """The patterns of the configuration, in its order."""
    return [
        OwnRule(name, tuple(literal(anchor.encode()) for anchor in own.anchors), compiled(own))
        for name, own in options.patterns.items()
    ]


def _ending(key: OpenKey, end: int) -> OpenKey:
    return key if key == NOTHING_OPEN else replace(key, end=end)


def _add(counts: Counts, name: str, count: int) -> None:
    if count:
        counts[name] = counts.get(name, 0) + count


@asynccontextmanager
async def open_redactor(options: RedactOptions, context: Context) -> AsyncIterator[Redactor]:
    """Releases nothing, as nothing is held but memory."""
    yield Redactor(options, context.meter, context.name, context.state, context.clock)
