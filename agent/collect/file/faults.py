"""This file says once what is wrong with a file, and counts what never reached the agent."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterable

from agent.collect.file.tail import Piece
from agent.ownmetrics import Meter

log = logging.getLogger("telemetry_agent.collect")

LOST = "telemetry_agent_source_lost_total"
LINES_CUT = "telemetry_agent_lines_cut_total"
REPLACED = "telemetry_agent_characters_replaced_total"
ARCHIVE_ERRORS = "telemetry_agent_archive_errors_total"
NUL_BYTES = "telemetry_agent_nul_bytes_total"
UNREADABLE = "telemetry_agent_files_unreadable"
NEXT_STEPS = {
    errno.EACCES: "give the agent's user read access, or name it in exclude",
    errno.EPERM: "give the agent's user read access, or name it in exclude",
    errno.EIO: "the disk reports an error; it is tried again",
    errno.EMFILE: "raise LimitNOFILE or lower max_open_files",
    errno.ENFILE: "raise fs.file-max or lower max_open_files",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST_SHOWN = 10


def printable(path: str) -> str:
    """The path as text that is safe anywhere: control characters and bytes that are not UTF-8 are escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


class Faults:
    """What cannot be read now, by path, and what was lost."""

    def __init__(self, source: str, meter: Meter) -> None:
        self._source = source
        self._meter = meter
        self._now: dict[str, str] = {}
        self._refused = False
        self._left_out: dict[str, int] = {}
        self._left_alone = 0

    def unreadable(self, path: str, error: OSError) -> None:
        """Warns when it is new, or not the same as before."""
        reason = error.strerror or type(error).__name__
        if self._now.get(path) != reason:
            self._now[path] = reason
            step = NEXT_STEPS.get(error.errno or 0, "it is tried again")
            log.warning("cannot read %s: %s; %s", printable(path), reason, step, extra=self._context())
            self._count()

    def unpackable(self, path: str, reason: str) -> None:
        """Counts a compressed file that could not be read to its end, and warns when that is new."""
        self._meter.add(ARCHIVE_ERRORS, 1, (self._source,))
        if self._now.get(path) != reason:
            self._now[path] = reason
            message = "cannot unpack %s: %s; it is tried again when it changes"
            log.warning(message, printable(path), reason, extra=self._context())
            self._count()

    def archive_gone(self, path: str) -> None:
        """Counts a compressed file that is gone with something in it that nobody has read."""
        self._meter.add(ARCHIVE_ERRORS, 1, (self._source,))
        log.error("%s was gone before it was read to its end", printable(path), extra=self._context())

    def readable(self, path: str) -> None:
        """Says that the fault of a file is over, where it had one."""
        if self._now.pop(path, None) is not None:
            log.info("the fault of %s is over", printable(path), extra=self._context())
            self._count()

    def listing(self, failures: dict[str, OSError], known: Iterable[str]) -> None:
        """Takes what one walk could not look at; what it could, and no file in ``known`` has, is well again."""
        for path, error in failures.items():
            self.unreadable(path, error)
        for path in self._now.keys() - failures.keys() - set(known):
            self.readable(path)

    def lost(self, reason: str, amount: int, message: str, path: str) -> None:
        """Counts bytes or events that never reached the agent, and says so."""
        if amount > 0:
            self._meter.add(LOST, amount, (self._source, reason))
            log.error(message, amount, printable(path), extra=self._context())

    def refused(self, path: str) -> None:
        """Says that a pattern matches a file of the spool or one the agent writes records to, which is never read."""
        if not self._refused:
            self._refused = True
            message = "%s is of the agent's own spool, or written by it, and is never read; name it in exclude"
            log.warning(message, printable(path), extra=self._context())

    def left_out(self, option: str, most: int, number: int) -> None:
        """Counts files or directories beyond a bound each time there are more of them; ``number`` are left out now."""
        before = self._left_out.get(option, 0)
        self._left_out[option] = number
        if number > before:
            self._meter.add(LOST, number - before, (self._source, option))
        if number and not before:
            log.warning("%d are left out beyond %s = %d; raise it", number, option, most, extra=self._context())

    def left_alone(self, max_age_seconds: float | None, number: int) -> None:
        """Says how many files were too old to be read when they were found, when there are more of them."""
        if number > self._left_alone:
            message = "%d files not modified for max_age_seconds = %g are left alone; what is added to them is read"
            log.info(message, number, max_age_seconds, extra=self._context())
        self._left_alone = number

    def overflowed(self) -> None:
        """Counts events the kernel dropped; a look at all files makes up for them."""
        self._meter.add(LOST, 1, (self._source, "inotify_overflow"))

    def changed(self, piece: Piece) -> None:
        """Counts what of a piece is not as it was in the file: lines cut, bytes replaced, NUL bytes left out."""
        if piece.lines_cut:
            self._meter.add(LINES_CUT, piece.lines_cut, (self._source,))
        if piece.cut_bytes:
            self._meter.add(LOST, piece.cut_bytes, (self._source, "cut"))
        if piece.replaced:
            self._meter.add(REPLACED, piece.replaced, (self._source,))
        if piece.nul_bytes:
            self._meter.add(NUL_BYTES, piece.nul_bytes, (self._source,))

    def shown(self) -> list[str]:
        """The first few, for the status page."""
        return [f"{printable(path)}: {reason}" for path, reason in list(self._now.items())[:_MOST_SHOWN]]

    def __len__(self) -> int:
        return len(self._now)

    def _count(self) -> None:
        self._meter.set(UNREADABLE, len(self._now), (self._source,))

    def _context(self) -> dict[str, dict[str, str]]:
        return {"context": {"source": self._source}}
