"""This file keeps the batches of the last commits at hand, so that a lane that keeps up need not read them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.wire.entries import Entries, Sendable

MOST_BYTES: Final = 4 << 20


class Recent:
    """Batches by id, at most MOST_BYTES of them; the oldest make room."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._batches: dict[int, Sendable] = {}
        self._bytes = 0

    def get(self, row_id: int) -> Sendable | None:
        """The batch, if it is still at hand."""
        return self._batches.get(row_id)

    def keep(self, written: Mapping[int, Sendable], passed_id: int) -> None:
        """Adds what was just written; lets go of what every lane has passed, then of the oldest."""
        self._batches.update(written)
        self._bytes += sum(map(_size, written.values()))
        for row_id in sorted(self._batches):
            if row_id > passed_id and self._bytes <= self._most_bytes:
                break
            self._bytes -= _size(self._batches.pop(row_id))


def _size(batch: Sendable) -> int:
    return len(batch.elements) if isinstance(batch, Entries) else batch.size_bytes
