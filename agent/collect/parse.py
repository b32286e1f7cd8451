"""This file is what the option ``parse`` does for every source of lines: records, their times, levels and format.

    lines ──cut──▶ whole records, and a last one that may still go on: left unread at the source
          ──read─▶ joined ──columns──▶ times of their own · severities · how many were not of the format

A source makes one parser, and of it a stream for each file or connection. Nothing of what is read is held here: a
stream knows its format, and the parser the last time that each label set was given, which a batch carries to the spool.
Where ``parse`` is "none", a batch passes as the object it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from agent.batch import Labels, Logs
from agent.collect.given import GivenTimes
from agent.collect.parse_options import ParseOptions, Regex
from agent.collect.zones import zone_of
from agent.wire.detection import NONE, Votes, first_lines
from agent.wire.format import Columns, Joining, Moment
from agent.wire.formats import PATTERN, format_of
from agent.wire.joining import LinePatterns, joined, last_start, unless_going_on
from agent.wire.lines import UNCOUNTED
from agent.wire.recordtimes import filled

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context
    from agent.wire.format import AtOnce, Format

log = logging.getLogger("telemetry_agent.parse")

UNPARSED: Final = "telemetry_agent_unparsed_total"
UNDECIDED: Final = "undecided"
RECONSIDERED_AFTER: Final = 200
"""Records that were nearly all not of the format which the first lines seemed to be of."""
LOOKED_AT_AGAIN_AFTER: Final = 10_000
"""Records of a file that seemed to be of no format."""
MOST_UNPARSED: Final = 0.9


class Stream(Protocol):
    """What one file or one connection is read through, in order."""

    @property
    def decided(self) -> str:
        """The format, for people: its name, ``none``, or ``undecided`` while too little was seen."""
        ...

    @property
    def counts(self) -> bool:
        """Whether ``read`` counts the lines: then it takes UNCOUNTED for their number."""
        ...

    def cut(self, data: bytes, start: int, end: int) -> int:
        """Where in the whole lines ``data[start:end]`` the last record that may still go on begins.

        ``end`` where none may. ``start`` where all of it is one record: then there is nothing to take until more
        was read or ``join_seconds`` have passed. Never more than ``max_record_bytes`` before ``end``.
        """
        ...

    def read(self, logs: Logs, now: Time) -> Logs:
        """The same lines as records with times of their own, severities and the name of their format.

        ``logs`` are lines, each followed by a newline. The result holds the same bytes but for what stands between
        its records. The first record begins where the block does, the last ends with it.
        """
        ...


class Parser:
    """What the options say, made ready once for all streams of a source."""

    def __init__(self, options: ParseOptions, context: Context) -> None:
        self.context = context
        self.max_record_bytes = options.max_record_bytes
        parse = options.parse
        self.name = PATTERN + parse.regex if isinstance(parse, Regex) else parse
        self.zone = zone_of(options.timezone, context.host)
        lines = options.multiline
        self.lines = None if lines is None else LinePatterns.of(lines.start, lines.end)
        self.unknown = unless_going_on() if parse == "auto" else None
        """What joins lines of no format where nobody said that there is none: traces and what is indented go on."""
        self.given = GivenTimes(context.positions, context.clock.wall_ns())
        self._faulty: set[str] = set()

    def stream(self) -> Stream:
        """For one more file or connection."""
        if self.name == NONE and self.lines is None:
            return _UNTOUCHED
        return _Parsed(self)

    def faulty(self, name: str) -> None:
        """Says once of a format that reading it fails, where that is being handled."""
        if name not in self._faulty:
            self._faulty.add(name)
            context = {"source": self.context.name}
            log.exception(
                "a fault of the agent in reading %s; records go on unparsed", name, extra={"context": context}
            )


@dataclass(frozen=True, slots=True)
class _Untouched:
    """Lines are records as they are."""

    decided: str = NONE
    counts: bool = False

    def cut(self, _data: bytes, _start: int, end: int) -> int:
        return end

    def read(self, logs: Logs, _now: Time) -> Logs:
        return logs


_UNTOUCHED: Final = _Untouched()


class _Parsed:
    __slots__ = ("_format", "_look", "_name", "_parser", "_unparsed", "_votes")
    counts = True

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._votes: Votes | None = Votes() if parser.name == "auto" else None
        self._unparsed = 0
        self._is(NONE if self._votes is not None else parser.name)

    @property
    def decided(self) -> str:
        if self._name == NONE and self._votes is not None:
            return UNDECIDED
        return "regex" if self._name.startswith(PATTERN) else self._name

    def cut(self, data: bytes, start: int, end: int) -> int:
        if self._votes is not None:
            self._is(self._votes.with_(first_lines(data, start, end)).winner())
        rule = self._rule
        if rule is None or start == end:
            return end
        earliest = max(start, end - self._parser.max_record_bytes)
        at = last_start(rule, data, earliest, end)
        return end if start < earliest == at else at

    def read(self, logs: Logs, now: Time) -> Logs:
        if not logs.count:
            return logs
        if self._votes is not None:
            self._decide(self._votes, logs.block)
        batch, columns = self._at_once(logs, now) or (self._joined(logs), None)
        if self._format is None:
            self._reconsider(batch.count, batch.count)
            return batch
        columns = columns or self._columns(self._format, batch, now)
        if columns.unparsed:
            labels = (self._parser.context.name, self.decided)
            self._parser.context.meter.add(UNPARSED, columns.unparsed, labels)
        self._reconsider(columns.unparsed, batch.count)
        told = columns.severities is not None and columns.severities.strip(b"\0")
        batch = replace(batch, severities=columns.severities if told else None)
        times = None if columns.times_ns is None else filled(columns.times_ns)
        if times is None:
            return replace(batch, times_ns=None)
        start = logs.origin.start if logs.origin is not None else now.wall_ns // 1000
        times, left = self._parser.given.distinct(logs.labels, times, start, now)
        return replace(batch, times_ns=times, positions=(*logs.positions, *left))

    @property
    def _rule(self) -> Joining | LinePatterns | None:
        return self._parser.lines or (self._parser.unknown if self._format is None else self._format.joining)

    def _is(self, name: str) -> None:
        self._name = name
        self._format: Format | None = None if name == NONE else format_of(name)
        own_rule = self._parser.lines is None
        self._look: AtOnce | None = getattr(self._format, "joined", None) if own_rule else None

    def _decide(self, votes: Votes, block: bytes) -> None:
        votes.add(first_lines(block, 0, len(block)))
        self._is(votes.winner())
        if votes.enough:
            self._votes = None

    def _reconsider(self, unparsed: int, count: int) -> None:
        """Lets the lines vote again where what was decided turns out to be wrong."""
        if self._parser.name != "auto" or self._votes is not None:
            return
        self._unparsed = self._unparsed + count if unparsed >= MOST_UNPARSED * count else 0
        if self._unparsed >= (LOOKED_AT_AGAIN_AFTER if self._format is None else RECONSIDERED_AFTER):
            self._votes, self._unparsed = Votes(), 0

    def _at_once(self, logs: Logs, now: Time) -> tuple[Logs, Columns] | None:
        """The records and what was read of them, where the format does both in one look."""
        parser, look = self._parser, self._look
        if look is None:
            return None
        try:
            found = look(logs.block, parser.max_record_bytes, Moment(now.wall_ns, parser.zone))
        except Exception:  # noqa: BLE001 - as below
            parser.faulty(self.decided)
            return None
        if found is None:
            return None
        return self._of(logs, found.block, found.separator, found.count), found.columns

    def _joined(self, logs: Logs) -> Logs:
        rule = self._rule
        if rule is None:
            count = logs.block.count(logs.separator) if logs.count == UNCOUNTED else logs.count
            return self._of(logs, logs.block, logs.separator, count)
        return self._of(logs, *joined(rule, logs.block, self._parser.max_record_bytes))

    def _of(self, logs: Logs, block: bytes, separator: bytes, count: int) -> Logs:
        """What the lines became."""
        name = "" if self._name == NONE else self._name
        metadata = logs.metadata
        if metadata and count != logs.count:
            metadata = dict(_moved(metadata, block, separator))
        return replace(logs, block=block, separator=separator, count=count, format=name, metadata=metadata)

    def _columns(self, of: Format, batch: Logs, now: Time) -> Columns:
        try:
            return of.columns(batch, Moment(now.wall_ns, self._parser.zone))
        except Exception:  # noqa: BLE001 - a fault in a format must not stop a source for ever: records go on unparsed
            self._parser.faulty(self.decided)
            return Columns(unparsed=batch.count)


def _moved(metadata: Mapping[int, Labels], block: bytes, separator: bytes) -> Iterator[tuple[int, Labels]]:
    """What was said of lines, said of the records they went into."""
    record, line = 0, 0
    for text in block.split(separator):
        lines = text.count(b"\n") + 1
        pairs = tuple(pair for at in range(line, line + lines) for pair in metadata.get(at, ()))
        if pairs:
            yield record, pairs
        record, line = record + 1, line + lines
