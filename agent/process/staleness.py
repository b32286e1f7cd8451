"""This file ends series: one that its source no longer has gets a sample more, Prometheus's marker of staleness.

Source: prometheus/docs docs/specs/prw/remote_write_spec.md ("Stale markers MUST be signalled by … 0x7ff0000000000002").
Without it a series that is gone stays in every graph and alert for five minutes.

What one call gives is a cycle: all that a source has under one set of labels at that moment, even where a processor
before had to take it apart. A series of the last cycle that is missing in this one gets its marker in it, at its time.
What lives is what this processor holds: after a start it is compared with the first two cycles together, because a
first one may be incomplete. Series under labels that do not come back end too: at the second cycle of a source that
had no others, and of any source once nothing has come under them for ``silent_seconds``.

    held = lz4 of MessagePack [[source, labels, series joined by line feeds], …]
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import chain, filterfalse
from typing import TYPE_CHECKING, Final

import cramjam
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Batch, Labels, Metrics
from agent.contract import Held
from agent.ownlogs.lines import Repeating

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context
    from agent.process.staleness_options import StalenessOptions

log = logging.getLogger("telemetry_agent.staleness")

MARKER: Final = array("Q", (0x7FF0000000000002,)).tobytes()
"""The bits of the one NaN that means the end of a series, as this machine keeps them."""

Key = tuple[str, Labels]
_STATE: Final = list[tuple[str, Labels, bytes]]


class Living(Struct):
    """The series of a source under one set of labels: as ``given`` in its last cycle, and those of them that are
    watched. ``cycles`` counts since the start, and only to 2."""

    given: tuple[bytes, ...]
    series: tuple[bytes, ...]
    seen_seconds: float
    cycles: int = 0


class Staleness:
    """The processor."""

    def __init__(self, options: StalenessOptions, context: Context) -> None:
        self._options = options
        self._name = context.name
        self._meter = context.meter
        self._too_many = Repeating(log, context.clock.monotonic_seconds)
        self._living = _restored(context.state, context.name, context.clock.monotonic_seconds())
        self._only = _only_labels(self._living)
        self._held: Held | None = None
        self._changed = True
        self.due_seconds = options.silent_seconds / 10
        if self._living:
            self._tell()

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        return self.process_all((batch,), now)

    def process_all(self, batches: Sequence[Batch], now: Time) -> Iterable[Batch]:
        """The batches of one cycle, each as it came or with the markers of series that ended in it; behind them those
        of labels that ended."""
        cycle: dict[Key, list[Metrics]] = {}
        for batch in batches:
            if isinstance(batch, Metrics):
                cycle.setdefault((batch.source, batch.labels), []).append(batch)
        marked: dict[int, Metrics] = {}
        ended: list[Metrics] = []
        for key, parts in cycle.items():
            gone = self._compared(key, parts, now.monotonic_seconds)
            if gone:
                marked[id(parts[-1])] = self._with_markers(parts[-1], gone)
            ended += self._replaced(key, parts[-1])
        return [*(marked.get(id(batch), batch) for batch in batches), *ended]

    def due(self, now: Time) -> Iterable[Batch]:
        limit = now.monotonic_seconds - self._options.silent_seconds
        silent = [key for key, living in self._living.items() if living.seen_seconds <= limit]
        return [self._end(key) for key in silent]

    def ending(self, now: Time) -> Iterable[Batch]:
        """What ends because the agent does."""
        return [self._end(key) for key in list(self._living)] if self._options.stale_on_stop else ()

    def held(self) -> Held | None:
        if self._changed:
            self._held = Held(_packed(self._living)) if self._living else None
            self._changed = False
        return self._held

    def _compared(self, key: Key, parts: Sequence[Metrics], now_seconds: float) -> tuple[bytes, ...]:
        """The series that ended with this cycle, which is remembered in place of the last."""
        given = parts[0].series if len(parts) == 1 else tuple(chain.from_iterable(part.series for part in parts))
        before = self._living.get(key)
        if before is None:
            self._remember(key, given, given, now_seconds, 1)
            return ()
        before.seen_seconds = now_seconds
        first, before.cycles = before.cycles == 0, min(before.cycles + 1, 2)
        if given == before.given:
            if given is not before.given and len(before.series) == len(given):
                before.given = before.series = given  # what the source holds anyway, and is known by its identity
            return ()
        gone = tuple(filterfalse(set(given).__contains__, before.series))
        if first:  # it may be incomplete: the next one tells
            self._remember(key, given + gone, given + gone, now_seconds, 1)
            return ()
        self._remember(key, given, given, now_seconds, 2)
        return gone

    def _remember(
        self, key: Key, given: tuple[bytes, ...], series: tuple[bytes, ...], now_seconds: float, cycles: int
    ) -> None:
        others = sum(len(living.series) for other, living in self._living.items() if other != key)
        room = max(0, self._options.max_series - others)
        self._living[key] = Living(given, series[:room] if len(series) > room else series, now_seconds, cycles)
        self._changed = True
        self._tell()

    def _tell(self) -> None:
        watched = sum(len(living.series) for living in self._living.values())
        unwatched = sum(len(living.given) for living in self._living.values()) - watched
        self._meter.set("telemetry_agent_staleness_series", watched, (self._name,))
        self._meter.set("telemetry_agent_staleness_unwatched_series", unwatched, (self._name,))
        if unwatched:
            self._too_many.failed(
                "max_series",
                f"{self._name}: {unwatched} series more than max_series = {self._options.max_series} end unmarked",
            )
        else:
            self._too_many.recovered(f"{self._name}: the end of every series is marked again")

    def _replaced(self, key: Key, batch: Metrics) -> list[Metrics]:
        """At the second cycle of a source after a start: the end of the only labels that it had before."""
        source, _ = key
        if self._living[key].cycles < 2 or source not in self._only:
            return []
        before = self._only.pop(source)
        if before == key or before not in self._living or self._living[before].cycles:
            return []
        return [replace(self._end(before), first_time_ns=batch.first_time_ns)]

    def _end(self, key: Key) -> Metrics:
        """Markers for all of its series, which are forgotten."""
        living = self._living.pop(key)
        self._changed = True
        self._tell()
        source, labels = key
        return self._with_markers(Metrics(source, labels, (), array("d")), living.series)

    def _with_markers(self, batch: Metrics, series: tuple[bytes, ...]) -> Metrics:
        markers = array("d")
        markers.frombytes(MARKER * len(series))
        self._meter.add("telemetry_agent_staleness_markers_total", len(series), (self._name,))
        return replace(batch, series=batch.series + series, values=batch.values + markers)


def _packed(living: dict[Key, Living]) -> bytes:
    state = [(source, labels, b"\n".join(each.series)) for (source, labels), each in living.items()]
    return bytes(cramjam.lz4.compress_block(msgspec.msgpack.encode(state)))


def _restored(state: bytes | None, name: str, now_seconds: float) -> dict[Key, Living]:
    if state is None:
        return {}
    try:
        found = msgspec.msgpack.decode(bytes(cramjam.lz4.decompress_block(state)), type=_STATE)
    except (ValueError, cramjam.DecompressionError, msgspec.MsgspecError, MemoryError, OverflowError) as error:
        log.warning("%s: what lived before cannot be read and ends unmarked: %s", name, error)
        return {}
    living = {}
    for source, labels, joined in found:
        series = tuple(joined.split(b"\n"))
        living[source, labels] = Living(series, series, now_seconds)
    return living


def _only_labels(living: dict[Key, Living]) -> dict[str, Key]:
    """The key of each source that has one."""
    sources = [source for source, _ in living]
    return {key[0]: key for key in living if sources.count(key[0]) == 1}


@asynccontextmanager
async def open_staleness(options: StalenessOptions, context: Context) -> AsyncIterator[Staleness]:
    """What lived at the last commit is taken up again."""
    yield Staleness(options, context)
