"""This file finds the records that a 400 of Loki's is about: a table by the reason Loki gives.

Source: grafana/loki pkg/validation/validate.go (the texts), pkg/distributor/distributor.go and pkg/ingester/stream.go
(how several are joined). Everything the text does not name has been stored, and may be sent again: exact repeats are
dropped. The ingester's text is about one stream alone, even where others were at fault too; the next answer names the
next.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.batch import Logs
from agent.wire.loki import by_stream, metadata_of, times_of
from agent.wire.lokitimes import NANOSECONDS
from agent.wire.records import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.batch import Batch
    from agent.errors import Poison
    from agent.wire.lokilabels import Stream

Finder = Callable[[Logs], Sequence[int]]
"""The indices of the records of a batch that a fault is about."""

DISALLOWED_METADATA: Final = "includes structured metadata, but this feature is disallowed"


class Fault(Struct, frozen=True):
    """One kind of fault in a 400: how many records Loki counted for it, the text, and what the pattern found."""

    records: int
    text: str
    found: re.Match[str]


def blamed(text: str, batches: Sequence[Logs]) -> tuple[str | None, Poison | None]:
    """The reason Loki gives, None where it is no known one, and what finds the records it is about, None where none
    of ``batches`` holds such a record."""
    reasons: list[str] = []
    finders: list[Finder] = []
    for reason, fault in _faults(text):
        reasons.append(reason)
        finder = _finder(reason, fault, batches)
        if finder is not None:
            finders.append(finder)

    def poison(batch: Batch) -> Sequence[int]:
        return sorted({i for find in finders for i in find(batch)}) if isinstance(batch, Logs) else ()

    found = any(map(poison, batches))
    return reasons[0] if reasons else None, poison if found else None


def _finder(reason: str, fault: Fault, batches: Sequence[Logs]) -> Finder | None:
    try:
        return FINDERS[reason](fault, batches)
    except (ValueError, OverflowError):  # a time that is none: the answer is not to be trusted in this
        return None


def _faults(text: str) -> Iterator[tuple[str, Fault]]:
    """Every fault the text names, with its reason. Faults alike are joined by Loki as ``N errors like: …; …``."""
    first, *joined = _joined(text)
    parts = [(1, first), *((int(n[:9]), part) for n, part in zip(joined[::2], joined[1::2], strict=True))]
    for records, part in parts:
        for reason, pattern in PATTERNS.items():
            found = pattern.search(part)
            if found:
                yield reason, Fault(records, part, found)


_joined: Final = re.compile(r"(?:^|; )([0-9]+) errors like: ").split
_TIME: Final = r"([0-9TZ:.+-]{20,40})"
PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    reason: re.compile(pattern)
    for reason, pattern in {
        "line_too_long": r"[Mm]ax entry size '([0-9]{1,18})' bytes exceeded",
        "greater_than_max_sample_age": rf"has timestamp too old: {_TIME}, oldest acceptable timestamp is: {_TIME}",
        "too_far_in_future": rf"has timestamp too new: {_TIME}",
        "too_far_behind": rf"entry too far behind, (?:entry timestamp is: {_TIME}, )?"
        rf"oldest acceptable timestamp is: {_TIME}",
        "out_of_order": r"reason: 'entry out of order'",
        "structured_metadata_too_large": r"structured metadata too large: '[0-9]+' bytes, limit: '([0-9]{1,18})' bytes",
        "structured_metadata_too_many": r"too many structured metadata labels: '[0-9]+', limit: '([0-9]{1,18})'",
        "max_label_names_per_series": r"has [0-9]+ label names; limit ([0-9]+)",
        "label_name_too_long": r"has label name too long",
        "label_value_too_long": r"has label value too long",
        "duplicate_label_names": r"has duplicate label name",
        "invalid_labels": r"[Ee]rror parsing labels",
        "missing_labels": r"at least one label pair is required per stream",
        "missing_enforced_labels": r"missing required labels",
    }.items()
}


def _longer(fault: Fault, _: Sequence[Logs]) -> Finder:
    most = int(fault.found[1])
    return lambda batch: [
        i for i, size in enumerate(size for lines in pieces(batch) for size in map(len, lines)) if size > most
    ]


def _older_anywhere(fault: Fault, batches: Sequence[Logs]) -> Finder:
    """One text stands for the records of one second, which all are too old unless it is the second of the cut."""
    cut_ns = _nanoseconds(fault.found[2])
    if _nanoseconds(fault.found[1]) < cut_ns:
        return _before(cut_ns)
    return _before(_exact_cut(cut_ns, heapq.nsmallest(fault.records, filter(cut_ns.__le__, _times(batches)))))


def _newer_anywhere(fault: Fault, batches: Sequence[Logs]) -> Finder:
    second_ns = _nanoseconds(fault.found[1])
    newest = heapq.nlargest(fault.records, _times(batches))
    first = max(second_ns, newest[-1]) if newest else second_ns
    return lambda batch: [i for i, time_ns in enumerate(times_of(batch)) if time_ns >= first]


_ignored: Final = re.compile(r"total ignored: ([0-9]{1,9}) out of [0-9]+ for stream: (.*)", re.DOTALL).search


def _older_in_stream(fault: Fault, batches: Sequence[Logs]) -> Finder | None:
    members, records = _named(fault, batches)
    oldest = heapq.nsmallest(records, _times(members))
    return _within(members, _before(_exact_cut(_nanoseconds(fault.found[2]), oldest)))


def _out_of_order(fault: Fault, batches: Sequence[Logs]) -> Finder | None:
    """No cut is told, but Loki went through the records in order and refused that many of the oldest."""
    members, records = _named(fault, batches)
    oldest = heapq.nsmallest(records, _times(members))
    return _within(members, _before(oldest[-1] + 1)) if oldest else None


def _named(fault: Fault, batches: Sequence[Logs]) -> tuple[list[Logs], int]:
    """The batches of the stream the ingester's text is about, and how many of their records it refused."""
    total = _ignored(fault.text)
    return (_members(total[2], batches), int(total[1])) if total else (_members(fault.text, batches), 1)


