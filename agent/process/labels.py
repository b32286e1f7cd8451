"""This file sets, removes and renames the labels of batches. Label sets seen lately are remembered."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated

from msgspec import Meta, field

from agent.batch import Batch, Labels, labels_of
from agent.clock import Time
from agent.contract import Component, Context, Held
from agent.options import ProcessorOptions

MOST_REMEMBERED = 1024
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class LabelsOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.labels]`` table: first ``rename``, then ``remove``, then ``set``."""

    rename: Annotated[
        dict[str, str],
        Meta(description="New names by old ones; a label that has the new name already gives way."),
    ] = field(default_factory=dict)
    remove: Annotated[tuple[str, ...], Meta(description="Names of labels to remove.")] = ()
    set: Annotated[
        dict[str, str], Meta(description="Values by label name, put in place of any other; an empty one removes it.")
    ] = field(default_factory=dict)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for every name that is no label name (Prometheus data model)."""
        named = {f"set.{name}": name for name in self.set}
        named |= {f"remove[{index}]": name for index, name in enumerate(self.remove)}
        named |= {f"rename.{old}": old for old in self.rename}
        for key, name in named.items():
            if not _NAME.fullmatch(name):
                yield key, _refusal(name)
        for old, new in self.rename.items():
            if not _NAME.fullmatch(new):
                yield f"rename.{old}", _refusal(new)


def _refusal(name: str) -> str:
    return f"'{name}' is not a label name: use letters, digits and _, beginning with a letter or _"


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


COMPONENT = Component(
    name="labels",
    options=LabelsOptions,
    open=open_labeller,
    signals=("logs", "metrics"),
    summary="Sets, removes and renames the labels of everything that passes.",
)
