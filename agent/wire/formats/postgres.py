"""This file reads PostgreSQL: what it writes to standard error, and its CSV log.

    2026-11-20 16:40:01.123 UTC [123] clerk@shop ERROR:  relation "ordres" does not exist at character 17
    2026-11-20 16:40:01.123 UTC [123] clerk@shop STATEMENT:  SELECT *
            FROM ordres                     a tab stands before what goes on
    └────────── time ─────────┘ └─ prefix ─┘ level

Any ``log_line_prefix`` that begins with a time (``%m`` or ``%t``) is read; process, user and database are told from it
as Debian, Amazon and pgBadger have them. What is said about one error (DETAIL, HINT, STATEMENT…) goes on its record.
Source: postgresql.org, "Error Reporting and Logging".
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any, Final

from agent.wire.joining import beginning_with
from agent.wire.shapes import Shape, Shaped, is_number
from agent.wire.timestamps import PATTERNS

_LEVELS: Final = rb"(?:DEBUG[1-5]?|INFO|NOTICE|WARNING|LOG|ERROR|FATAL|PANIC)"
_ABOUT: Final = ("DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "BACKTRACE", "STATEMENT")
_TIME: Final = rb"(?P<time>" + PATTERNS["iso"] + rb")"

_STDERR: Final = Shape(
    _TIME + rb"(?>(?P<prefix>[^\nSEP]*?)\b(?P<level>" + _LEVELS + rb"):  )",
)
_CSV: Final = Shape(
    _TIME + rb',(?:(?:"(?:[^"SEP]++|"")*+"|[^,"\nSEP]*+),){10}+(?P<level>' + _LEVELS + rb"),",
    rb"(?P<csv>.*)",
)

_CSV_NAMES: Final = (
    *("time", "user", "database", "pid", "client", "session", "session_line", "command", "session_start"),
    *("virtual_transaction", "transaction", "level", "sqlstate", "message", "detail", "hint", "internal_query"),
    *("internal_position", "context", "statement", "position", "location", "application", "backend", "leader"),
    "query_id",
)
"""The columns in their order; versions before 14 have fewer."""

_WHOLE: Final = frozenset({"pid", "session_line", "transaction", "internal_position", "position", "leader", "query_id"})

_JOINING: Final = beginning_with(
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?!(?:[^\n:]++|:(?!  ))*+(?:"
    + rb"|".join(rb"(?<=[ :]%s)" % name.encode() for name in _ABOUT)
    + rb"))"
)
_PID: Final = re.compile(r"\[(\d{1,10})(?:-\d{1,10})?+\]")
_WHO: Final = re.compile(r"(?:^|[\]:]) ?(?P<user>\[unknown\]|[^@\]\[:=]++)@(?P<database>\[unknown\]|[^\s@:]++)")
_PAIR: Final = re.compile(r"\b(user|db|app|client|host)=([^, ]*+)")
_CALLED: Final = {"db": "database", "app": "application", "host": "client"}
_NEXT: Final = re.compile(r"\n\d{4}-\d\d-\d\d (?>[^\n]*?\b(" + "|".join(_ABOUT) + r"):  )")


def _stderr_fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    message, *about = _NEXT.split(groups.pop("message"))
    parts = _prefix_fields(groups.pop("prefix"))
    named = zip(map(str.lower, about[::2]), about[1::2], strict=True)
    found = {**groups, **parts, "message": message, **dict(named)}
    return {name: _plain(value) for name, value in found.items() if value not in (None, "", "[unknown]")}


def _prefix_fields(prefix: str) -> dict[str, Any]:
    """Who said it, as far as the prefix tells: ``[%p] %u@%d``, Amazon's ``%r:%u@%d:[%p]``, ``user=%u,db=%d``."""
    parts: dict[str, Any] = {_CALLED.get(name, name): value for name, value in _PAIR.findall(prefix)}
    if pid := _PID.search(prefix):
        parts["pid"] = int(pid[1])
    if who := _WHO.search(prefix):
        parts |= who.groupdict()
    return parts or {"prefix": prefix.strip(" :")}


def _plain(value: Any) -> Any:
    """Text as it was before a tab was put in front of each of its further lines."""
    return value.replace("\n\t", "\n").rstrip("\r") if isinstance(value, str) else value


def _csv_fields(record: str) -> dict[str, Any]:
    """The columns; none where one is longer than what reads CSV takes (128 KiB)."""
    try:
        row = next(csv.reader([record]), [])
    except csv.Error:
        return {}
    found: dict[str, Any] = {name: value for name, value in zip(_CSV_NAMES, row, strict=False) if value}
    return found | {name: int(found[name]) for name in _WHOLE & found.keys() if is_number(found[name])}


class _Postgres(Shaped, frozen=True):
    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        found = _CSV.pattern.fullmatch(record)
        if found is None:
            return super().fields(record)
        known = {"time": found["time"].decode(), "level": found["level"].decode()}
        return known | _csv_fields(record.decode("utf-8", "replace"))


FORMAT: Final = _Postgres("postgres", (_STDERR, _CSV), _JOINING, frozenset(), _stderr_fields)