def _within(members: Sequence[Logs], finder: Finder) -> Finder | None:
    labels = {batch.labels for batch in members}
    return (lambda batch: finder(batch) if batch.labels in labels else ()) if labels else None


def _times(batches: Sequence[Logs]) -> Iterator[int]:
    return (time_ns for batch in batches for time_ns in times_of(batch))


def _exact_cut(told_ns: int, refused: Sequence[int]) -> int:
    """The oldest acceptable time. Loki tells it in whole seconds; ``refused`` are the times of the oldest records, as
    many as it says it refused, so within that second the last of them decides."""
    return min(max(told_ns, refused[-1] + 1), told_ns + NANOSECONDS) if refused else told_ns


def _before(cut_ns: int) -> Finder:
    return lambda batch: [i for i, time_ns in enumerate(times_of(batch)) if time_ns < cut_ns]


def _nanoseconds(rfc3339: str) -> int:
    return int(datetime.fromisoformat(rfc3339).timestamp()) * NANOSECONDS


def _whole_stream(fault: Fault, batches: Sequence[Logs]) -> Finder | None:
    return _within(_members(fault.text, batches), lambda batch: range(batch.count))


def _metadata_larger(fault: Fault, _: Sequence[Logs]) -> Finder:
    most = int(fault.found[1])
    return lambda batch: [
        i
        for i, pairs in metadata_of(batch).items()
        if sum(len(f"{name}{value}".encode()) for name, value in pairs) > most
    ]


def _metadata_more(fault: Fault, _: Sequence[Logs]) -> Finder:
    most = int(fault.found[1])
    return lambda batch: [i for i, pairs in metadata_of(batch).items() if len(pairs) > most]


def _members(text: str, batches: Sequence[Logs]) -> list[Logs]:
    """The batches of the stream whose labels ``text`` quotes; Loki may have added labels of its own to them."""
    streams = by_stream(batches)
    named = [stream for stream in streams if _quoted(stream, text)]
    if not named and len(streams) == 1:
        named = list(streams)
    longest = max((len(stream.labels) for stream in named), default=0)
    return [batch for stream in named if len(stream.labels) == longest for batch in streams[stream]]


def _quoted(stream: Stream, text: str) -> bool:
    return all(pair in text for pair in stream.pairs)


FINDERS: Final[Mapping[str, Callable[[Fault, Sequence[Logs]], Finder | None]]] = {
    "line_too_long": _longer,
    "greater_than_max_sample_age": _older_anywhere,
    "too_far_in_future": _newer_anywhere,
    "too_far_behind": _older_in_stream,
    "out_of_order": _out_of_order,
    "structured_metadata_too_large": _metadata_larger,
    "structured_metadata_too_many": _metadata_more,
    "max_label_names_per_series": _whole_stream,
    "label_name_too_long": _whole_stream,
    "label_value_too_long": _whole_stream,
    "duplicate_label_names": _whole_stream,
    "invalid_labels": _whole_stream,
    "missing_labels": _whole_stream,
    "missing_enforced_labels": _whole_stream,
}
