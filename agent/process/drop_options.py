"""This file is the ``[process.drop]`` table, and the dropper as the catalogue knows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, field

from agent.contract import Component
from agent.options import ProcessorOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.drop import Dropper

Text = Annotated[str, Meta(min_length=1)]


class DropOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.drop]`` table. A batch must match every one of ``labels`` before anything of it is dropped."""

    contains: Annotated[
        tuple[Text, ...], Meta(description="Log records that contain one of these texts, in this case, are dropped.")
    ] = ()
    regex: Annotated[
        Text | None,
        Meta(description="Log records in which this Python regular expression is found are dropped."),
    ] = None
    metrics: Annotated[
        tuple[Text, ...],
        Meta(description="Series whose whole metric name matches one of these regular expressions are dropped."),
    ] = ()
    labels: Annotated[
        dict[str, str],
        Meta(
            description="Regular expressions that must match the whole value of a batch's label, by label name; a "
            "missing label is empty. Alone they drop everything from there, otherwise they say where the rest applies."
        ),
    ] = field(default_factory=dict)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if not (self.contains or self.regex or self.metrics or self.labels):
            yield "contains", "nothing says what to drop: give contains, regex, metrics or labels"
        expressions: dict[str, str | bytes] = {f"metrics[{i}]": name.encode() for i, name in enumerate(self.metrics)}
        expressions |= {f"labels.{name}": expression for name, expression in self.labels.items()}
        if self.regex:
            expressions["regex"] = self.regex.encode()
        for key, expression in expressions.items():
            try:
                re.compile(expression)
            except (re.error, ValueError, OverflowError, RecursionError) as error:
                yield key, f"is not a regular expression: {error}"


def _open(options: DropOptions, context: Context) -> AbstractAsyncContextManager[Dropper]:
    from agent.process.drop import open_dropper

    return open_dropper(options, context)


COMPONENT: Final = Component(
    name="drop",
    options=DropOptions,
    open=_open,
    signals=("logs", "metrics"),
    summary="Drops log records by content, series by name and whole batches by label.",
)
