"""This file is the ``[process.errors]`` table, and what counts errors by kind as the catalogue knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta

from agent.contract import Component
from agent.options import ProcessorOptions, Text
from agent.process.conditions.options import expression_faults
from agent.process.metrics.options import name_faults

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.errors.processor import Errors


class ErrorsOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.errors]`` table. The records themselves pass."""

    level: Annotated[
        Literal["trace", "debug", "info", "warn", "error", "fatal"],
        Meta(description="Records of this level and above are errors."),
    ] = "error"
    matches: Annotated[
        Text | None,
        Meta(description="Records in which this Python regular expression is found are errors too, of any level."),
    ] = None
    top: Annotated[
        int,
        Meta(ge=1, le=1000, description="How many kinds of errors, the most frequent, are shown as metrics and told."),
    ] = 20
    max_kinds: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Most kinds that are counted; beyond that a new one takes the place of the rarest.",
        ),
    ] = 200
    metric: Annotated[
        str, Meta(description="Name of the counter, whose labels are fingerprint, message and source.")
    ] = "log_errors_total"
    interval_seconds: Annotated[
        float, Meta(ge=1, le=3600, description="How often the counters are sent to the destinations of metrics.")
    ] = 15.0
    summary: Annotated[
        bool, Meta(description="True writes a log record for each of the top kinds that came since the last one.")
    ] = True
    summary_seconds: Annotated[float, Meta(ge=1, le=86400, description="How often these are written.")] = 300.0

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        yield from name_faults("metric", self.metric)
        if self.matches is not None:
            yield from expression_faults("matches", self.matches)
        if self.top > self.max_kinds:
            yield "top", f"no more kinds can be shown than are counted: max_kinds is {self.max_kinds}"


def _open(options: ErrorsOptions, context: Context) -> AbstractAsyncContextManager[Errors]:
    from agent.process.errors.processor import open_errors

    return open_errors(options, context)


COMPONENT: Final = Component(
    name="errors",
    options=ErrorsOptions,
    open=_open,
    signals=("logs",),
    summary="Counts log records that are errors by what kind they are, and says which are the most frequent.",
)
