"""This file is what ``parse`` means for files: one stream each, which is made when the file is first read.

Nothing of it is loaded where lines are records as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from agent.collect.file.faults import printable

if TYPE_CHECKING:
    from agent.batch import Labels
    from agent.collect.file.options import FileOptions
    from agent.collect.file.tail import Tail
    from agent.collect.parse import Parser, Stream
    from agent.contract import Context

MOST_SHOWN = 1000
"""Files that the status page names; all are counted beside them."""
_UNNAMED = ("none", "undecided", "regex")
"""What a stream says of itself that is no name of a format, or joins other lines where it was found out."""


class Streams(Protocol):
    """What makes the stream that one file is read through."""

    def stream(self) -> Stream: ...


class Reading(Streams, Protocol):
    """How another source has its files read by this one: through streams of its own, under labels of its own."""

    def again(self) -> Stream:
        """For a part of the past that is read once more: nothing is counted, and nobody's next block is touched."""
        ...

    def labels(self, path: str) -> Labels:
        """Asked before the file is first read, and for each block of it."""
        ...


def parser_of(options: FileOptions, context: Context) -> Parser | None:
    """What makes the streams, or None where lines are records as they are."""
    if options.parse == "none" and options.multiline is None:
        return None
    from agent.collect.parse import Parser

    return Parser(options, context)


def positions_of_files(parser: Streams | None, positions: Mapping[str, str]) -> Mapping[str, str]:
    """The positions without what is the parser's. Where there is none that is left among them, and forgotten."""
    if parser is None:
        return positions
    from agent.collect.given import positions_only

    return positions_only(positions)


def stream_again(options: FileOptions, context: Context, before: Stream | None) -> Stream | None:
    """A stream that reads as ``before`` did, for a part of the past; its decision is not taken anew. What times were
    given since is of no use there."""
    if options.parse == "auto" and before is not None and before.decided not in _UNNAMED:
        options = replace(options, parse=before.decided)
    parser = parser_of(options, replace(context, positions={}))
    return None if parser is None else parser.stream()


def formats(tails: Iterable[Tail]) -> dict[str, dict[str, Any]]:
    """For the status page what each of the first files is read as, and how many of all are read as what."""
    read = [(tail, tail.stream.decided) for tail in tails if tail.stream is not None]
    named = {printable(tail.shown): decided for tail, decided in read[:MOST_SHOWN]}
    return {"formats": named, "formats_files": dict(Counter(decided for _, decided in read))}
