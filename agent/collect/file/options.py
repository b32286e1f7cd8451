"""This file is the ``[collect.file]`` table, and the file source as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta

from agent.collect.parse_options import ParseOptions
from agent.contract import Component

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from agent.collect.file.source import FileSource
    from agent.contract import Context

Pattern = Annotated[str, Meta(pattern="^/")]


class FileOptions(ParseOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[collect.file]`` table."""

    paths: Annotated[
        tuple[Pattern, ...],
        Meta(
            min_length=1,
            description="Absolute paths or patterns of the files to read; ** stands for any directories. Compressed "
            "files (.gz, .bz2, .zst) are read, each once, where a pattern ends in that suffix; what a followed file "
            "held when it was compressed unread is always read from there.",
        ),
    ]
    exclude: Annotated[
        tuple[str, ...], Meta(description="Patterns of files to leave out: absolute, or names without a slash.")
    ] = ("*.xz", "*.zip", "*.journal")
    start_at: Annotated[
        Literal["end", "beginning"],
        Meta(
            description="Where to begin in files that exist when this collector runs for the very first time; "
            "files that appear later are read from their beginning."
        ),
    ] = "end"
    max_age_seconds: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Files not modified for longer are left alone when they are first found; what is added to one "
            "later is read. Left out: no file is too old."
        ),
    ] = None
    encoding: Annotated[
        str,
        Meta(
            description="How the files are written: any text encoding that Python knows. A file that begins with the "
            "byte order mark of UTF-8 or UTF-16 is read by it, and what is no such text is replaced by U+FFFD and "
            "counted."
        ),
    ] = "utf-8"
    max_line_bytes: Annotated[
        int, Meta(ge=1024, le=8 << 20, description="A longer line is cut there, marked and counted.")
    ] = 1 << 20
    block_bytes: Annotated[
        int, Meta(ge=4096, le=4 << 20, description="Bytes read from one file before the next one has its turn.")
    ] = 1 << 20
    poll_seconds: Annotated[
        float,
        Meta(ge=0.05, description="Time between looks at all files, where inotify tells nothing, and beside it."),
    ] = 1.0
    rotate_wait_seconds: Annotated[
        float,
        Meta(ge=0, description="A rotated file at rest that long is let go, its unfinished last line delivered."),
    ] = 5.0
    forget_after_seconds: Annotated[
        float, Meta(ge=0, description="How long the position of a file that is gone is kept, in case it returns.")
    ] = 7 * 86400.0
    max_files: Annotated[int, Meta(ge=1, description="Most files followed; further ones are counted and left.")] = (
        10_000
    )
    max_open_files: Annotated[int, Meta(ge=2, description="Most files kept open; the others are opened to read.")] = 256
    max_directories: Annotated[int, Meta(ge=1, description="Most directories listed and watched.")] = 4096

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        from agent.wire.encoding import encoding_of

        yield from super().faults()
        try:
            encoding_of(self.encoding)
        except LookupError as error:
            yield "encoding", f"{error}; utf-8, utf-16, latin-1 and cp1252 are some that are known"


def _open(options: FileOptions, context: Context) -> AbstractAsyncContextManager[FileSource]:
    from agent.collect.file.source import open_file

    return open_file(options, context)


COMPONENT: Final = Component(
    name="file",
    options=FileOptions,
    open=_open,
    signals=("logs",),
    summary="Reads log files line by line through rotation, truncation, deletion and restarts.",
)
