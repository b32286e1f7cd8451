"""This file is the ``[process.extract]`` table, and what makes labels of fields as the catalogue knows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from agent.contract import Component
from agent.options import ProcessorOptions, Text

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.extract import Extractor

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
FieldNames = dict[str, Text]


class ExtractOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.extract]`` table. Labels make streams: take what has few values."""

    labels: Annotated[
        FieldNames,
        Meta(description="Fields or metadata by the label that gets their value, in place of one that is there."),
    ] = msgspec.field(default_factory=dict)
    metadata: Annotated[
        FieldNames, Meta(description="Fields by the name under which their value is kept beside each record.")
    ] = msgspec.field(default_factory=dict)
    max_values: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most different values of one label; further ones are kept as metadata and counted.",
        ),
    ] = 50
    max_label_sets: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most combinations of all these labels; what comes on top is kept as metadata and counted.",
        ),
    ] = 200

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if not (self.labels or self.metadata):
            yield "labels", "nothing says what to extract: give labels, metadata or both"
        for key in ("labels", "metadata"):
            for name in getattr(self, key):
                if not _NAME.fullmatch(name):
                    yield f"{key}.{name}", f"'{name}' is not a name: use letters, digits and _, beginning with a letter"


def _open(options: ExtractOptions, context: Context) -> AbstractAsyncContextManager[Extractor]:
    from agent.process.extract import open_extractor

    return open_extractor(options, context)


COMPONENT: Final = Component(
    name="extract",
    options=ExtractOptions,
    open=_open,
    signals=("logs",),
    summary="Makes labels or metadata of what log records say, with a bound on different labels.",
)
