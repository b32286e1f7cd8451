"""This file drops or keeps log records by conditions on their fields. What goes counts under the processor's name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent.batch import Batch
from agent.process.conditions.masks import Conditions
from agent.process.fields.reader import Reader
from agent.process.selection import INVERTED, left

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context, Held
    from agent.process.filter_options import FilterOptions


class Filter:
    """The processor."""

    def __init__(self, options: FilterOptions) -> None:
        self._conditions = Conditions(options.when, options.match)
        self._reader = Reader(self._conditions.fields)
        self._keeps = options.action == "keep"

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or not batch.count:
            return (batch,)
        table = self._reader.table(batch)
        holds = self._conditions.mask(table)
        keep = holds if self._keeps else holds.translate(INVERTED)
        return (batch,) if 0 not in keep else left(batch, keep, table.records)

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        return None


@asynccontextmanager
async def open_filter(options: FilterOptions, context: Context) -> AsyncIterator[Filter]:
    """Compiles the expressions; nothing is held."""
    yield Filter(options)
