"""This file makes batches of the entries of one block: one for each label set, in the order in which they were written.

Within a label set no two records share a time, and times do not run backwards: what has the microsecond of the one
before it comes a nanosecond after it. Where the clock was set back by more than a second, times follow it back.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from agent.batch import Labels, Logs, labels_of
from agent.clock import NANOSECONDS
from agent.collect.journal_command import UNIT_FIELDS, complete, matched_here, with_suffix
from agent.wire.journaljson import Entries, Reader, bytes_of, keyword_of, severity_of, text_of

if TYPE_CHECKING:
    from agent.collect.journal_options import JournalOptions
    from agent.contract import Context

LABELS_MOVED = "telemetry_agent_journal_labels_moved_total"
LINES_CUT = "telemetry_agent_lines_cut_total"
LOST = "telemetry_agent_source_lost_total"
FORGOTTEN_AFTER_SECONDS = 3600.0
MOST_BACK_NS = NANOSECONDS
_SEPARATORS = (b"\n", b"\x1e", b"\x1f", b"\0")

Key = tuple[Any, ...]


class Batches:
    """Turns blocks into batches; remembers which label sets there were and the last time of each."""

    def __init__(self, options: JournalOptions, context: Context, own_fields: Sequence[str]) -> None:
        self._options = options
        self._context = context
        self.fields = complete(options, own_fields)
        self._read = ("MESSAGE", "PRIORITY", *options.label_fields, *options.metadata)
        if matched_here(options):
            self._read += UNIT_FIELDS
        self._reader = Reader(self._read)
        self._wanted = _unit_filter(options.units) if matched_here(options) else None
        self._streams: dict[Key, tuple[float, int]] = {}
        self._severity = lru_cache(64)(severity_of)

    @property
    def label_sets(self) -> int:
        """How many there were within the last hour or so."""
        return len(self._streams)

    def of(self, block: bytes) -> list[Logs]:
        """The batches of whole lines, without positions."""
        entries = self._reader.entries(block)
        if entries.undecodable:
            self._context.meter.add(LOST, entries.undecodable, (self._context.name, "undecodable"))
        return [self._batch(key, entries, numbers) for key, numbers in self._groups(entries)]

    def _groups(self, entries: Entries) -> list[tuple[Key, Sequence[int]]]:
        """The numbers of the entries of each label set that are wanted."""
        columns = [entries.fields[name] for name in self._options.label_fields]
        keys: list[Key] = list(zip(*map(_hashable, columns), strict=True)) if columns else [()] * entries.count
        numbers: Sequence[int] = range(entries.count)
        if self._wanted is not None:
            units = zip(*(_hashable(entries.fields[name]) for name in UNIT_FIELDS), strict=True)
            numbers = [i for i, unit in enumerate(units) if self._wanted(*unit)]
        groups: dict[Key, list[int]] = defaultdict(list)
        for i in numbers:
            groups[keys[i]].append(i)
        return list(groups.items())

    def _batch(self, key: Key, entries: Entries, numbers: Sequence[int]) -> Logs:
        values = dict(zip(self._options.label_fields.items(), key, strict=True))
        found = {label: _label(field, value) for (field, label), value in values.items()}
        moved = self._moved(key, len(numbers))
        times = self._times(None if moved else key, [entries.times_us[i] for i in numbers])
        messages = [entries.fields["MESSAGE"][i] for i in numbers]
        severities = bytes(
            map(self._severity, (p if isinstance(p, str) else "" for p in _at(entries, "PRIORITY", numbers)))
        )
        block, separator, cut = self._block(messages)
        metadata = self._metadata(entries, numbers, labels_of(found) if moved else ())
        for i, cut_bytes in cut.items():
            metadata[i] = labels_of(dict(metadata.get(i, ())), {"cut_bytes": str(cut_bytes)})
        return Logs(
            self._context.name,
            self._labels({} if moved else found),
            block,
            len(numbers),
            separator=separator,
            times_ns=times,
            severities=severities,
            metadata=metadata,
        )

    def _labels(self, found: Mapping[str, str]) -> Labels:
        context = self._context
        ours = {"source": context.name, "host": context.host.hostname}
        return labels_of(context.labels, self._options.labels, ours, found)

    def _moved(self, key: Key, count: int) -> bool:
        """Whether these records have to do without labels of their own, because there are too many label sets."""
        now = self._context.clock.monotonic_seconds()
        if key not in self._streams and len(self._streams) >= self._options.max_label_sets:
            old = now - FORGOTTEN_AFTER_SECONDS
            self._streams = {each: seen for each, seen in self._streams.items() if seen[0] > old}
            if len(self._streams) >= self._options.max_label_sets:
                self._context.meter.add(LABELS_MOVED, count, (self._context.name,))
                return True
        _, last_ns = self._streams.get(key, (0.0, 0))
        self._streams[key] = now, last_ns
        return False

    def _times(self, key: Key | None, times_us: Sequence[int]) -> array[int]:
        times = array("q", [time_us * 1000 for time_us in times_us])
        seen, last_ns = self._streams.get(key, (0.0, 0)) if key is not None else (0.0, 0)
        if times[0] <= last_ns or any(one >= next_one for one, next_one in pairwise(times)):
            times = array("q", _rising(times, last_ns))
        if key is not None:
            self._streams[key] = seen, times[-1]
        return times

    def _block(self, messages: list[Any]) -> tuple[bytes, bytes, dict[int, int]]:
        """The messages with a separator that none of them holds, and the bytes cut off of those that were too long."""
        count = len(messages)
        cut: dict[int, int] = {}
        if all(type(message) is str for message in messages):
            most = self._options.max_line_bytes
            if max(map(len, messages)) * 4 <= most:
                block = ("\n".join(messages) + "\n").encode(errors="replace")
                if block.count(b"\n") == count:
                    return block, b"\n", cut
        lines = list(map(bytes_of, messages))
        self._cut(lines, cut)
        separator = _separator(lines)
        return b"".join(line + separator for line in lines), separator, cut

    def _cut(self, lines: list[bytes], cut: dict[int, int]) -> None:
        most = self._options.max_line_bytes
        for i, line in enumerate(lines):
            if len(line) > most:
                cut[i] = len(line) - most
                lines[i] = line[:most]
        if cut:
            self._context.meter.add(LINES_CUT, len(cut), (self._context.name,))
            self._context.meter.add(LOST, sum(cut.values()), (self._context.name, "cut"))

    def _metadata(self, entries: Entries, numbers: Sequence[int], moved: Labels) -> dict[int, Labels]:
        wanted = self._options.metadata
        if not wanted:
            return dict.fromkeys(range(len(numbers)), moved) if moved else {}
        rows = zip(*(_hashable(_at(entries, field, numbers)) for field in wanted), strict=True)
        pairs: dict[Key, Labels] = {}
        metadata = {}
        for i, row in enumerate(rows):
            if row not in pairs:
                own = {name: _label(field, value) for (field, name), value in zip(wanted.items(), row, strict=True)}
                pairs[row] = labels_of(own, dict(moved))
            if pairs[row]:
                metadata[i] = pairs[row]
        return metadata


def _at(entries: Entries, field: str, numbers: Sequence[int]) -> list[Any]:
    column = entries.fields[field]
    return [column[i] for i in numbers]


def _hashable(column: Sequence[Any]) -> Sequence[Any]:
    """The values as they are, lists of them as text."""
    if any(type(value) is list for value in column):
        return [text_of(value) if type(value) is list else value for value in column]
    return column


def _label(field: str, value: Any) -> str:
    text = text_of(value)
    return keyword_of(text) if field == "PRIORITY" else text


def _rising(times: Sequence[int], last_ns: int) -> Sequence[int]:
    rising = []
    for time_ns in times:
        last_ns = last_ns + 1 if last_ns - MOST_BACK_NS <= time_ns <= last_ns else time_ns
        rising.append(last_ns)
    return rising


def _separator(lines: Sequence[bytes]) -> bytes:
    together = b"".join(lines)
    number = 0
    for separator in _SEPARATORS:
        if separator not in together:
            return separator
    while True:  # none of them may arise where a record and its separator meet, either
        separator = b"\x1e%x\x1e" % number
        if b"".join(line + separator for line in lines).split(separator)[:-1] == list(lines):
            return separator
        number += 1


def _unit_filter(units: Sequence[str]) -> Any:
    """Whether a record speaks of one of these units, of what UNIT_FIELDS hold, as journalctl --unit decides it."""
    matches = lru_cache(4096)(re.compile("|".join(translate(with_suffix(unit)) for unit in units)).match)

    def wanted(unit: str | None, about: str | None, pid: str, object_unit: str, core_unit: str, uid: str) -> bool:
        return bool(
            matches(unit or "")
            or (about and pid == "1" and matches(about))
            or (object_unit and uid == "0" and matches(object_unit))
            or (core_unit and uid == "0" and matches(core_unit))
        )

    return wanted
