"""This file finds anchors in a trickle of text without the scanner, which most machines at rest then never load.

The scanner's code is 5 MB that the kernel charges to the service. It is worth that from about a megabyte a minute on:
here a text costs some 35 ns a byte, there less than one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agent.process.anchors import plain
from agent.process.redact.patterns import URL_WITH_PASSWORD

if TYPE_CHECKING:
    from agent.clock import Clock

MOST_BYTES: Final = 16 * 1024
"""A longer text would keep the interpreter lock for more than half a millisecond."""
PER_MINUTE_BYTES: Final = 1 << 20
_MINUTE_SECONDS: Final = 60.0

_LINEAR: Final = {URL_WITH_PASSWORD: rb"://[^\s/@:]*+:"}
"""What `re` looks for instead where an anchor would take it time that grows with the square of the text."""


class Trickle:
    """Says whether a text still belongs to a trickle."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_seconds = 0.0
        self._left_bytes = 0

    def takes(self, size_bytes: int) -> bool:
        """Whether a text of that size is short, and one of few in this minute; counts it."""
        now_seconds = self._clock.monotonic_seconds()
        if now_seconds >= self._until_seconds:
            self._until_seconds = now_seconds + _MINUTE_SECONDS
            self._left_bytes = PER_MINUTE_BYTES
        self._left_bytes -= size_bytes
        return size_bytes <= MOST_BYTES and self._left_bytes >= 0


class ShortText:
    """The anchors (as agent.process.anchors takes them; letters match either case) that a short text has."""

    def __init__(self, expressions: Sequence[bytes]) -> None:
        texts = [plain(each) for each in expressions]
        self._words = [(index, text.lower()) for index, text in enumerate(texts) if text is not None]
        self._others = [
            (index, re.compile(_LINEAR.get(each, each), re.IGNORECASE).search)
            for index, (each, text) in enumerate(zip(expressions, texts, strict=True))
            if text is None
        ]

    def present(self, text: bytes) -> set[int]:
        """The anchors that match anywhere in ``text``, as Anchors.present, and perhaps one that a stand-in found."""
        lowered = text.lower()
        found = {index for index, word in self._words if word in lowered}
        found.update(index for index, search in self._others if search(text))
        return found
