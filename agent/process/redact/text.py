"""This file applies the rules that are switched on to a block: to the few records that hold an anchor, or in slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from agent.process.anchors import Anchors, Hit, slices, touched
from agent.process.redact.censor import Counts, OwnRule, censor, censor_own
from agent.process.redact.patterns import Rule
from agent.process.redact.trickle import ShortText, Trickle

if TYPE_CHECKING:
    from agent.clock import Clock


class TextRedactor:
    """Rules over whole records. ``markers`` are anchors without a rule, of which ``marked`` tells."""

    def __init__(self, rules: Sequence[Rule], own: Sequence[OwnRule], markers: Sequence[bytes], clock: Clock) -> None:
        self._built_in = tuple(rules)
        self._own = tuple(own)
        every: list[Rule | OwnRule] = [*rules, *own]
        owners = [(anchor, index) for index, rule in enumerate(every) for anchor in rule.anchors]
        self._rule_of = [index for _, index in owners]
        anchors = [*(anchor for anchor, _ in owners), *markers]
        self._anchors = Anchors(anchors)
        self._short = ShortText(anchors)
        self._trickle = Trickle(clock)

    def hits(self, block: bytes) -> list[Hit] | None:
        """As Anchors.hits; None also for a block of a trickle that has any."""
        if self._anchors.compiled or not self._trickle.takes(len(block)):
            return self._anchors.hits(block)
        return None if self._short.present(block) else []

    def marked(self, block: bytes, hits: Sequence[Hit] | None) -> bool:
        """Whether a marker stands in the block, of which these are the hits."""
        found: Iterable[int] = self._present(block) if hits is None else (anchor for anchor, _ in hits)
        return any(anchor >= len(self._rule_of) for anchor in found)

    def redact(self, block: bytes, separator: bytes, hits: Sequence[Hit] | None, counts: Counts) -> bytes:
        """The block, of which these are the hits, without secrets; the same object when it held none."""
        if hits is None:
            parts = self._in_slices(block, separator, counts)
        else:
            parts = self._by_record(block, separator, hits, counts)
        changed = b"".join(parts)
        return block if changed == block else changed

    def _by_record(self, block: bytes, separator: bytes, hits: Sequence[Hit], counts: Counts) -> list[bytes]:
        spans = touched(block, hits, separator)
        together = b"".join([block[start:end] for start, end in spans])
        records = self._text(together, separator, (anchor for anchor, _ in hits), counts).split(separator)
        parts: list[bytes] = []
        past = 0
        for (start, end), record in zip(spans, records, strict=False):
            parts += block[past:start], record, separator
            past = end
        parts.append(block[past:])
        return parts

    def _in_slices(self, block: bytes, separator: bytes, counts: Counts) -> list[bytes]:
        return [self._text(text, separator, self._present(text), counts) for text in slices(block, separator)]

    def _present(self, text: bytes) -> set[int]:
        return self._anchors.present(text) if self._anchors.compiled else self._short.present(text)

    def _text(self, text: bytes, separator: bytes, anchors: Iterable[int], counts: Counts) -> bytes:
        built_in, known = len(self._built_in), len(self._rule_of)
        found = sorted({self._rule_of[anchor] for anchor in anchors if anchor < known})
        text = censor(text, separator, [self._built_in[index] for index in found if index < built_in], counts)
        return censor_own(
            text, separator, [self._own[index - built_in] for index in found if index >= built_in], counts
        )
