"""This file makes batches of the entries of one block: one for each label set, in the order they were written in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

from agent.batch import Labels, Logs, labels_of
from agent.collect.journal.command import UNIT_FIELDS, complete, matched_here
from agent.collect.journal.messages import Messages
from agent.collect.journal.origin import first_of, stream_of
from agent.collect.journal.streams import Stream
from agent.collect.journal.units import wanted_units
from agent.collect.labelsets import Key, LabelSets
from agent.wire.journaljson import Entries, Reader, keyword_of, severity_of, text_of

if TYPE_CHECKING:
    from agent.collect.journal.options import JournalOptions
    from agent.collect.journal.parse import MessageParser
    from agent.contract import Context

LABELS_MOVED = "telemetry_agent_journal_labels_moved_total"
_PLAIN = frozenset({str, type(None)})
LOST = "telemetry_agent_source_lost_total"


class Batches:
    """Turns blocks into batches."""

    def __init__(self, options: JournalOptions, context: Context, own_fields: Sequence[str] = ()) -> None:
        self._context = context
        self._options = options
        self._labelled, self._beside = options.label_fields, options.metadata
        self._unit_fields = UNIT_FIELDS if matched_here(options) else ()
        self._wanted = wanted_units(options.units)
        self._reader = Reader(("MESSAGE", "PRIORITY", *self._labelled, *self._beside, *self._unit_fields))
        self._messages = Messages(options.max_line_bytes, context)
        self._severity = lru_cache(64)(severity_of)
        self._parser = parser_of(options, context)
        self.streams = LabelSets(options.max_label_sets, self._stream)
        self.fields = complete(options, own_fields)
        """What journalctl has to print."""

    def of(self, block: bytes, between: tuple[str, str]) -> list[Logs]:
        """The batches of whole lines, without positions; ``between`` are the cursors before and at their end."""
        entries = self._reader.entries(block)
        if entries.undecodable:
            self._context.meter.add(LOST, entries.undecodable, (self._context.name, "undecodable"))
        keys = _rows([entries.fields[name] for name in self._labelled], entries.count)
        batches = []
        for stream, numbers in self._groups(entries, keys):
            moved = [keys[i] for i in numbers] if stream is self.streams.rest else []
            batches.append(self._batch(stream, entries, numbers, moved, between))
        return batches

    def _groups(self, entries: Entries, keys: Sequence[Key]) -> list[tuple[Stream, list[int]]]:
        """The label sets, and the numbers of their entries, of those that are wanted."""
        numbers: Sequence[int] = range(entries.count)
        if self._unit_fields:
            rows = _rows([entries.fields[name] for name in self._unit_fields], entries.count)
            numbers = [i for i, row in enumerate(rows) if self._wanted(*row)]
        by_key: dict[Key, list[int]] = defaultdict(list)
        for i in numbers:
            by_key[keys[i]].append(i)
        now = self._context.clock.monotonic_seconds()
        groups, rest = [], []
        for key, members in by_key.items():
            stream = self.streams.of(key, now)
            if stream is None:
                rest += members
            else:
                groups.append((stream, members))
        if rest:
            self._context.meter.add(LABELS_MOVED, len(rest), (self._context.name,))
            groups.append((self.streams.rest, sorted(rest)))
        return groups

    def _batch(
        self,
        stream: Stream,
        entries: Entries,
        numbers: Sequence[int],
        moved: Sequence[Key],
        between: tuple[str, str],
    ) -> Logs:
        """One batch; what ``moved`` holds, if anything, stands beside each record instead of in the labels."""
        block, separator, cut = self._messages.block(_at(entries, "MESSAGE", numbers))
        metadata = self._metadata(entries, numbers, moved)
        for i, cut_bytes in cut.items():
            metadata[i] = labels_of(dict(metadata.get(i, ())), {"cut_bytes": str(cut_bytes)})
        batch = Logs(
            self._context.name,
            stream.labels,
            block,
            len(numbers),
            separator=separator,
            times_ns=stream.times(list(map(entries.times_us.__getitem__, numbers))),
            severities=bytes(map(self._severity, hashable(_at(entries, "PRIORITY", numbers)))),
            metadata=metadata,
            origin=stream.part(len(block), len(numbers), between).origin(len(block)),
        )
        if self._parser is None:
            return batch
        stream.decision = stream.decision or self._parser.decision()
        return self._parser.read(stream.decision, batch)

    def _stream(self, key: Key) -> Stream:
        return Stream(key, self._labels(key), first_of(stream_of(key)))

    def _labels(self, key: Key) -> Labels:
        """The labels of a key, and of no fields at all for an empty one."""
        context = self._context
        found = {
            label: _label(field, value) for (field, label), value in zip(self._labelled.items(), key, strict=False)
        }
        ours = {"source": context.name, "host": context.host.hostname}
        return labels_of(context.labels, self._options.labels, ours, found)

    def _metadata(self, entries: Entries, numbers: Sequence[int], moved: Sequence[Key]) -> dict[int, Labels]:
        wanted = [*self._beside.items(), *(self._labelled.items() if moved else ())]
        if not wanted:
            return {}
        rows = _rows([_at(entries, field, numbers) for field in self._beside], len(numbers))
        pairs: dict[Key, Labels] = {}
        metadata = {}
        for i, row in enumerate(map(tuple.__add__, rows, moved or repeat(()))):
            if row not in pairs:
                named = zip(wanted, row, strict=True)
                pairs[row] = labels_of({name: _label(field, value) for (field, name), value in named})
            if pairs[row]:
                metadata[i] = pairs[row]
        return metadata


def formats(streams: LabelSets[Stream]) -> dict[str, str]:
    """For the status page what the messages of each label set are taken for, by the values of its fields."""
    decided = [(stream, stream.decision) for stream in streams.known() if stream.decision is not None]
    return {
        "/".join("-" if value is None else str(value) for value in stream.key): kind.shown for stream, kind in decided
    }


def parser_of(options: JournalOptions, context: Context) -> MessageParser | None:
    """What reads messages, where somebody asked for that; nothing of it is loaded otherwise."""
    if options.parse == "none":
        return None
    from agent.collect.journal.parse import MessageParser

    return MessageParser(options, context)


def _at(entries: Entries, field: str, numbers: Sequence[int]) -> list[Any]:
    return list(map(entries.fields[field].__getitem__, numbers))


def _rows(columns: Sequence[Sequence[Any]], count: int) -> list[Key]:
    """The values of several columns side by side; empty rows where there are no columns."""
    return list(zip(*map(hashable, columns), strict=True)) if columns else [()] * count


def hashable(column: Sequence[Any]) -> Sequence[Any]:
    """The values as they are, but texts for what is neither a text nor absent."""
    if _PLAIN.issuperset(map(type, column)):
        return column
    return [value if value is None or type(value) is str else text_of(value) for value in column]


def _label(field: str, value: Any) -> str:
    text = text_of(value)
    return keyword_of(text) if field == "PRIORITY" else text
