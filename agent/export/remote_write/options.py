"""This file is the ``[export.remote_write]`` table, and the destination as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from agent.contract import Component
from agent.export.http_options import TenantOptions, url_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context, Destination


RESERVED: Final = frozenset(("user-agent", "x-prometheus-remote-write-version"))
"""Headers that the specification keeps for the sender, besides those of every request."""


class RemoteWriteOptions(TenantOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[export.remote_write]`` table."""

    url: Annotated[
        str,
        Meta(
            description="Where samples are pushed, whole: 'http://prometheus.example.org:9090/api/v1/write', "
            "'https://mimir.example.org/api/v1/push'; nothing is added to it."
        ),
    ]
    metadata: Annotated[
        bool, Meta(description="False does not send what type metrics are of, and their help texts.")
    ] = True
    metadata_interval_seconds: Annotated[
        float, Meta(ge=1, le=86400, description="How often they are sent again; new ones are sent at once.")
    ] = 60.0

    @property
    def wants_staleness(self) -> bool:
        """Series that end have to be marked."""
        return True

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        fault = url_fault(self.url)
        if fault:
            yield "url", fault
        for name in self.headers:
            if name.lower() in RESERVED:
                yield "headers", f'"{name}" is set by the agent, as remote_write demands'
        yield from TenantOptions.faults(self)


def _open(options: RemoteWriteOptions, ctx: Context) -> AbstractAsyncContextManager[Destination]:
    from agent.export.remote_write.destination import open_remote_write

    return open_remote_write(options, ctx)


COMPONENT: Final = Component(
    name="remote_write",
    options=RemoteWriteOptions,
    open=_open,
    signals=("metrics",),
    summary="Metrics to Prometheus, Mimir, Grafana Cloud, or whatever else takes Prometheus remote_write.",
)
