"""This file is the ``[process.filter]`` table, and the filter as the catalogue knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta

from agent.contract import Component
from agent.options import ProcessorOptions
from agent.process.conditions.options import Conditions, Match, condition_faults

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.filter import Filter


class FilterOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.filter]`` table."""

    action: Annotated[
        Literal["drop", "keep"],
        Meta(description="Whether the records of which the conditions hold are dropped, or are the only ones kept."),
    ] = "drop"
    match: Match = "all"
    when: Conditions = ()

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if not self.when:
            yield "when", f"nothing says which records to {self.action}: give at least one condition"
        yield from condition_faults("when", self.when)


def _open(options: FilterOptions, context: Context) -> AbstractAsyncContextManager[Filter]:
    from agent.process.filter import open_filter

    return open_filter(options, context)


COMPONENT: Final = Component(
    name="filter",
    options=FilterOptions,
    open=_open,
    signals=("logs",),
    summary="Drops or keeps log records by their fields, their level or what they contain.",
)
