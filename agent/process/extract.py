"""This file makes labels or metadata of what log records say. Their number never changes.

A batch whose records get different labels becomes one for each set of them. Which values have been taken as labels is
remembered over starts, so that the bound holds for good and a stream that there is goes on.

    held = MessagePack [{label: [value, …]}, [set of values, …]]
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from agent.batch import Batch, Labels, labels_of
from agent.contract import Held
from agent.process.fields.reader import Reader
from agent.process.fields.values import text_of

if TYPE_CHECKING:
    from agent.batch import Logs
    from agent.clock import Time
    from agent.contract import Context
    from agent.process.extract_options import ExtractOptions
    from agent.process.fields.reader import Table

log = logging.getLogger("telemetry_agent.extract")

LONGEST: Final = 1024
"""Characters of a value that may be a label."""

Values = tuple[str, ...]
"""One value for each label that is extracted; empty where there is none."""
_STATE: Final = tuple[dict[str, list[str]], list[Values]]


class Extractor:
    """The processor."""

    def __init__(self, options: ExtractOptions, context: Context) -> None:
        self._options = options
        self._name = context.name
        self._meter = context.meter
        self._reader = Reader([*options.labels.values(), *options.metadata.values()])
        self._taken: dict[str, set[str]] = {name: set() for name in options.labels}
        self._sets: set[Values] = set()
        self._restore(context.state)
        self._held: Held | None = None
        self._changed = True
        self.due_seconds = 3600.0

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or not batch.count:
            return (batch,)
        table = self._reader.table(batch)
        extra: dict[int, dict[str, str]] = {}
        groups: dict[Values, Sequence[int]] = {(): range(batch.count)}
        if self._options.labels:
            groups = self._grouped(table, extra)
        metadata = self._beside(table)
        if extra:
            changed = {place: labels_of(dict(metadata.get(place, ())), pairs) for place, pairs in extra.items()}
            metadata = {place: pairs for place, pairs in {**metadata, **changed}.items() if pairs}
        whole = batch if metadata is batch.metadata else replace(batch, metadata=metadata)
        if len(groups) == 1:
            return (self._labelled(whole, next(iter(groups))),)
        return [self._labelled(part, values) for values, part in _parts(whole, table, groups)]

    def due(self, now: Time) -> Iterable[Batch]:
        return ()

    def held(self) -> Held | None:
        if self._changed:
            self._changed = False
            state = ({name: sorted(values) for name, values in self._taken.items()}, sorted(self._sets))
            self._held = Held(msgspec.msgpack.encode(state)) if self._sets else None
        return self._held

    def _beside(self, table: Table) -> Mapping[int, Labels]:
        """The metadata of the records with what was extracted."""
        names, before = self._options.metadata, table.batch.metadata
        if not names or all(table.same_everywhere(source) and not table.label(source) for source in names.values()):
            return before
        known: dict[tuple[Any, ...], Labels] = {}
        found: dict[int, Labels] = {}
        for place, values in enumerate(zip(*map(table.column, names.values()), strict=True)):
            pairs = known.get(values)
            if pairs is None:
                pairs = known[values] = labels_of(dict(zip(names, map(text_of, values), strict=True)))
            if pairs:
                found[place] = pairs
        for place, pairs in before.items():
            found[place] = labels_of(dict(pairs), dict(found.get(place, ())))
        return found if found != before else before

    def _grouped(self, table: Table, extra: dict[int, dict[str, str]]) -> dict[Values, Sequence[int]]:
        """The records of each set of labels; what may be no label joins ``extra``."""
        sources = list(self._options.labels.values())
        if all(table.same_everywhere(source) for source in sources):
            found: dict[tuple[Any, ...], Sequence[int]] = {
                tuple(table.label(source) for source in sources): range(table.batch.count)
            }
        else:
            places: dict[tuple[Any, ...], list[int]] = {}
            columns = [table.column(source) for source in sources]
            for place, raw in enumerate(zip(*columns, strict=True)):
                places.setdefault(raw, []).append(place)
            found = dict(places)
        groups: dict[Values, list[int]] = {}
        beyond = 0
        for raw, where in found.items():
            wanted = tuple(map(text_of, raw))
            values = self._admitted(wanted)
            groups.setdefault(values, []).extend(where)
            left_out = {n: w for n, w, v in zip(self._options.labels, wanted, values, strict=True) if w != v}
            if left_out:
                beyond += len(where)
                for place in where:
                    extra.setdefault(place, {}).update(left_out)
        if beyond:
            self._meter.add("telemetry_agent_process_overflow_total", beyond, (self._name,))
        return {values: sorted(where) for values, where in groups.items()}

    def _admitted(self, wanted: Values) -> Values:
        """The values that may be labels; empty in place of others."""
        if wanted in self._sets:
            return wanted
        values = []
        for name, value in zip(self._options.labels, wanted, strict=True):
            known = self._taken[name]
            room = len(known) < self._options.max_values and len(value) <= LONGEST
            values.append(value if value in known or room else "")
        admitted = tuple(values)
        if admitted not in self._sets:
            if len(self._sets) >= self._options.max_label_sets or not any(admitted):
                return ("",) * len(wanted)
            self._sets.add(admitted)
            for name, value in zip(self._options.labels, admitted, strict=True):
                self._taken[name] |= {value} - {""}
            self._changed = True
        return admitted

    def _labelled(self, batch: Logs, values: Values) -> Logs:
        """The batch with these labels; one that has no value leaves what there was."""
        new = {name: value for name, value in zip(self._options.labels, values, strict=False) if value}
        labels = labels_of(dict(batch.labels), new)
        return batch if labels == batch.labels else replace(batch, labels=labels)

    def _restore(self, state: bytes | None) -> None:
        if state is None:
            return
        try:
            taken, sets = msgspec.msgpack.decode(state, type=_STATE)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("%s: the labels there were cannot be read and are forgotten: %s", self._name, error)
            return
        if list(taken) == list(self._taken):  # other labels mean other sets
            self._taken = {name: set(values) for name, values in taken.items()}
            self._sets = set(sets)


def _parts(batch: Logs, table: Table, groups: dict[Values, Sequence[int]]) -> Iterable[tuple[Values, Logs]]:
    """A batch for the records of each group, as Logs.select gives it but cut into records once."""
    records, times = table.records, batch.times_ns
    if times is None and batch.first_time_ns:
        times = array("q", range(batch.first_time_ns, batch.first_time_ns + batch.count))
    for values, places in groups.items():
        pick = itemgetter(*places) if len(places) > 1 else lambda column, at=places[0]: (column[at],)
        made = replace(
            batch,
            block=batch.separator.join([*pick(records), b""]),
            count=len(places),
            times_ns=None if times is None else array("q", pick(times)),
            severities=None if batch.severities is None else bytes(pick(batch.severities)),
            metadata={place: batch.metadata[old] for place, old in enumerate(places) if old in batch.metadata}
            if batch.metadata
            else {},
        )
        yield values, made


@asynccontextmanager
async def open_extractor(options: ExtractOptions, context: Context) -> AsyncIterator[Extractor]:
    """The labels that have been taken at the last commit are known."""
    yield Extractor(options, context)
