"""This file sets, removes and renames the labels of batches. Label sets seen lately are remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.batch import Batch, Labels, labels_of

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context, Held
    from agent.process.labels_options import LabelsOptions

MOST_REMEMBERED = 1024


class Labeller:
    """The processor."""

    def __init__(self, options: LabelsOptions) -> None:
        self._rename = options.rename
        self._remove = frozenset(options.remove)
        self._set = options.set
        self._known: dict[Labels, Labels] = {}

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        labels = self._known.get(batch.labels)
        if labels is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            labels = self._known[batch.labels] = self._changed(batch.labels)
        return (batch,) if labels == batch.labels else (replace(batch, labels=labels),)

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        return None

    def _changed(self, labels: Labels) -> Labels:
        stay = {name: value for name, value in labels if name not in self._rename}
        renamed = {self._rename[name]: value for name, value in labels if name in self._rename}
        left = {name: value for name, value in {**stay, **renamed}.items() if name not in self._remove}
        return labels_of(left, self._set)


@asynccontextmanager
async def open_labeller(options: LabelsOptions, context: Context) -> AsyncIterator[Labeller]:
    """Nothing is held."""
    yield Labeller(options)
