"""This file makes batches of the messages that came in together: one for each label set.

    messages ──heads──▶ times · priorities · names ──distinct names──▶ label sets ──▶ batches

What is done for each message is done by C; what is done in Python is done once for each that differs.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from agent.batch import Labels, Logs, labels_of
from agent.collect.labelsets import Key, LabelSets
from agent.collect.syslog.streams import Stream
from agent.collect.zones import zone_of
from agent.wire.format import Moment
from agent.wire.formats.syslog import FORMAT, in_lines, of_priority
from agent.wire.syslogframes import Piece, in_one
from agent.wire.syslogheads import NO_PRIORITY, Heads, heads_of, host_and_app

if TYPE_CHECKING:
    from agent.collect.syslog.options import Field, SyslogOptions
    from agent.contract import Context

LABELS_MOVED: Final = "telemetry_agent_syslog_labels_moved_total"
UNPARSED: Final = "telemetry_agent_unparsed_total"
_NAMES: Final = frozenset({"hostname", "app_name"})
_PRIORITIES: Final = frozenset({"facility", "severity"})
_NO_PRIORITIES: Final = bytes((NO_PRIORITY,))
_DEEP: Final = ("proc_id", "msg_id")

Sent: TypeAlias = tuple[str, Piece]
"""A sender's address, empty where it has none, and what it sent."""


Row: TypeAlias = "bytes | tuple[bytes, str, int, str, str]"
"""What labels and metadata of one message are made of: its names; or names, sender, priority, proc_id and msg_id."""


class Batches:
    """Turns messages into batches."""

    def __init__(self, options: SyslogOptions, context: Context) -> None:
        self._context = context
        self._options = options
        self._labelled, self._beside = options.label_fields, options.metadata
        self._wanted: frozenset[Field] = frozenset((*self._labelled, *self._beside))
        self._zone = zone_of(options.timezone, context.host)
        self.streams = LabelSets(options.max_label_sets, self._stream)

    def of(self, sent: Sequence[Sent]) -> list[Logs]:
        """The batches of what came in together; messages of one sender stay in order within a label set."""
        if not sent:
            return []
        whole = in_one([piece for _, piece in sent])
        now_ns = self._context.clock.wall_ns()
        lines, messages = in_lines(whole.block, whole.separator)
        heads = heads_of(lines, messages, Moment(now_ns, self._zone))
        if heads.unparsed:
            self._context.meter.add(UNPARSED, heads.unparsed, (self._context.name, FORMAT.name))
        rows = self._rows(heads, sent, whole)
        groups = self._groups(rows)
        if len(groups) == 1:
            (stream,) = groups
            return [self._batch(stream, whole, heads, rows, now_ns)]
        return self._divided(groups, whole, heads, rows, now_ns)

    def _divided(
        self, groups: Mapping[Stream, list[int]], whole: Piece, heads: Heads, rows: Sequence[Row], now_ns: int
    ) -> list[Logs]:
        batches = []
        pieces = whole.divided([*groups.values()])
        for (stream, numbers), piece in zip(groups.items(), pieces, strict=True):
            at = _at(numbers)
            part = Heads(bytes(at(heads.priorities)), array("q", at(heads.times_ns)), (), timed=heads.timed)
            beside = at(rows) if self._beside or stream is self.streams.rest else ()
            batches.append(self._batch(stream, piece, part, beside, now_ns))
        return batches

    def _batch(self, stream: Stream, piece: Piece, heads: Heads, rows: Sequence[Row], now_ns: int) -> Logs:
        severities = heads.severities
        return Logs(
            self._context.name,
            stream.labels,
            piece.block,
            piece.count,
            separator=piece.separator,
            times_ns=stream.times(heads.times_ns, now_ns, timed=heads.timed) if any(heads.times_ns) else None,
            severities=severities if any(severities) else None,
            metadata=self._metadata(rows, moved=stream is self.streams.rest),
            format=FORMAT.name,
        )

    def _rows(self, heads: Heads, sent: Sequence[Sent], whole: Piece) -> Sequence[Row]:
        """What is looked at of each message; where only names are, these as they are."""
        wanted, nothing = self._wanted, [""] * whole.count
        of_peers = "peer" in wanted or ("hostname" in wanted and not all(map(_has_host, set(heads.names))))
        if not of_peers and wanted <= _NAMES:
            return heads.names
        peers = [peer for peer, piece in sent for _ in range(piece.count)] if of_peers else nothing
        deep = [nothing, nothing]
        if wanted.intersection(_DEEP):
            read = [FORMAT.fields(message) or {} for message in whole.messages()]
            deep = [[fields.get(name, "") for fields in read] for name in _DEEP]
        priorities = heads.priorities if wanted & _PRIORITIES else _NO_PRIORITIES * whole.count
        return list(zip(heads.names, peers, priorities, *deep, strict=True))

    def _groups(self, rows: Sequence[Row]) -> dict[Stream, list[int]]:
        """The numbers of the messages of each label set; none are given where there is but one."""
        now = self._context.clock.monotonic_seconds()
        streams = {row: self.streams.of(self._values(row, self._labelled), now) for row in dict.fromkeys(rows)}
        if None in streams.values():
            moved = sum(streams[row] is None for row in rows)
            self._context.meter.add(LABELS_MOVED, moved, (self._context.name,))
        groups: dict[Stream, list[int]] = {stream or self.streams.rest: [] for stream in streams.values()}
        if len(groups) > 1:
            numbers = {row: groups[stream or self.streams.rest] for row, stream in streams.items()}
            deque(map(list.append, map(numbers.__getitem__, rows), range(len(rows))), maxlen=0)
        return groups

    def _values(self, row: Row, fields: Mapping[Field, str]) -> Key:
        """The values of the fields, empty where there is none."""
        names, peer, priority, proc_id, msg_id = (row, "", NO_PRIORITY, "", "") if isinstance(row, bytes) else row
        host, app = host_and_app(names)
        found = {"peer": peer, "proc_id": proc_id, "msg_id": msg_id, **of_priority(priority)}
        found["hostname"] = host.decode(errors="replace") or peer
        found["app_name"] = app.decode(errors="replace")
        return tuple(found.get(field, "") for field in fields)

    def _stream(self, key: Key) -> Stream:
        return Stream(self._labels(key))

    def _labels(self, key: Key) -> Labels:
        """The labels of a key, and of no fields at all for an empty one."""
        context = self._context
        found = {name: value for name, value in zip(self._labelled.values(), key, strict=False) if value}
        ours = {"source": context.name, "host": context.host.hostname}
        return labels_of(context.labels, self._options.labels, ours, found)

    def _metadata(self, rows: Sequence[Row], *, moved: bool) -> dict[int, Labels]:
        """What stands beside each record: what is wanted there, and what found no room in the labels."""
        wanted = {**self._beside, **(self._labelled if moved else {})}
        if not wanted:
            return {}
        pairs = {
            row: labels_of(dict(zip(wanted.values(), self._values(row, wanted), strict=True))) for row in set(rows)
        }
        return {i: found for i, found in enumerate(map(pairs.__getitem__, rows)) if found}


def _at(numbers: Sequence[int]) -> Any:
    """What picks these numbers out of a column, as a tuple."""
    if len(numbers) == 1:
        (only,) = numbers
        return lambda column: (column[only],)
    return itemgetter(*numbers)


def _has_host(names: bytes) -> bool:
    return bool(host_and_app(names)[0])
