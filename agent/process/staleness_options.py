"""This file is the ``[process.staleness]`` table, and the marker of series that end as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from agent.contract import Component
from agent.options import ProcessorOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.staleness import Staleness


class StalenessOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.staleness]`` table."""

    stale_on_stop: Annotated[
        bool,
        Meta(
            description="True ends every series when the agent stops; False leaves graphs without a gap over a restart."
        ),
    ] = False
    silent_seconds: Annotated[
        float,
        Meta(
            ge=10, le=86400, description="A collector that has given nothing for that long has ended, with its series."
        ),
    ] = 600.0
    max_series: Annotated[
        int,
        Meta(ge=0, description="Most series that are watched for their end; those beyond end without a marker."),
    ] = 200_000


def _open(options: StalenessOptions, context: Context) -> AbstractAsyncContextManager[Staleness]:
    from agent.process.staleness import open_staleness

    return open_staleness(options, context)


COMPONENT: Final = Component(
    name="staleness",
    options=StalenessOptions,
    open=_open,
    signals=("metrics",),
    summary="Ends series that are no longer there with Prometheus's marker; runs by itself where remote_write is used.",
)
