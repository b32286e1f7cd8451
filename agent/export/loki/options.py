"""This file is the ``[export.loki]`` table, and the destination as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta

from agent.contract import Component
from agent.export.http_options import TenantOptions, url_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context, Destination


class LokiOptions(TenantOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[export.loki]`` table."""

    url: Annotated[
        str, Meta(description="Address of Loki, as 'https://loki.example.org'; /loki/api/v1/push is added to it.")
    ]
    encoding: Annotated[
        Literal["snappy", "json"],
        Meta(description="'snappy' sends protobuf; 'json' sends gzip JSON, for what is like Loki and has no protobuf."),
    ] = "snappy"
    structured_metadata: Annotated[
        bool, Meta(description="False leaves out what belongs to single records, for a Loki older than 3.0.")
    ] = True

    @property
    def takes_entries(self) -> bool:
        """Protobuf is sent as the spool keeps it."""
        return self.encoding == "snappy"

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        fault = url_fault(self.url)
        if fault:
            yield "url", fault
        yield from TenantOptions.faults(self)


def _open(options: LokiOptions, ctx: Context) -> AbstractAsyncContextManager[Destination]:
    from agent.export.loki.destination import open_loki

    return open_loki(options, ctx)


COMPONENT: Final = Component(
    name="loki",
    options=LokiOptions,
    open=_open,
    signals=("logs",),
    summary="Logs to Grafana Loki or Grafana Cloud Logs.",
)
