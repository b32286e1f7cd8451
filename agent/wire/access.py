"""This file knows the lines of access logs, which nginx and Apache write alike: common, combined, and more behind it.

    10.0.0.1 - alice [20/Nov/2026:16:40:01 +0000] "GET / HTTP/1.1" 200 612 "https://a/" "curl/7.88.1" rt=0.003
    └ address   └ user            └ time            └ request       │   └ bytes  └ referer   └ agent    └ rest
                                                                  status

Sources: nginx.org ngx_http_log_module ("combined"; ``"`` and ``\\`` in values are written ``\\x22`` and ``\\x5C``),
httpd.apache.org mod_log_config (there ``\\"`` and ``\\\\``). Values are given as written, escapes too.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.wire.format import Moment
from agent.wire.shapes import Shape
from agent.wire.timestamps import PATTERNS, times_of

_QUOTED: Final = rb'(?:[^"\\SEP]++|\\[^SEP])*+'
_TIME: Final = PATTERNS["clf"]
_ADDRESS: Final = rb"(?P<remote_addr>[^ \[SEP]++) "
_HEAD: Final = (
    rb"(?>(?P<remote_user>[^\nSEP]*?) \[(?P<time>" + _TIME + rb')\] ")'
    rb"(?P<request>" + _QUOTED + rb')" (?P<status>\d\d\d) '
)
_REST: Final = (
    rb'(?P<body_bytes_sent>\d++|-)(?: "(?P<referer>' + _QUOTED + rb')" "(?P<user_agent>' + _QUOTED + rb')")?+'
    rb"(?:\r?| (?P<rest>.*))"
)
_QUICK: Final = rb'[^[\nSEP]*\[(?<= \[)(.{26})\] "[^"]*"(?:(?<=[^\\]\\")[^"]*")*+(?<!\\") (\d\d\d) '
"""Half the time of the head. Does not match a request in which two escapes stand together, or a user with a bracket;
passes the end of a record where a quotation has no end."""

_QUICK_ADDRESS: Final = rb"[^ [SEP]+ "

_NAMED: Final = re.compile(r'(?<!\S)([A-Za-z_]\w*+)=(?:"([^"]*)"|([^\s"]++))(?= |$)')
_NUMBER: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")

NUMBERS: Final = frozenset({"status", "body_bytes_sent"})


class _ByStatus(dict[bytes, int]):
    """Severities by status: 5xx an error, 4xx a warning, everything else to be expected."""

    def __missing__(self, status: bytes) -> int:
        severity = self[status] = {b"": 0, b"4": 13, b"5": 17}.get(status[:1], 9)
        return severity


def severities(statuses: Sequence[bytes]) -> bytes:
    """Severities of HTTP statuses; 0 for an empty one."""
    return bytes(map(_ByStatus().__getitem__, statuses))


def times(texts: Sequence[bytes], moment: Moment) -> array[int]:
    """Times of requests; each second is read once, since many requests share one."""
    distinct = list(dict.fromkeys(texts))
    found = times_of(distinct, "clf", moment)
    if len(distinct) == len(texts):
        return found
    return array("q", map(dict(zip(distinct, found, strict=True)).__getitem__, texts))


ACCESS: Final = Shape(
    _ADDRESS + rb"- " + _HEAD,
    _REST,
    times=times,
    level="status",
    severities=severities,
    quick=_QUICK_ADDRESS + rb"- " + _QUICK,
)
"""As nginx writes it: the second word is always a hyphen."""

IDENT_ACCESS: Final = Shape(
    _ADDRESS + rb"[^ SEP]++ " + _HEAD,
    _REST,
    times=times,
    level="status",
    severities=severities,
    quick=_QUICK_ADDRESS + _QUICK_ADDRESS + _QUICK,
)
VHOST_ACCESS: Final = Shape(
    rb"(?P<vhost>[^ :SEP]++:\d++) " + _ADDRESS + rb"[^ SEP]++ " + _HEAD,
    _REST,
    times=times,
    level="status",
    severities=severities,
    quick=rb"[^ :SEP]+:\d+ " + _QUICK_ADDRESS + _QUICK_ADDRESS + _QUICK,
)


def fields_of(groups: dict[str, Any]) -> Mapping[str, Any]:
    """What a line holds: the request taken apart, ``-`` left out, and what follows by name where it has names."""
    fields = {name: value for name, value in groups.items() if value != "-"}
    if "body_bytes_sent" in groups:
        fields["body_bytes_sent"] = fields.get("body_bytes_sent", 0)
    fields |= request_parts(fields.pop("request", ""))
    rest = fields.pop("rest", "").rstrip()
    named = {found[1]: _value(found[2] or found[3] or "") for found in _NAMED.finditer(rest)}
    if rest:
        fields["rest"] = rest
    return {**{name: value for name, value in named.items() if value not in ("", "-")}, **fields}


def request_parts(request: str) -> dict[str, str]:
    """Method, path and protocol of a request line; as ``request`` where it has not these three parts."""
    method, _, target = request.partition(" ")
    path, _, protocol = target.rpartition(" ")
    if method.isalpha() and method.isupper() and path and protocol.startswith("HTTP/"):
        return {"method": method, "path": path, "protocol": protocol}
    return {"request": request} if request else {}


def _value(text: str) -> str | float | int:
    if _NUMBER.fullmatch(text) is None:
        return text
    return float(text) if "." in text else int(text)
