"""This file reads what Python programs log: the layouts of ``logging`` in use, and tracebacks, chained ones too.

    2026-11-20 16:40:01,123 - shop.orders - ERROR - order 18 failed     %(asctime)s - %(name)s - %(levelname)s - …
    2026-11-20 16:40:01,123 ERROR shop.orders: order 18 failed
    2026-11-20 16:40:01,123 [ERROR] [MainThread] shop.orders orders.py:12: order 18 failed
    [2026-11-20 16:40:01,123: ERROR/MainProcess] order 18 failed        Celery
    ERROR:shop.orders:order 18 failed                                   logging.basicConfig()
    Traceback (most recent call last):                                  and what ends a program that does not log

A record goes on until a line begins like one of these: messages and exceptions have lines of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from agent.wire.applog import ISO, ISO_TIME, cut, head, levelled, severities
from agent.wire.joining import beginning_with
from agent.wire.severity import PYTHON, severity_of
from agent.wire.shapes import LINE_FEED, Shape, Shaped

_NAMES: Final = rb"DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL|TRACE|SUCCESS|NOTSET|Level \d{1,3}"
_NEAR: Final = _NAMES + rb"|debug|info|warning|error|critical|exception"
_LEVEL: Final = rb"(?P<level>" + _NAMES + rb")"
_SEVERITIES: Final = severities(
    CRITICAL=21,
    critical=21,
    exception=17,
    **{f"Level {number}": max(1, severity_of(number, PYTHON)) for number in range(1, 100)},
)
_LOGGER: Final = rb"(?P<logger>[\w.<>-]{1,128}+)"
_TRACEBACK: Final = "\nTraceback (most recent call last):\n"

_JOINING: Final = beginning_with(
    rb"(?=[\[\dA-Z/<])(?:\[?" + ISO_TIME + rb"|\[?(?:" + _NAMES + rb")[\]: ]"
    rb"|Exception in thread |(?:/|<)[^\s:]{1,256}+:\d++: \w++Warning: )"
)

_ENDS: Final = (
    Shape(
        rb"Exception in thread (?P<thread>[^\nSEP]{1,256}?):" + LINE_FEED + rb"(?=(?P<mark>Traceback) )",
        level="mark",
        severities=severities(Traceback=17),
    ),
    Shape(
        rb"(?P<mark>Traceback) (?=\(most recent call last\):" + LINE_FEED + rb")",
        level="mark",
        severities=severities(Traceback=17),
    ),
    Shape(
        rb"(?P<file>[^\s:SEP]{1,256}+):(?P<line>\d++): (?=\w{0,64}(?P<mark>Warning): )",
        level="mark",
        severities=severities(Warning=13),
    ),
)

_SHAPES: Final = (
    Shape(ISO + rb" - (?>(?P<logger>[^\nSEP]{0,160}?) - " + _LEVEL + rb") - ", severities=_SEVERITIES),
    Shape(
        ISO + rb" \[?" + _LEVEL + rb"\]? (?:\[(?P<thread>[^\]\nSEP]{0,128}+)\] )?+",
        _LOGGER + rb"(?: (?P<file>[^\s:]{1,256}+):(?P<line>\d++))?+: (?P<message>.*)",
        severities=_SEVERITIES,
    ),
    Shape(rb"\[" + ISO + rb": " + _LEVEL + rb"/(?P<process>[^\]\nSEP]{0,128}+)\] ", severities=_SEVERITIES),
    Shape(_LEVEL + rb":(?P<logger>[^:\s]{1,128}+):", severities=_SEVERITIES),
    *levelled(rb"\[?" + ISO, _NEAR, sure=False, severities=_SEVERITIES),
    Shape(rb"\[?" + _LEVEL + rb"(?![\w.-])\]?:?[ \t]*+", severities=_SEVERITIES, sure=False),
    *_ENDS,
)
_HEADS: Final = (
    head(rb"\[?" + ISO, _NEAR, severities=_SEVERITIES),
    Shape(rb"\[?" + _LEVEL + rb"(?![\w.-])", severities=_SEVERITIES),
    *_ENDS,
)

_GROUP: Final = re.compile(r"\n {2,}\+ Exception Group Traceback \(most recent call last\):")
_RAISED: Final = re.compile(r"(?:[ \t][^\n]*+\n|\n)*+(?P<type>[A-Za-z_][\w.]*+)(?:: (?P<text>.*))?+", re.DOTALL)
_RAISED_GROUP: Final = re.compile(r"\n  \| (?P<type>[A-Za-z_][\w.]*+): (?P<text>[^\n]*+)")
_FIRST: Final = re.compile(r"\n?(?:Traceback|Stack) \(most recent call last\):\n|\n  \+ Exception Group Traceback \(")


def _fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    """With the exception that was raised last, which is the one that a record is about, and the tracebacks."""
    text = groups["message"]
    if text.startswith("(most recent call last):\n"):
        text = groups["message"] = "Traceback " + text
    first = _FIRST.search(text)
    if first is None:
        return groups
    start = first.start() + text[first.start()].isspace()
    raised = _raised(text)
    return {**cut(groups, first.start(), start), **({} if raised is None else _named(raised))}


def _raised(text: str) -> re.Match[str] | None:
    at = ("\n" + text).rfind(_TRACEBACK)
    if at >= 0:
        return _RAISED.match(text, at + len(_TRACEBACK) - 1)
    return _RAISED_GROUP.search(text) if _GROUP.search(text) else None


def _named(raised: re.Match[str]) -> Mapping[str, str]:
    return {"exception_type": raised["type"], "exception_message": (raised["text"] or "").rstrip()}


FORMAT: Final = Shaped("python", _SHAPES, _JOINING, finish=_fields, heads=_HEADS)
