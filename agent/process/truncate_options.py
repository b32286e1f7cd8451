"""This file is the ``[process.truncate]`` table, and what cuts long records as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from agent.contract import Component
from agent.options import ProcessorOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.truncate import Truncater


class TruncateOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.truncate]`` table."""

    max_bytes: Annotated[
        int,
        Meta(
            ge=16,
            le=1 << 30,
            description="Longest record; what is longer is cut there, at a whole character, and has how many bytes "
            "went as metadata 'truncated_bytes'.",
        ),
    ] = 16 * 1024


def _open(options: TruncateOptions, context: Context) -> AbstractAsyncContextManager[Truncater]:
    from agent.process.truncate import open_truncater

    return open_truncater(options, context)


COMPONENT: Final = Component(
    name="truncate",
    options=TruncateOptions,
    open=_open,
    signals=("logs",),
    summary="Cuts log records that are too long, and says of each how much went.",
)
