"""This file is what the agent writes about itself: one line a message, on standard error (``agent.wire.ownline``).

Where standard error is systemd's journal, a message is an entry with fields there (``agent.wire.journalentry``), and a
line on standard error as before where journald does not take it at once.

Library loggers and Python's warnings come in at warning. Secrets are masked in every value before it is written.
Nothing here raises, and a reader of standard error that has stopped reading costs lines, which are counted, and
never the agent.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from agent.clock import SystemClock
from agent.wire.ownline import MOST_DEPTH, MOST_ENTRIES, as_json, as_text, plain, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.ownlogs.journal import Journal
    from agent.ownmetrics import Meter

Format = Literal["auto", "json", "text"]
Level = Literal["debug", "info", "warning", "error"]

OURS: Final = "telemetry_agent"
AUDIT: Final = f"{OURS}.audit"
"""The logger of ``agent.ownlogs.audit``, which no log level silences."""

PATIENCE_SECONDS: Final = 0.02
REMINDER_SECONDS: Final = 3600.0

# Numbers of syslog(3); logging's own levels between them count as the one below.
PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR
}  # fmt: skip
# A pipe, socket or terminal that polls as writable takes this much without blocking (PIPE_BUF).
_CHUNK_BYTES: Final = select.PIPE_BUF

_correlation: ContextVar[str | None] = ContextVar("telemetry_agent_correlation", default=None)


@contextmanager
def correlated(trace_id: str | None = None) -> Iterator[str]:
    """One collection or delivery: every line written inside carries the same id, 32 hex digits, which is given."""
    identifier = trace_id or os.urandom(16).hex()
    token = _correlation.set(identifier)
    try:
        yield identifier
    finally:
        _correlation.reset(token)


def correlation_id() -> str | None:
    """The id of the collection or delivery that is running, or None."""
    return _correlation.get()


def unmasked(text: str) -> str:
    """The mask of an agent that knows no secrets."""
    return text


class OwnLogs(logging.Handler):
    """Writes records to one stream; ``set_level``, ``set_format`` and ``mask`` may change while it is in use."""

    def __init__(
        self, stream: IO[str], meter: Meter, environ: Mapping[str, str], mask: Callable[[str], str] = unmasked
    ) -> None:
        super().__init__()
        self.mask = mask
        self.beside: Callable[[dict[str, Any]], None] | None = None
        """Is handed every line as agent.wire.ownline has it, and neither blocks nor raises."""
        self._meter = meter
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._journal = is_journal(self._descriptor, environ.get("JOURNAL_STREAM", ""))
        self._entries = _entries() if self._journal else None
        self._as_entries = self._text = False
        self._unwritten = 0
        self._cut = False
        self.set_format("auto")

    def set_level(self, level: Level) -> None:
        """The least level of the agent's own lines from now on; libraries speak from warning on."""
        logging.getLogger(OURS).setLevel(LEVELS[level])

    def set_format(self, chosen: Format) -> None:
        """The format from now on; ``auto`` is entries in the journal, text on a terminal and JSON everywhere else."""
        self._as_entries = chosen == "auto"
        self._text = chosen == "text" or (chosen == "auto" and not self._journal and _is_terminal(self._stream))

    def emit(self, record: logging.LogRecord) -> None:
        level = level_name(record.levelno)
        self.count(level)
        try:
            entry = self._entered(record, level)
            if self.beside is not None:
                self.beside(entry)
            if not self._entered_in_journal(entry):
                self._put(self._lines(entry))
        except Exception:  # noqa: BLE001 - a line that cannot be written must not become a failure of what it tells about
            self._meter.add("telemetry_agent_log_lost_total")

    def count(self, level: str) -> None:
        """Counts a line of ``level``, written or not."""
        self._meter.add("telemetry_agent_log_messages_total", labels=(level,))

    def _entered(self, record: logging.LogRecord, level: str) -> dict[str, Any]:
        try:
            return _entry(record, level, self.mask)
        except Exception as error:  # noqa: BLE001 - arguments that do not fit the message, a __str__ that raises
            return _entry(_unformattable(record, error), level, self.mask)

    def close(self) -> None:
        if self._entries is not None:
            self._entries.close()
            self._entries = None
        super().close()

    def _entered_in_journal(self, entry: Mapping[str, Any]) -> bool:
        """Whether the journal has it, what was lost before told first."""
        if self._entries is None or not self._as_entries:
            return False
        from agent.wire.journalentry import entry_bytes

        if self._unwritten and self._entries.send(entry_bytes(self._lost(), PRIORITIES["warning"])):
            self._unwritten = 0
        return self._entries.send(entry_bytes(entry, PRIORITIES[entry["level"]]))

    def _lines(self, entry: Mapping[str, Any]) -> bytes:
        text = as_text(entry) if self._text else as_json(entry)
        prefix = f"<{PRIORITIES[entry['level']]}>" if self._journal else ""
        return "".join(f"{prefix}{line}\n" for line in text.split("\n")).encode("utf-8", "replace")

    def _put(self, data: bytes) -> None:
        if self._unwritten:
            data = self._lines(self._lost()) + data
        if self._cut:
            data = b"\n" + data
        written = self._write(data)
        if written:
            self._cut = data[written - 1 : written] != b"\n"
        if written == len(data):
            self._unwritten = 0
            return
        self._unwritten += 1
        self._meter.add("telemetry_agent_log_lost_total")

    def _write(self, data: bytes) -> int:
        if self._descriptor is None:
            self._stream.write(data.decode())
            self._stream.flush()
            return len(data)
        patience = 0.0 if self._unwritten else PATIENCE_SECONDS
        written = 0
        while written < len(data) and _takes(self._descriptor, patience):
            try:
                written += os.write(self._descriptor, data[written : written + _CHUNK_BYTES])
            except OSError:  # it is full after all, or nobody reads it any more
                return written
        return written

    def _lost(self) -> dict[str, Any]:
        message = f"{self._unwritten} log lines were lost: standard error did not take them"
        record = logging.LogRecord(f"{OURS}.ownlogs", logging.WARNING, "", 0, message, None, None)
        return self._entered(record, "warning")


