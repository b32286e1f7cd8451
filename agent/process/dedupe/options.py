"""This file is the ``[process.dedupe]`` table, and what folds repeats as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta

from agent.contract import Component
from agent.options import ProcessorOptions, Text

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.dedupe.processor import Deduper


class DedupeOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.dedupe]`` table. Repeats are looked for among records of one source with the same labels."""

    window_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="How long after its first record a repeat is dropped; then one record says how often it came.",
        ),
    ] = 30.0
    key: Annotated[
        tuple[Text, ...],
        Meta(
            description="Fields that two records must have in common to be repeats; left out, all that stands in them. "
            "'message' is the record's message, without time and level where a format is known."
        ),
    ] = ()
    ignore: Annotated[
        Literal["nothing", "timestamps", "numbers"],
        Meta(
            description="What may differ between repeats: nothing, times of day and seconds since 1970, or all digits."
        ),
    ] = "timestamps"
    max_keys: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most different records that are remembered; beyond that the oldest are let go before their "
            "window ends.",
        ),
    ] = 20_000


def _open(options: DedupeOptions, context: Context) -> AbstractAsyncContextManager[Deduper]:
    from agent.process.dedupe.processor import open_deduper

    return open_deduper(options, context)


COMPONENT: Final = Component(
    name="dedupe",
    options=DedupeOptions,
    open=_open,
    signals=("logs",),
    summary="Drops log records that repeat themselves, and writes one that says how often.",
)
