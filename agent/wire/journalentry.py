r"""This file is one line of the agent's own log as an entry of systemd's journal, in journald's native protocol.

  NAME=text without a line break\n
  NAME\n <length: 64 bits, little endian> <any bytes> \n

A name is of A-Z, 0-9 and _, begins with a letter, and has at most 64 bytes; a name may come several times.
Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, systemd.journal-fields(7).

  MESSAGE=the sentence, and the error behind it      what journalctl shows
  PRIORITY=4   SYSLOG_IDENTIFIER=telemetry-agent
  TELEMETRY_AGENT_COMPONENT=export.loki              what is searched for: journalctl TELEMETRY_AGENT_…=…
  TELEMETRY_AGENT_LANE=loki/logs                     one of the context, each under its name; a list is several
  TELEMETRY_AGENT_CORRELATION_ID   _AUDIT=1   _EXCEPTION   _STACK
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.wire.ownline import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IDENTIFIER: Final = "telemetry-agent"
PREFIX: Final = "TELEMETRY_AGENT_"
MOST_NAME_BYTES: Final = 64
RESERVED: Final = frozenset(("COMPONENT", "CORRELATION_ID", "AUDIT", "EXCEPTION", "STACK"))
"""What no context may pass for: an entry of it has ``CONTEXT_`` before its name."""

_NO_NAME: Final = re.compile("[^A-Z0-9_]")


def entry_bytes(entry: Mapping[str, Any], priority: int) -> bytes:
    """The whole entry, of a line as ``agent.wire.ownline`` draws it."""
    return b"".join(_field(name, value) for name, value in _fields(entry, priority))


def _fields(entry: Mapping[str, Any], priority: int) -> Iterator[tuple[str, str]]:
    exception = entry.get("exception")
    error = f"{exception['type']}: {exception['message']}" if exception else ""
    yield "MESSAGE", f"{escaped(entry['message'])}{f' ({escaped(error)})' if error else ''}"
    yield "PRIORITY", str(priority)
    yield "SYSLOG_IDENTIFIER", IDENTIFIER
    yield f"{PREFIX}COMPONENT", escaped(entry["component"])
    if entry["correlation_id"]:
        yield f"{PREFIX}CORRELATION_ID", escaped(str(entry["correlation_id"]))
    if entry.get("audit"):
        yield f"{PREFIX}AUDIT", "1"
    if exception:
        yield f"{PREFIX}EXCEPTION", escaped(error)
        yield f"{PREFIX}STACK", "\n".join(map(escaped, exception["stack"]))
    for key, value in entry["context"].items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                yield _name(key), escaped(each if isinstance(each, str) else msgspec.json.encode(each).decode())


def _name(key: str) -> str:
    name = _NO_NAME.sub("_", key.upper())
    return f"{PREFIX}{'CONTEXT_' if name in RESERVED else ''}{name}"[:MOST_NAME_BYTES]


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    if b"\n" in data:
        return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
    return b"%b=%b\n" % (name.encode(), data)
