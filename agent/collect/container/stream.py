"""This file reads the log of one container: what the engine put around each line is taken off, the streams are parted.

    {"log":"GET /\\n","stream":"stdout",…}  ──▶  GET /        stdout ┐ each a batch of its own, the last of which moves
    {"log":"oh no\\n","stream":"stderr",…}  ──▶  oh no        stderr ┘ the position; then what ``parse`` says of it

A line has the time that the engine wrote, unless ``parse`` finds one in it. A block ends where no stream is in the
middle of a line or, where lines are joined, of a record.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Logs, Origin
from agent.collect.container.done import MARK
from agent.collect.container.tail import whole_records
from agent.wire.containerlines import NEWLINE, Output, Parts, Unwrapping, last_lines, open_from, outputs
from agent.wire.formats.cri import FORMAT as CRI
from agent.wire.formats.docker import FORMAT as DOCKER
from agent.wire.recordtimes import filled

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.batch import Labels
    from agent.clock import Time
    from agent.collect.container.done import Done
    from agent.collect.given import GivenTimes
    from agent.collect.parse import Parser, Stream
    from agent.contract import Context

UNPARSED: Final = "telemetry_agent_unparsed_total"
_TELLING = re.compile(rb"^[{\d]", re.MULTILINE)
_MOST_LOOKED_AT = 64 << 10


class Shared(Struct):
    """What all streams of a source have: how labels are taken apart by stream, what makes inner streams, what was
    handed on before, the batches that go before the next one, and which times were given."""

    context: Context
    apart: Callable[[Labels, str], tuple[Labels, Labels]]
    parser: Parser | None
    max_record_bytes: int
    join_ns: int
    done: Done
    before: list[Logs]
    given: GivenTimes


class ContainerStream:
    """One log file; fulfils agent.collect.parse.Stream."""

    __slots__ = ("_inner", "_shared", "_unwrapping")
    counts = True

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._unwrapping: Unwrapping = CRI
        self._inner: dict[str, Stream] = {}

    @property
    def decided(self) -> str:
        """The engine's format, and what was found inside, for people."""
        found = {stream.decided for stream in self._inner.values()}
        return ", ".join((self._unwrapping.name, *sorted(found)))

    def cut(self, data: bytes, start: int, end: int) -> int:
        """As agent.collect.parse.Stream."""
        shared, unwrapping = self._shared, self._unwrapping_of(data, start)
        lasts = last_lines(unwrapping, data, start, end, shared.join_ns, shared.max_record_bytes)
        at = open_from(unwrapping, data, start, end, lasts)
        if shared.parser is not None and at > start:
            at = whole_records(unwrapping, self._inner_of, data, start, at, lasts)
        return end if end - at > shared.max_record_bytes else at

    def read(self, logs: Logs, now: Time) -> Logs:
        """The last of the batches that ``logs`` become, or the one whose stream its origin names. The others are put
        into ``before``."""
        shared, origin = self._shared, logs.origin
        empty = replace(logs, labels=shared.apart(logs.labels, "")[0], block=b"", count=0, metadata={}, origin=None)
        if not logs.count or origin is None:
            return empty
        parts = self._parts(logs.block)
        wanted = origin.stream.partition(MARK)[2]
        if wanted:
            asked = (output for output in self._outputs(parts) if output.stream == wanted)
            return next((self._batch(output, logs, origin, now) for output in asked), empty)
        left = shared.done.without(parts, origin, logs.block)
        printed = self._outputs(left)
        made = [self._batch(output, logs, origin, now) for output in printed]
        if left is not parts:  # what is left cannot be read again as it is
            made = [replace(batch, origin=None) for batch in made]
        for output, batch in zip(printed[:-1], made, strict=False):
            position = shared.done.first(output.stream, origin, len(parts.texts), logs.block)
            shared.before.append(replace(batch, positions=(*batch.positions, position)))
        return made[-1] if made else empty

    def _outputs(self, parts: Parts) -> list[Output]:
        return outputs(parts, self._shared.max_record_bytes)

    def _parts(self, block: bytes) -> Parts:
        parts = self._unwrapping_of(block, 0).parts(block)
        if parts.unparsed:
            context = self._shared.context
            context.meter.add(UNPARSED, parts.unparsed, (context.name, self._unwrapping.name))
        return parts

    def _unwrapping_of(self, data: bytes, start: int) -> Unwrapping:
        """What writes objects is Docker, what begins lines with the year somebody else; other lines tell nothing."""
        found = _TELLING.search(data, start, start + _MOST_LOOKED_AT)
        if found is not None:
            self._unwrapping = DOCKER if found[0] == b"{" else CRI
        return self._unwrapping

    def _inner_of(self, stream: str) -> Stream:
        """What ``parse`` asks for, for one stream."""
        found = self._inner.get(stream)
        if found is None:
            assert self._shared.parser is not None
            found = self._inner[stream] = self._shared.parser.stream()
        return found

    def _batch(self, output: Output, logs: Logs, origin: Origin, now: Time) -> Logs:
        labels, beside = self._shared.apart(logs.labels, output.stream)
        key, _, rest = origin.key.partition("#")
        there = Origin(f"{key.partition(MARK)[0]}{MARK}{output.stream}#{rest}", origin.start, origin.end)
        made = replace(logs, labels=labels, block=output.block, count=output.count, origin=there)
        if self._shared.parser is not None:
            made = self._inner_of(output.stream).read(made, now)
        if made.times_ns is None:
            made = self._at_times_of(output, made, origin.start, now)
        return replace(made, metadata=_beside(beside, made)) if beside else made

    def _at_times_of(self, output: Output, batch: Logs, start: int, now: Time) -> Logs:
        """The batch with the times that the engine wrote."""
        times = filled(output.times_ns)
        if times is None:
            return batch
        if batch.count != output.count:
            times = array("q", map(times.__getitem__, _first_lines(batch)))
        times, left = self._shared.given.distinct(batch.labels, times, start, now)
        return replace(batch, times_ns=times, positions=left)


def _first_lines(batch: Logs) -> list[int]:
    """The number of the line at which each record begins."""
    lines = [record.count(NEWLINE) + 1 for record in batch.records()]
    return list(accumulate(lines[:-1], initial=0))


def _beside(pairs: Labels, batch: Logs) -> dict[int, Labels]:
    """The metadata of every record."""
    metadata = dict.fromkeys(range(batch.count), pairs)
    for index, own in batch.metadata.items():
        metadata[index] = (*pairs, *own)
    return metadata
