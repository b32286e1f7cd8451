"""This file reads what .NET programs log: the console of Microsoft.Extensions.Logging, and Serilog.

    fail: Shop.Orders[18]                                                     level, logger, event
          order 18 failed
          System.InvalidOperationException: no price
             at Shop.Orders.Pay(IDictionary`2 basket) in /srv/shop/Orders.cs:line 20
    2026-11-20 16:40:03.250 +00:00 [ERR] order 18 failed                      Serilog, to a file
    [16:40:03 ERR] order 18 failed                                            Serilog, to a console
    Unhandled exception. System.InvalidOperationException: no price

A record goes on until a line begins like one of these.
Source: learn.microsoft.com "Console log formatting"; serilog-sinks-file and -console, their default templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from agent.wire.applog import ISO, ISO_TIME, clock_times, cut, head, levelled, severities
from agent.wire.joining import beginning_with
from agent.wire.shapes import Shape, Shaped

_SHORT: Final = rb"trce|dbug|info|warn|fail|crit"
_SERILOG: Final = rb"VRB|DBG|INF|WRN|ERR|FTL"
_NAMES: Final = _SERILOG + rb"|TRACE|DEBUG|INFO|WARN|ERROR|FATAL|Trace|Debug|Information|Warning|Error|Critical|Fatal"
_SEVERITIES: Final = severities(trce=1, dbug=5, fail=17, crit=21, VRB=1, FTL=21, Critical=21, Unhandled=21)

_JOINING: Final = beginning_with(
    rb"(?:" + _SHORT + rb"): |\[?" + ISO_TIME + rb"|\[\d\d:\d\d:\d\d |Unhandled exception\. "
)

_SHAPES: Final = (
    Shape(
        rb"(?P<level>" + _SHORT + rb"): (?P<logger>[^\[\nSEP]{1,256}+)\[(?P<event>\d{1,9}+)\]",
        rb"(?:\r?\n {6})?+(?P<message>.*)",
        severities=_SEVERITIES,
    ),
    Shape(ISO + rb" \[(?P<level>" + _SERILOG + rb")\] ", severities=_SEVERITIES),
    Shape(rb"\[(?P<time>\d\d:\d\d:\d\d) (?P<level>" + _SERILOG + rb")\] ", severities=_SEVERITIES, times=clock_times),
    Shape(rb"(?P<mark>Unhandled) exception\. ", level="mark", severities=_SEVERITIES),
    *levelled(rb"\[?" + ISO, _NAMES, sure=False, severities=_SEVERITIES),
)

_HEADS: Final = (
    head(rb"\[?" + ISO, _NAMES, severities=_SEVERITIES),
    *(shape for shape in _SHAPES if b"<time>" + ISO_TIME not in shape.head),
)

_AT: Final = re.compile(r"\n[ \t]*+(?:at [^\n(]++\(|---> |--- End of )")
_THROWN: Final = re.compile(r"(?:^|\n)[ \t]*+(?P<type>(?:\w++\.)++\w++): (?=(?P<text>[^\n]*+))")


def _fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    """With the exception that was logged, and its stack."""
    message = groups["message"]
    at = _AT.search(message)
    if at is None:
        return {**groups, "message": _outdented(message)}
    thrown = _THROWN.search(message, 0, at.start())
    start = at.start() if thrown is None else thrown.start("type")
    told = cut(groups, start, start)
    told["message"] = _outdented(told["message"])
    if thrown is None:
        return told
    text = message[thrown.start("text") : at.start()].rstrip()
    return {**told, "exception_type": thrown["type"], "exception_message": text}


def _outdented(message: str) -> str:
    return message.replace("\n      ", "\n").rstrip()


FORMAT: Final = Shaped("dotnet", _SHAPES, _JOINING, numbers=frozenset({"event"}), finish=_fields, heads=_HEADS)
