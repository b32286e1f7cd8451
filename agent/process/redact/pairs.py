"""This file redacts labels and metadata: values that hold a secret, and values whose name says that they are one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from agent.batch import Labels
from agent.process.redact.censor import Counts
from agent.process.redact.patterns import KEYS, REDACTED

MOST_REMEMBERED = 256
_REDACTED = REDACTED.decode()


class PairRedactor:
    """``clean`` tells in one scan that a text holds no anchor, ``redact`` takes the secrets out of one value."""

    def __init__(
        self, clean: Callable[[bytes], bool], redact: Callable[[bytes, Counts], bytes], disabled: Collection[str]
    ) -> None:
        self._clean = clean
        self._redact = redact
        self._keys = {word: name for name, words in KEYS.items() if name not in disabled for word in words.split()}
        self._known: set[Labels] = set()

    def labels(self, labels: Labels, counts: Counts) -> Labels:
        """The labels without secrets; the same object when they held none. Clean ones are remembered."""
        if labels in self._known:
            return labels
        if not self._holds_none(labels):
            changed = self._pairs(labels, counts)
            if changed != labels:
                return changed
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known.add(labels)
        return labels

    def metadata(self, metadata: Mapping[int, Labels], counts: Counts) -> Mapping[int, Labels]:
        """The metadata without secrets; the same object when it held none."""
        if not metadata or self._holds_none(pair for pairs in metadata.values() for pair in pairs):
            return metadata
        changed = {index: self._pairs(pairs, counts) for index, pairs in metadata.items()}
        return metadata if changed == metadata else changed

    def _holds_none(self, pairs: Iterable[tuple[str, str]]) -> bool:
        return self._clean("\n".join([f"{name}={value}" for name, value in pairs]).encode(errors="surrogateescape"))

    def _pairs(self, pairs: Labels, counts: Counts) -> Labels:
        return tuple((name, self._value(name, value, counts)) for name, value in pairs)

    def _value(self, name: str, value: str, counts: Counts) -> str:
        pattern = self._named_secret(name.lower())
        if pattern is None:
            raw = value.encode(errors="surrogateescape")
            changed = self._redact(raw, counts)
            return value if changed == raw else changed.decode(errors="replace")
        if value and value != _REDACTED:
            counts[pattern] = counts.get(pattern, 0) + 1
        return value and _REDACTED

    def _named_secret(self, name: str) -> str | None:
        return next((pattern for word, pattern in self._keys.items() if name.endswith(word)), None)
