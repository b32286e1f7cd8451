"""This file is what ``parse`` does for the journal: what messages hold can be read, and their level where asked.

Time and level of an entry are journald's, and an entry is a record: nothing is joined. ``parse`` names the format by
which processors read the fields of a message; "auto" tells it for each label set by its first messages. With
``level = "message"`` the level that a message tells wins over PRIORITY, which is 6 for all that a unit prints.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from agent.collect.parse_options import Regex
from agent.wire.detection import NONE, Votes, first_lines
from agent.wire.format import Columns, Moment
from agent.wire.formats import PATTERN, format_of

if TYPE_CHECKING:
    from agent.batch import Logs
    from agent.collect.journal.options import JournalOptions
    from agent.contract import Context
    from agent.wire.format import Format

log = logging.getLogger("telemetry_agent.parse")

UNPARSED: Final = "telemetry_agent_unparsed_total"
LOOKED_AT_AGAIN_AFTER: Final = 10_000
"""Messages of a label set that seemed to be of no format."""


class Decision(Struct):
    """What the messages of one label set are taken for, and the votes while that is not sure."""

    name: str
    votes: Votes | None = None
    unlike: int = 0

    @property
    def shown(self) -> str:
        """What /status says of it."""
        if self.name == NONE and self.votes is not None:
            return "undecided"
        return "regex" if self.name.startswith(PATTERN) else self.name


class MessageParser:
    """Reads the messages of one journal; ``decision`` makes what it keeps of each label set."""

    def __init__(self, options: JournalOptions, context: Context) -> None:
        parse = options.parse
        self._name = PATTERN + parse.regex if isinstance(parse, Regex) else parse
        self._levels = options.level == "message"
        self._context = context

    def decision(self) -> Decision:
        """For one more label set."""
        return Decision(NONE, Votes()) if self._name == "auto" else Decision(self._name)

    def read(self, decision: Decision, batch: Logs) -> Logs:
        """The batch with the name of its format and, where that is asked for, the levels that its messages tell."""
        if decision.votes is not None:
            self._vote(decision, decision.votes, batch)
        elif decision.name == NONE:
            self._look_again(decision, batch.count)
        if decision.name == NONE:
            return batch
        if not self._levels:
            return replace(batch, format=decision.name)
        columns = self._columns(format_of(decision.name), batch)
        if columns.unparsed:
            self._context.meter.add(UNPARSED, columns.unparsed, (self._context.name, decision.shown))
        severities = _first_known(columns.severities, batch.severities)
        return replace(batch, format=decision.name, severities=severities)

    @staticmethod
    def _vote(decision: Decision, votes: Votes, batch: Logs) -> None:
        votes.add(_sample(batch))
        decision.name = votes.winner()
        if votes.enough:
            decision.votes, decision.unlike = None, 0

    def _look_again(self, decision: Decision, count: int) -> None:
        decision.unlike += count
        if self._name == "auto" and decision.unlike >= LOOKED_AT_AGAIN_AFTER:
            decision.votes = Votes()

    def _columns(self, of: Format, batch: Logs) -> Columns:
        try:
            return of.columns(batch, Moment(self._context.clock.wall_ns(), UTC))
        except Exception:  # a fault in a format must not stop the journal for ever: its records go on unparsed
            log.exception(
                "a fault of the agent in reading %s; %d records go on unparsed",
                of.name,
                batch.count,
                extra={"context": {"source": batch.source}},
            )
            return Columns(unparsed=batch.count)


def _sample(batch: Logs) -> Sequence[bytes]:
    if batch.separator == b"\n":
        return first_lines(batch.block, 0, len(batch.block))
    return [record.partition(b"\n")[0] for record in batch.records()[:100]]


def _first_known(first: bytes | None, second: bytes | None) -> bytes | None:
    """Of two severities of each record the first one that says something."""
    if first is None or second is None:
        return first or second
    return bytes([one or other for one, other in zip(first, second, strict=True)])
