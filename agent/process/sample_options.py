"""This file is the ``[process.sample]`` table, and the sampler as the catalogue knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from agent.contract import Component
from agent.options import Text
from agent.process.buckets_options import BucketOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.sample import Sampler


class SampleOptions(BucketOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.sample]`` table. Level warn and above is always kept; no level is below that."""

    ratio: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="The share of records that is kept, from 0 to 1; a record that is read again fares the same."),
    ] = None
    key: Annotated[
        Text | None,
        Meta(
            description="Field, metadata or label whose values fare as one: by ratio all records of a value are kept "
            "or none, by rate each value has its own. Left out: each record by itself, and one rate for a collector."
        ),
    ] = None

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if self.ratio is None and self.records_per_second is None:
            yield "ratio", "nothing says what to keep: give ratio, records_per_second or both"


def _open(options: SampleOptions, context: Context) -> AbstractAsyncContextManager[Sampler]:
    from agent.process.sample import open_sampler

    return open_sampler(options, context)


COMPONENT: Final = Component(
    name="sample",
    options=SampleOptions,
    open=_open,
    signals=("logs",),
    summary="Keeps a share of the log records, or so many a second, and all of level warn and above.",
)
