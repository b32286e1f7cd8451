"""This file reads syslog messages: RFC 5424 with structured data, RFC 3164, and what is sent in their name.

    <34>1 2003-10-11T22:14:15.003Z host app 123 ID47 [origin ip="192.0.2.1"][seq n="1"] text
    <34>Oct 11 22:14:15 host app[123]: text

Which beginnings are known says agent/wire/syslogheads.py. In files the priority may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agent.wire.format import Columns, Joining, Moment
from agent.wire.syslogheads import MOST_PRIORITY, RFC5424_VERSION, find_head, heads_of, host_and_app

if TYPE_CHECKING:
    from agent.batch import Logs

FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news"),
    *("uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock"),
    *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
"""Names of facilities, RFC 5424 section 6.2.1, as syslog.conf(5) and logger(1) call them."""

SEVERITIES: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
BOM: Final = b"\xef\xbb\xbf"
NIL: Final = b"-"

_SURE: Final = re.compile(
    rb"<[0-9]{1,3}>(?:1 (?:-|[0-9]{4}-)|[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:|[0-9]{4}-[0-9]{2}-[0-9]{2}T)"
    rb"|(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}"
    rb"(?:Z|[+-][0-9]{2}:[0-9]{2})) [^ :\[]+ [^ :\[]+(?:\[[0-9]+\])?:"
)
_ELEMENT: Final = re.compile(rb'\[([^ =\]"]+)((?: [^ =\]"]+="(?:[^"\\\]]|\\.)*")*)\]', re.DOTALL)
_PARAMETER: Final = re.compile(rb' ([^ =\]"]+)="((?:[^"\\\]]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(rb'\\(["\\\]])')
_TAG: Final = re.compile(rb"([^ :\[]*)(?:\[([^\]]*)\])?:? ?")


class Syslog:
    """The format of one message without its framing."""

    name: Final = "syslog"
    joining: Joining | None = None

    def columns(self, batch: Logs, moment: Moment) -> Columns:
        """Times from headers, severities from priorities."""
        if not batch.count:
            return Columns()
        heads = heads_of(*in_lines(batch.block, batch.separator), moment)
        times_ns = heads.times_ns if any(heads.times_ns) else None
        severities = heads.severities
        return Columns(times_ns, severities if any(severities) else None, heads.unparsed)

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        """What the header says, each where it says it: ``facility``, ``severity``, ``hostname``, ``app_name``,
        ``proc_id``, ``msg_id``, ``structured_data`` (a mapping of mappings); and ``message``."""
        found = find_head(record)
        if found is None:
            return None
        fields = of_priority(int(found.priority)) if found.priority else {}
        if found.version == RFC5424_VERSION:
            return fields | _rfc5424(record, found.names_at)
        return fields | _rfc3164(record, found.names, found.names_at)

    def matches(self, record: bytes) -> bool:
        """Whether it begins with a priority and a time, or with time, host and tag as in /var/log/syslog."""
        return _SURE.match(record) is not None


def in_lines(block: bytes, separator: bytes) -> tuple[bytes, list[bytes] | None]:
    """The records as lines, in which a line feed of their own is a space; and as they are, where that differs."""
    if separator == b"\n":
        return block, None
    records = block.split(separator)[:-1]
    return b"".join([record.replace(b"\n", b" ") + b"\n" for record in records]), records


def of_priority(priority: int) -> dict[str, Any]:
    """``facility`` and ``severity`` by name; nothing for what is no priority."""
    if priority > MOST_PRIORITY:
        return {}
    facility, severity = divmod(priority, 8)
    return {"facility": FACILITIES[facility], "severity": SEVERITIES[severity]}


def _rfc5424(record: bytes, at: int) -> dict[str, Any]:
    hostname, app_name, proc_id, msg_id, rest = (*record[at:].split(b" ", 4), *([NIL] * 5))[:5]
    texts = {"hostname": hostname, "app_name": app_name, "proc_id": proc_id, "msg_id": msg_id}
    fields: dict[str, Any] = {name: _text(value) for name, value in texts.items() if value != NIL}
    data, message = _structured(rest)
    if data:
        fields["structured_data"] = data
    return fields | {"message": _text(message.removeprefix(BOM))}


def _structured(rest: bytes) -> tuple[dict[str, dict[str, Any]], bytes]:
    """The structured data at the beginning of ``rest``, and what follows it. What is not well formed is message."""
    if rest == NIL or rest.startswith(b"- "):
        return {}, rest[2:]
    data: dict[str, dict[str, Any]] = {}
    at = 0
    while (element := _ELEMENT.match(rest, at)) is not None:
        parameters = data.setdefault(_text(element[1]), {})
        for name, value in _PARAMETER.findall(element[2]):
            _add(parameters, _text(name), _text(_ESCAPED.sub(rb"\1", value)))
        at = element.end()
    if at < len(rest) and rest[at : at + 1] != b" ":
        return {}, rest
    return data, rest[at + 1 :]


def _add(parameters: dict[str, Any], name: str, value: str) -> None:
    """A name may be given several times; it has a list of values then (RFC 5424, section 6.3.3)."""
    known = parameters.get(name)
    if known is None:
        parameters[name] = value
    elif isinstance(known, list):
        known.append(value)
    else:
        parameters[name] = [known, value]


def _rfc3164(record: bytes, names: bytes, at: int) -> dict[str, Any]:
    host, app = host_and_app(names)
    fields: dict[str, Any] = {}
    if host:
        fields["hostname"] = _text(host)
    message = record[at:]
    if b" " in names:
        message = message.partition(b" ")[2]
    elif not app:
        message = message[len(names) :].removeprefix(b" ")
    if app and (tag := _TAG.match(message)) is not None:
        fields["app_name"] = _text(app)
        if tag[2]:
            fields["proc_id"] = _text(tag[2])
        message = message[tag.end() :]
    return fields | {"message": _text(message)}


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


FORMAT: Final = Syslog()
