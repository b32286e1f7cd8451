"""This file puts the messages of entries into one block of bytes, whatever they hold.

A message may have lines of its own, or be no text at all. Where a newline stands in one of a block, its records are
ended by another byte that none of them holds, so that each stays one record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agent.wire.journaljson import bytes_of

if TYPE_CHECKING:
    from agent.contract import Context

LINES_CUT = "telemetry_agent_lines_cut_total"
LOST = "telemetry_agent_source_lost_total"
_SEPARATORS = (b"\n", b"\x1e", b"\x1f", b"\0")
_UTF8_BYTES = 4
_TEXTS = frozenset({str})


class Messages:
    """Makes blocks of messages of at most ``most_bytes``."""

    def __init__(self, most_bytes: int, context: Context) -> None:
        self._most = most_bytes
        self._meter = context.meter
        self._source = context.name

    def block(self, messages: Sequence[Any]) -> tuple[bytes, bytes, dict[int, int]]:
        """The messages, the separator behind each, and how many bytes were cut off of those that were too long."""
        if _TEXTS.issuperset(map(type, messages)) and max(map(len, messages)) * _UTF8_BYTES <= self._most:
            block = ("\n".join(messages) + "\n").encode(errors="replace")
            if block.count(b"\n") == len(messages):
                return block, b"\n", {}
        lines = list(map(bytes_of, messages))
        cut = self._cut(lines)
        separator = separator_of(lines)
        return b"".join(line + separator for line in lines), separator, cut

    def _cut(self, lines: list[bytes]) -> dict[int, int]:
        cut = {i: len(line) - self._most for i, line in enumerate(lines) if len(line) > self._most}
        for i in cut:
            lines[i] = lines[i][: self._most]
        if cut:
            self._meter.add(LINES_CUT, len(cut), (self._source,))
            self._meter.add(LOST, sum(cut.values()), (self._source, "cut"))
        return cut


def separator_of(lines: Sequence[bytes]) -> bytes:
    """One byte that no line holds; several where every candidate occurs in some line."""
    together = b"".join(lines)
    for separator in _SEPARATORS:
        if separator not in together:
            return separator
    number = 0
    while True:  # nor may it come about where a line and its separator meet
        separator = b"\x1e%x\x1e" % number
        if b"".join(line + separator for line in lines).split(separator)[:-1] == list(lines):
            return separator
        number += 1
