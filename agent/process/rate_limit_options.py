"""This file is the ``[process.rate_limit]`` table, and the rate limiter as the catalogue knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from agent.contract import Component
from agent.options import Text
from agent.process.buckets_options import BucketOptions, Rate

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.rate_limit import RateLimiter


class RateLimitOptions(BucketOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.rate_limit]`` table. Time is when records are read, not what they say."""

    bytes_per_second: Annotated[
        Rate | None,
        Meta(description="Most bytes a second of each key; a record of more than burst_seconds' worth never passes."),
    ] = None
    key: Annotated[
        Text | None,
        Meta(
            description="Field, metadata or label each of whose values has a limit of its own; left out, each "
            "collector has one."
        ),
    ] = None
    summary: Annotated[
        bool,
        Meta(description="True writes a log record for each key that was limited, with how much was dropped of it."),
    ] = False
    summary_seconds: Annotated[
        float, Meta(ge=1, le=86400, description="How often that is written while a key is being limited.")
    ] = 60.0

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if self.records_per_second is None and self.bytes_per_second is None:
            yield "records_per_second", "nothing is limited: give records_per_second, bytes_per_second or both"


def _open(options: RateLimitOptions, context: Context) -> AbstractAsyncContextManager[RateLimiter]:
    from agent.process.rate_limit import open_rate_limiter

    return open_rate_limiter(options, context)


COMPONENT: Final = Component(
    name="rate_limit",
    options=RateLimitOptions,
    open=_open,
    signals=("logs",),
    summary="Drops log records of a key that come faster than they may.",
)
