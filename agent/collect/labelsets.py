"""This file keeps at most so many label sets of one source, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

FORGOTTEN_AFTER_SECONDS = 3600.0

Key = tuple[Any, ...]
"""The values of the fields that become labels, in their order; empty for what has no label set of its own."""


class Seen(Protocol):
    """What is known of a label set; ``seen_seconds`` is when a record was last of it."""

    seen_seconds: float


Known = TypeVar("Known", bound=Seen)


class LabelSets(Generic[Known]):
    """At most ``most`` label sets; those not seen for an hour make room for others."""

    def __init__(self, most: int, made: Callable[[Key], Known]) -> None:
        self._most = most
        self._made = made
        self._known: dict[Key, Known] = {}
        self.rest = made(())
        """What has no room in a label set of its own."""

    def __len__(self) -> int:
        return len(self._known)

    def known(self) -> list[Known]:
        """The label sets there are, those first that have been known the longest."""
        return list(self._known.values())

    def of(self, key: Key, now_seconds: float) -> Known | None:
        """The label set of a key, or None where there is no room for one more."""
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= self._most:
                self._forget(now_seconds - FORGOTTEN_AFTER_SECONDS)
            if len(self._known) >= self._most:
                return None
            known = self._known[key] = self._made(key)
        known.seen_seconds = now_seconds
        return known

    def _forget(self, before_seconds: float) -> None:
        self._known = {key: each for key, each in self._known.items() if each.seen_seconds > before_seconds}
