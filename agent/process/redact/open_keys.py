"""This file remembers, by source and origin, in which files a private key is open, and the next block goes on there.

It is bounded: the longest untouched is forgotten first.
"""

from __future__ import annotations

import msgspec

from agent.process.redact.private_keys import NOTHING_OPEN, OpenKey

MOST_ORIGINS = 1024
Place = tuple[str, str]
"""Source and the stream of the origin."""


class OpenKeys:
    """What is open by place; restored from ``blob``. A blob that cannot be read counts as nothing open."""

    def __init__(self, blob: bytes | None = None, most: int = MOST_ORIGINS) -> None:
        self._most = most
        self._open: dict[Place, OpenKey] = {}
        if blob:
            try:
                self._open = dict(msgspec.msgpack.decode(blob, type=list[tuple[Place, OpenKey]]))
            except msgspec.DecodeError:
                self._open = {}

    def get(self, place: Place) -> OpenKey:
        return self._open.get(place, NOTHING_OPEN)

    def left_at(self, place: Place, start: int) -> Place:
        """The place that goes on at ``place`` from ``start``: another one where that is a copy, because the file that
        was being read has been truncated since."""
        if not self._open or not start or place in self._open:
            return place
        source, _ = place
        return next((other for other, key in self._open.items() if other[0] == source and key.end == start), place)

    def forget(self, place: Place) -> None:
        self._open.pop(place, None)

    def set(self, place: Place, key: OpenKey) -> int:
        """Returns how many open keys had to be forgotten for it: 0 or 1."""
        self._open.pop(place, None)
        if key == NOTHING_OPEN:
            return 0
        self._open[place] = key
        if len(self._open) <= self._most:
            return 0
        return int(self._open.pop(next(iter(self._open))).inside)

    def blob(self) -> bytes | None:
        """What restores this, or None when nothing is open."""
        return msgspec.msgpack.encode(list(self._open.items())) if self._open else None
