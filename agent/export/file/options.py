"""This file is the ``[export.file]`` table, and the destination as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from agent.contract import Component
from agent.options import DestinationOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context, Destination


class FileOptions(DestinationOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[export.file]`` table."""

    path: Annotated[
        str,
        Meta(min_length=1, description="File to append to, one JSON object a line; its directory is made if need be."),
    ]
    max_file_bytes: Annotated[
        int, Meta(ge=4096, description="Size at which the file is renamed to path.1 and a new one is begun.")
    ] = 64 << 20
    keep_files: Annotated[
        int,
        Meta(ge=0, le=1000, description="How many rotated files are kept (path.1 is the newest); older are deleted."),
    ] = 5

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if "\0" in self.path:
            yield "path", "holds a NUL character"
        elif self.path.endswith("/"):
            yield "path", f'expected the name of a file, got the directory "{self.path}"'


def _open(options: FileOptions, ctx: Context) -> AbstractAsyncContextManager[Destination]:
    from agent.export.file.destination import open_file

    return open_file(options, ctx)


COMPONENT: Final = Component(
    name="file",
    options=FileOptions,
    open=_open,
    signals=("logs", "metrics"),
    summary="JSON lines in a file of this machine, rotated by size.",
)
