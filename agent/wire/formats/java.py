"""This file reads what Java programs log: the layouts of logback, log4j, java.util.logging and programs that ship their
own, and stack traces with their causes.

    2026-11-20 16:40:01.123 [main] ERROR org.example.Orders - order 18 failed          logback; also without a date
    2026-11-20T16:40:01.123Z ERROR 4711 --- [   main] org.example.Orders   : order …    Spring Boot
    [2026-11-20 16:40:01,123] ERROR order 18 failed (org.example.Orders)               Kafka, ZooKeeper
    [2026-11-20T16:40:01,123][ERROR][o.e.Orders   ] [node-1] order 18 failed           Elasticsearch, OpenSearch
    16:40:01,123 ERROR [org.example.Orders] (main) order 18 failed                     WildFly
    20-Nov-2026 16:40:01.123 SEVERE [main] org.example.Orders.pay order 18 failed      Tomcat
    Nov 20, 2026 4:40:01 PM org.example.Orders pay                                     java.util.logging, in two lines
    SEVERE: order 18 failed
    java.lang.IllegalStateException: no price
            at org.example.Orders.price(Orders.java:12)
    Caused by: java.lang.NumberFormatException: …
            ... 12 more

A record goes on until a line begins like one of these: messages and exceptions have lines of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from agent.wire.applog import ISO, clock_times, cut, head, levelled, rewritten, severities
from agent.wire.joining import beginning_with
from agent.wire.shapes import LINE_FEED, Shape, Shaped

_NAMES: Final = rb"TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|FINEST|FINER|FINE|CONFIG|SEVERE"
_LEVEL: Final = rb"(?P<level>" + _NAMES + rb") {0,2}"
_LOGGER: Final = rb"(?P<logger>[\w.$/-]{1,256}+)"
_THREAD: Final = rb"\[ *+(?P<thread>[^\]\nSEP]{1,128}+)\] "
_CLOCK_ONLY: Final = rb"\d\d:\d\d:\d\d[.,]\d{3,9}"
_CLOCK: Final = rb"(?P<time>" + _CLOCK_ONLY + rb")"
_JUL: Final = rb"[A-Z][a-z]{2} \d{1,2}, \d{4},? \d{1,2}:\d\d:\d\d(?: |\xe2\x80\xaf)[AP]M"
_TOMCAT: Final = rb"\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d\.\d{3}"
_SHORT: Final = rb"\d\d/\d\d/\d\d \d\d:\d\d:\d\d"

_JOINING: Final = beginning_with(
    rb"(?=[\[(\dA-Z])(?:"
    rb"[\[(]?(?:\d\d\d\d[-/]\d\d|\d\d:\d\d:\d\d[ .,]|\d\d-[A-Z][a-z]{2}-\d|\d\d/\d\d/\d\d "
    rb"|[A-Z][a-z]{2} \d{1,2}, \d{4})"
    rb"|Exception in thread \"|\[\d{1,9}\.\d{3}s\]|\[?(?:" + _NAMES + rb") {0,2}[\]|\[ ]"
    rb"|\d{1,9} {1,4}\[[^\]\n]{1,128}\] {1,2}(?:" + _NAMES + rb") )"
)

_JUL_TIMES: Final = rewritten(
    rb"(?P<month>\w{3}) (?P<day>\d+), (?P<year>\d{4}),? (?P<hour>\d+):(?P<rest>\d\d:\d\d).{1,3}(?P<half>[AP]M)"
)
_TOMCAT_TIMES: Final = rewritten(rb"(?P<day>\d\d)-(?P<month>\w{3})-(?P<year>\d{4}) (?P<hour>\d\d):(?P<rest>.+)")
_SHORT_TIMES: Final = rewritten(rb"(?P<year>\d\d)/(?P<month>\d\d)/(?P<day>\d\d) (?P<hour>\d\d):(?P<rest>.+)")


def _layouts(time: bytes, **more: Any) -> tuple[Shape, ...]:
    """What follows a time, most telling first."""
    return (
        Shape(time + rb" " + _THREAD + _LEVEL, _LOGGER + rb" {1,2}- (?P<message>.*)", **more),
        Shape(
            time + rb" {1,2}" + _LEVEL + rb"(?P<pid>\d++) --- ",
            rb"(?:\[[^\]\n]{0,128}+\] (?=\[))?+" + _THREAD + _LOGGER + rb" *+: (?P<message>.*)",
            **more,
        ),
        Shape(time + rb" {1,2}" + _LEVEL + rb"\[" + _LOGGER + rb" *+\] \((?P<thread>[^)\nSEP]{0,128}+)\) ", **more),
        Shape(time + rb" {1,2}" + _LEVEL + _THREAD, _LOGGER + rb":? (?:- )?(?P<message>.*)", **more),
    )


_JUL_SHAPE: Final = Shape(
    rb"(?P<time>" + _JUL + rb") (?P<logger>[^\sSEP]{1,256}+) ?(?P<method>[^\sSEP]{0,256}+)"
    rb"(?:" + LINE_FEED + rb"(?P<level>[A-Z]{4,7}): )?+",
    times=_JUL_TIMES,
)
_UNCAUGHT: Final = Shape(
    rb"(?=(?P<mark>Exception) in thread )Exception in thread \"(?P<thread>[^\"\nSEP]{0,256}+)\" ",
    level="mark",
    severities=severities(Exception=17),
)
_SHAPES: Final = (
    *_layouts(ISO),
    *_layouts(_CLOCK, times=clock_times),
    Shape(
        rb"\[" + ISO + rb"\] " + _LEVEL,
        rb"(?P<message>[^\n]*+(?<=\))(?:\n.*)?)",
    ),
    Shape(rb"\[" + ISO + rb"\]\[" + _LEVEL + rb"\]\[" + _LOGGER + rb" *+\] (?:\[(?P<node>[^\]\nSEP]{0,128}+)\] ?)?+"),
    *_layouts(rb"(?P<time>" + _TOMCAT + rb")", times=_TOMCAT_TIMES),
    _JUL_SHAPE,
    *levelled(rb"[\[(]?" + ISO, _NAMES, sure=False),
    *levelled(rb"[\[(]?" + _CLOCK, _NAMES, sure=False, times=clock_times),
    *levelled(rb"(?P<time>" + _SHORT + rb")", _NAMES, sure=False, times=_SHORT_TIMES),
    _UNCAUGHT,
    Shape(rb"\[?" + _LEVEL + rb"(?![\w.])[\]|:]?+ *+", sure=False),
    Shape(rb"\d{1,9} {1,4}" + _THREAD + rb" {0,2}" + _LEVEL, _LOGGER + rb"(?: [^\n]{0,64}?)?- (?P<message>.*)"),
)
_HEADS: Final = (
    head(rb"[\[(]?" + ISO, _NAMES),
    head(rb"[\[(]?" + _CLOCK, _NAMES, times=clock_times),
    _JUL_SHAPE,
    head(rb"(?P<time>" + _TOMCAT + rb")", _NAMES, times=_TOMCAT_TIMES),
    head(rb"(?P<time>" + _SHORT + rb")", _NAMES, times=_SHORT_TIMES),
    _UNCAUGHT,
    Shape(rb"(?:\[|\d{1,9} {1,4}" + _THREAD + rb")?+" + _LEVEL + rb"(?![\w.-])"),
)

_AT: Final = re.compile(r"\n[ \t]++(?:at [\w$.<>/@-]++\(|\.\.\. \d++ (?:more|common frames omitted))")
_THROWN: Final = re.compile(r"(?:^|\n)(?P<type>(?:[\w$]++\.)*+[A-Z][\w$]*+)(?=\n|: |$)", re.ASCII)
_TRAILING: Final = re.compile(r" \(([\w.$/-]{1,256})\)(?=\n|$)")


def _fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    """With the exception that was logged, which is the one whose causes follow, and its stack."""
    groups = {name: value.strip() if name in _PADDED else value for name, value in groups.items()}
    message = groups["message"] = groups["message"].lstrip("\n") if "method" in groups else groups["message"]
    end = message.find("\n")
    first = message if end < 0 else message[:end]
    if "logger" not in groups and (found := _TRAILING.search(first)):
        groups["logger"] = found[1]
        message = groups["message"] = message[: found.start()] + message[found.end() :]
    at = _AT.search(message)
    if at is None:
        return groups
    thrown = _thrown(message, at.start(), uncaught="level" not in groups)
    if thrown is None:
        return cut(groups, at.start(), at.start() + 1)
    start = thrown.start("type")
    return {
        **cut(groups, start, start),
        "exception_type": thrown["type"],
        "exception_message": message[thrown.end() : at.start()].removeprefix(": "),
    }


_PADDED: Final = frozenset({"logger", "thread"})


def _thrown(message: str, before: int, *, uncaught: bool) -> re.Match[str] | None:
    """The first line before the stack that is a class of an exception, or the name and message of one."""
    for found in _THROWN.finditer(message, 0, before):
        if uncaught or found.start("type") or "." in found["type"]:
            return found
    return None


FORMAT: Final = Shaped("java", _SHAPES, _JOINING, finish=_fields, heads=_HEADS)
