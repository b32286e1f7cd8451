"""This file is the ``[export.console]`` table, and the destination as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.contract import Component
from agent.options import DestinationOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context, Destination


class ConsoleOptions(DestinationOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[export.console]`` table."""


def _open(options: ConsoleOptions, ctx: Context) -> AbstractAsyncContextManager[Destination]:
    from agent.export.console import open_console

    return open_console(options, ctx)


COMPONENT: Final = Component(
    name="console",
    options=ConsoleOptions,
    open=_open,
    signals=("logs", "metrics"),
    summary="Readable lines on standard output, for trying things out.",
)
