"""This file is where a journal was read to: the cursor of the last entry that was handed on, as the spool keeps it.

An empty cursor stands before the oldest entry there is. The last batch of a block carries the new cursor for all of
them: they are handed on together, and are durable in one commit.
"""

from __future__ import annotations

import logging

from msgspec import Struct

from agent.batch import Position
from agent.ownmetrics import Meter
from agent.wire.journaljson import boot_of_cursor, cursor_of, place_of

log = logging.getLogger("telemetry_agent.collect")

KEY = "cursor"
LOST = "telemetry_agent_source_lost_total"


def position(cursor: str) -> Position:
    """What is committed for a cursor."""
    return Position(KEY, cursor)


class Replaced(Exception):
    """The journal is not the one that was read, and has nothing of the boot that the position is of: its oldest entry
    may be older than the position, and yet be new. (Within a boot journalctl goes by the monotonic clock.)"""


class Resumed(Struct):
    """The beginning of what a journalctl prints that was asked to begin at the entry at ``cursor``."""

    cursor: str
    source: str
    meter: Meter
    whole: bool = False
    """Whether every entry of the journal is printed, so that numbers that are missing are entries that are gone."""
    shown: bool = False
    """Whether the entry at ``cursor`` would have been printed, were it there."""
    expecting: bool = True
    partly: bool = False
    """Whether there are entries that may not be read."""
    one_journal: bool = True
    """Whether all entries are of one journal, and not of several machines."""

    def rest(self, block: bytes) -> bytes:
        """The block without that entry, which was handed on before; says and counts what is gone behind it.

        Raises Replaced.
        """
        if not self.expecting:
            return block
        self.expecting = False
        end = block.find(b"\n") + 1
        first = cursor_of(block[:end])
        if self.cursor and first == self.cursor:
            return block[end:]
        if self.cursor and first and self.shown:
            self._gone(first)
        return block

    def _gone(self, first: str) -> None:
        known, found = place_of(self.cursor), place_of(first)
        extra = {"context": {"source": self.source, "cursor": self.cursor}}
        renumbered = known is None or found is None or known[0] != found[0]
        if renumbered and self.one_journal and boot_of_cursor(self.cursor) != boot_of_cursor(first):
            log.warning("the journal that was read is gone; what there is now is read from its beginning", extra=extra)
            raise Replaced
        if known and found and not renumbered and self.whole and not self.partly and found[1] > known[1] + 1:
            lost = found[1] - known[1] - 1
            self.meter.add(LOST, lost, (self.source, "vacuumed"))
            log.error("%d entries were vacuumed from the journal before they were read", lost, extra=extra)
        else:
            log.info("the last entry that was read is not in the journal any more; going on after it", extra=extra)
