"""This file decides which of the agent's own lines are wanted: by level, by time, by a pattern in its text."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from agent.errors import AgentError
from agent.wire.ownline import as_text, timestamp

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_AGO: Final = re.compile(r"(\d{1,9})\s*([smhdw])[a-z]*(?: ago)?")
_FIELDS: Final = ("timestamp", "level", "component", "message", "context")


class Wanted(Struct, frozen=True):
    """What a line must fulfil: a level, a time (as ``timestamp`` writes it), and a pattern in its text."""

    levels: frozenset[str] = frozenset(LEVELS)
    since: str = ""
    pattern: re.Pattern[str] | None = None

    def entry(self, line: bytes) -> dict[str, Any] | None:
        """The line's content where it is wanted. Raises ValueError where it is no line of the agent's."""
        entry = _decoded(line)
        if entry["level"] not in self.levels or entry["timestamp"] < self.since:
            return None
        if self.pattern is not None and not self.pattern.search(as_text(entry)):
            return None
        return entry


def wanted(level: str | None, since: str | None, pattern: str | None, now_seconds: float) -> Wanted:
    """What the options ask for. Raises AgentError where one cannot be understood."""
    try:
        compiled = None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise AgentError(f"--grep {pattern}: {error}; it is a regular expression of Python's re") from None
    levels = frozenset(LEVELS[LEVELS.index(level) :] if level else LEVELS)
    return Wanted(levels, "" if since is None else timestamp(moment(since, now_seconds)), compiled)


def moment(text: str, now_seconds: float) -> float:
    """The time that ``text`` means, in seconds since the Unix epoch: ``1h`` ago, ``yesterday``, ``2026-11-20T10:00`` in
    local time where it names no other. Raises AgentError."""
    if ago := _AGO.fullmatch(text.strip().lower()):
        return now_seconds - int(ago[1]) * UNITS[ago[2]]
    midnight = datetime.fromtimestamp(now_seconds).astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"today": 0, "yesterday": 1}.get(text.strip().lower())
    try:
        if days is not None:
            return (midnight.replace(tzinfo=None) - timedelta(days=days)).timestamp()
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise AgentError(
            f"--since {text}: no time; write 30m, 1h or 2d (ago), today, yesterday, 2026-11-20 or 2026-11-20T10:00"
        ) from None


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        entry = msgspec.json.decode(line, type=dict[str, Any])
        if all(isinstance(entry[field], str) for field in _FIELDS[:-1]) and isinstance(entry["context"], dict):
            return entry
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    raise ValueError("a field is of another type")
