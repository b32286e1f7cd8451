"""This file reads the Apache HTTP server: access logs (common, combined, with a virtual host before) and error logs.

    [Fri Nov 20 16:40:01.123456 2026] [core:error] [pid 12:tid 34] [client 10.0.0.1:4] AH00128: File does not exist: …
     └───────────── time ──────────┘ module level                                      code     └── message ──┘

The severity of a line of an access log is that of its status. Times of error logs are local and name no zone. A message
of several lines is written as one, its line ends as ``\\n``.
Source: httpd.apache.org mod_log_config, core ErrorLogFormat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.wire import access
from agent.wire.shapes import Shape, Shaped, severities_by
from agent.wire.timestamps import PATTERNS

_ERROR: Final = Shape(
    rb"\[(?P<time>" + PATTERNS["ctime"] + rb")\] \[(?:(?P<module>[\w.-]*+):)?+(?P<level>[a-z]++\d?)\]",
    rb"(?: \[pid (?P<pid>\d++)(?::tid (?P<tid>\d++))?+\])?+(?: [\w./-]++\(\d++\):)?+"
    rb"(?: \((?P<errno>\d++)\)(?P<error>[^:\[\n]++):)?+(?: \[client (?P<client>[^\]\n]++)\])?+"
    rb"(?: (?P<code>AH\d{5}):)?+(?P<message>.*)",
    times="ctime",
    severities=severities_by({b"trace%d" % number: 1 for number in range(1, 9)}),
)


def _fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    if "status" in groups:
        return access.fields_of(groups)
    message, found, referer = groups["message"].strip().rpartition(", referer: ")
    return {**groups, "message": message, "referer": referer} if found else {**groups, "message": referer}


FORMAT: Final = Shaped(
    "apache",
    (access.VHOST_ACCESS, access.IDENT_ACCESS, _ERROR),
    None,
    access.NUMBERS | {"pid", "tid", "errno"},
    _fields,
)