@contextmanager
def open_logs(
    meter: Meter,
    *,
    level: Level = "info",
    chosen: Format = "auto",
    mask: Callable[[str], str] = unmasked,
    stream: IO[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[OwnLogs]:
    """Routes the agent's loggers, those of its libraries and Python's warnings to standard error until it is left."""
    handler = OwnLogs(stream or sys.stderr, meter, os.environ if environ is None else environ, mask)
    handler.set_format(chosen)
    root, ours, audit = (logging.getLogger(name) for name in ("", OURS, AUDIT))
    before = (root.handlers[:], root.level, ours.level, audit.level)
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    audit.setLevel(logging.INFO)
    handler.set_level(level)
    logging.captureWarnings(True)
    try:
        yield handler
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
        audit.setLevel(before[3])
        handler.close()


class Repeating:
    """One thing that may fail again and again: it is logged when its state changes, and counted always.

    ``monotonic_seconds`` tells the time that ``reminder_seconds`` is measured in; the system's when left out.
    """

    def __init__(
        self,
        log: logging.Logger,
        monotonic_seconds: Callable[[], float] | None = None,
        reminder_seconds: float = REMINDER_SECONDS,
    ) -> None:
        self._log = log
        self._monotonic_seconds = monotonic_seconds or SystemClock().monotonic_seconds
        self._reminder_seconds = reminder_seconds
        self._lock = threading.Lock()
        self._key: str | None = None
        self._shown_at = 0.0
        self._unshown = 0

    @property
    def failing(self) -> bool:
        """True from the first failure until ``recovered``."""
        return self._key is not None

    def failed(self, key: str, message: str, *, level: int = logging.WARNING, **context: object) -> bool:
        """Logs the first failure, one of another ``key``, and a reminder an hour; True when it did."""
        with self._lock:
            now = self._monotonic_seconds()
            if key == self._key and now - self._shown_at < self._reminder_seconds:
                self._unshown += 1
                unshown = None
            else:
                unshown = self._unshown
                self._key, self._shown_at, self._unshown = key, now, 0
        if unshown is None:
            _count_unshown(level)
            return False
        self._log.log(level, "%s", message + _not_shown(unshown), extra={"context": context})
        return True

    def recovered(self, message: str, *, level: int = logging.INFO, **context: object) -> bool:
        """Logs the end of a failure once, with how many were not shown; True when there was one."""
        with self._lock:
            if self._key is None:
                return False
            unshown, self._key, self._unshown = self._unshown, None, 0
        self._log.log(level, "%s", message + _not_shown(unshown), extra={"context": context})
        return True


def level_name(number: int) -> str:
    """``debug``, ``info``, ``warning``, ``error`` or ``critical`` for any level of ``logging``."""
    if number >= logging.CRITICAL:
        return "critical"
    return next((name for name in ("error", "warning", "info") if number >= LEVELS[name]), "debug")


def is_journal(descriptor: int | None, journal_stream: str) -> bool:
    """True when ``$JOURNAL_STREAM`` (``device:inode``, systemd.exec(5)) names what ``descriptor`` is open on."""
    if descriptor is None or not journal_stream:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return journal_stream == f"{found.st_dev}:{found.st_ino}"


def _entry(record: logging.LogRecord, level: str, mask: Callable[[str], str]) -> dict[str, Any]:
    context = getattr(record, "context", None) or {}
    entry: dict[str, Any] = {
        "timestamp": timestamp(record.created),
        "level": level,
        "component": plain(record.name.removeprefix(f"{OURS}."), mask),
        "message": plain(record.getMessage(), mask),
        "context": plain(context if isinstance(context, dict) else {"context": context}, mask),
        "correlation_id": getattr(record, "correlation_id", None) or _correlation.get(),
    }
    if getattr(record, "audit", False):
        entry["audit"] = True
    if record.exc_info and record.exc_info[1] is not None:
        entry["exception"] = _exception(record.exc_info[1], mask)
    return entry


def _exception(error: BaseException, mask: Callable[[str], str]) -> dict[str, Any]:
    import traceback

    stack = "".join(traceback.format_tb(error.__traceback__)).splitlines()
    message = str(error)
    for cause in _causes(error):
        message += f" (from {type(cause).__name__}: {cause})"
    return {
        "type": type(error).__name__,
        "message": plain(message, mask),
        "stack": [plain(line, mask) for line in stack[-MOST_ENTRIES:]],
    }


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What an exception came from, and the parts of a group, a few of each."""
    parts = list(error.exceptions[:MOST_DEPTH]) if isinstance(error, BaseExceptionGroup) else []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and cause is not error:
        parts.append(cause)
    yield from parts


def _unformattable(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    message = f"a message that cannot be formatted ({type(error).__name__}): {record.msg!r}"
    return logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, "%s", (message,), None)


def _entries() -> Journal | None:
    """A way into the journal, where there can be one."""
    from agent.ownlogs.journal import Journal

    try:
        return Journal()
    except OSError:
        return None


def _takes(descriptor: int, patience_seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(patience_seconds * 1000))


def _descriptor(stream: IO[str]) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def _count_unshown(level: int) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, OwnLogs):
            handler.count(level_name(level))


def _not_shown(count: int) -> str:
    if count == 1:
        return " (1 more failure was not shown)"
    return f" ({count} more failures were not shown)" if count else ""
