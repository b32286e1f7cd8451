"""This file reads nginx: its access log, also with more fields behind the combined ones, and its error log.

    2026/11/20 16:40:01 [error] 123#123: *1 open() "/srv/x" failed (2: No such file or directory), client: 10.0.0.1, …
    └────── time ─────┘  level  pid tid  connection  └─────────────── message ─────────────────┘  └── what it was about

The severity of a line of an access log is that of its status. An error log holds line ends where a FastCGI program
(PHP) wrote some to its standard error; what follows them goes on the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.wire import access
from agent.wire.format import Joining
from agent.wire.joining import beginning_with
from agent.wire.shapes import Shape, Shaped

_ERROR: Final = Shape(
    rb"(?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?P<level>[a-z]+)\] (?P<pid>\d++)#(?P<tid>\d++): ",
    rb"(?:\*(?P<connection>\d++) )?+(?P<message>.*)",
)
_ABOUT: Final = ("referrer", "host", "upstream", "subrequest", "request", "server", "client")
"""What a message may end in, from its end."""

_JOINING: Final[Joining] = beginning_with(rb"(?:[^\s#SP]|S(?!tack trace:)|P(?!HP message: )|#(?!\d))")


def _fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    return access.fields_of(groups) if "status" in groups else _error_fields(groups)


def _error_fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    message = groups["message"]
    if ", client: " not in message:
        return groups
    for name in _ABOUT:
        rest, found, value = message.rpartition(f", {name}: ")
        if found:
            message = rest
            groups |= access.request_parts(_unquoted(value)) if name == "request" else {name: _unquoted(value)}
    return {**groups, "message": message}


def _unquoted(value: str) -> str:
    """The value without its quotation marks; nginx cuts lines at 2048 bytes, and then the second one is missing."""
    return value[1:].removesuffix('"') if value.startswith('"') else value.rstrip(", ")


FORMAT: Final = Shaped(
    "nginx", (access.ACCESS, _ERROR), _JOINING, access.NUMBERS | {"pid", "tid", "connection"}, _fields
)
