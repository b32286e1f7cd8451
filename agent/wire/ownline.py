"""This file is the form of one line of the agent's own log: JSON, or text for a terminal.

  {"timestamp":"2026-01-31T12:00:00.123456Z","level":"warning","component":"export.loki",
   "message":"…","context":{"lane":"loki/logs"},"correlation_id":"4bf9…32 hex" or null,
   "audit":true,                                                     (only where it belongs to the audit log)
   "exception":{"type":"…","message":"…","stack":["…"]}}              (only where there is one)

  2026-01-31 12:00:00.123 WARNING export.loki: message lane=loki/logs

Text that came from outside may hold line breaks and terminal commands. Neither form lets them through, so no message
can pass for a line of its own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_CHARACTERS: Final = 8192
MOST_ENTRIES: Final = 64
MOST_DEPTH: Final = 4

# C0 and C1 controls, Unicode line breaks, direction overrides: what moves a cursor, ends a line or turns it round.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def as_json(entry: Mapping[str, Any]) -> str:
    """One JSON object on one line, of printable characters only."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", msgspec.json.encode(entry, enc_hook=str).decode())


def as_text(entry: Mapping[str, Any]) -> str:
    """One line, and an indented one for each of a stack; no line break of any value survives."""
    moment = entry["timestamp"][:23].replace("T", " ")
    pairs = "".join(f" {escaped(key)}={_quoted(value)}" for key, value in entry["context"].items())
    line = f"{moment} {entry['level'].upper():7} {escaped(entry['component'])}: {escaped(entry['message'])}{pairs}"
    exception = entry.get("exception")
    if exception is None:
        return line
    stack = [*exception["stack"], f"{exception['type']}: {exception['message']}"]
    return "\n".join((line, *(f"    {escaped(part)}" for part in stack)))


def escaped(text: str) -> str:
    """``text`` with every character that ends a line or commands a terminal written as ``\\xNN`` or ``\\uNNNN``."""
    return _UNSAFE.sub(lambda found: _escape(ord(found[0])), text)


def plain(value: Any, mask: Callable[[str], str], depth: int = 0) -> Any:
    """The value as text, number, list or dict of them: masked, and bounded in every direction."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    if isinstance(value, dict) and depth < MOST_DEPTH:
        pairs = list(value.items())[:MOST_ENTRIES]
        return {str(plain(str(key), mask)): plain(item, mask, depth + 1) for key, item in pairs}
    if isinstance(value, list | tuple | set | frozenset) and depth < MOST_DEPTH:
        return [plain(item, mask, depth + 1) for item in list(value)[:MOST_ENTRIES]]
    # Masked before it is cut: half a secret would not be recognised.
    text = mask(value if isinstance(value, str) else str(value))
    text = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… ({len(text)} characters)"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    moment = datetime.fromtimestamp(round(seconds * 1e6) / 1e6, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _quoted(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return escaped(text) if text and not re.search(r'[\s"=]', text) else f'"{escaped(text).replace(chr(34), chr(39))}"'


def _escape(code: int) -> str:
    short = {10: "\\n", 13: "\\r", 9: "\\t"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
