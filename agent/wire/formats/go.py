"""This file reads what Go programs log: the package ``log``, slog, zap, logrus, klog, and panics with goroutines.

    2026/11/20 16:40:01 order 17 accepted                                        log
    shop: 2026/11/20 16:40:01.123456 main.go:12: ERROR: order 18 failed          log, with a prefix and where it was
    2026/11/20 16:40:01 WARN stock is low left=3                                 slog's default
    time=2026-11-20T16:40:01.123Z level=INFO source=main.go:12 msg=accepted      slog as text, logrus
    {"time":"2026-11-20T16:40:01.123456789Z","level":"INFO","msg":"accepted"}    slog as JSON; zap
    I1120 16:40:01.123456    4711 main.go:12] order 17 accepted                  klog, glog
    panic: runtime error: index out of range [3] with length 1

    goroutine 1 [running]: …

A record goes on until a line begins like one of these. slog's levels are numbers, four apart as OpenTelemetry's are:
``ERROR+4`` is four more than an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.wire.applog import ISO, ISO_TIME, cut
from agent.wire.formats import format_of
from agent.wire.joining import beginning_with
from agent.wire.severity import severity_of
from agent.wire.shapes import SEP, Shape, Shaped
from agent.wire.timestamps import PATTERNS

_NAMES: Final = rb"TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|ERR|CRITICAL|FATAL|PANIC"
_LEVEL: Final = rb"(?P<level>(?:" + _NAMES + rb")(?:[+-]\d{1,3})?+)(?![\w.-])"
_DATE: Final = rb"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"
_PREFIX: Final = rb"(?!\{|time=)(?:[^\n\dSEP]{1,64}+|(?!\d{4}/)\d){0,8}+"
_FILE: Final = rb"(?P<file>[^\s:SEP]{1,256}+):(?P<line>\d{1,9}+)"

_JOINING: Final = beginning_with(
    rb"(?![\s})\]])(?:"
    + _PREFIX.replace(SEP, b"")
    + _DATE
    + rb"|\[?"
    + ISO_TIME
    + rb"|[IWEF]\d{4} \d\d:|time=|level=|ts="
    rb"|panic: |fatal error: |runtime: |\[?(?:" + _NAMES + rb")[\]: \[\t]|\{\")"
)

_OFFSET: Final = re.compile(rb"([A-Za-z]++)([+-]\d{1,3})")


class _Severities(dict[bytes, int]):
    """Severities by level, also of levels between two that have names."""

    def __missing__(self, level: bytes) -> int:
        found = _OFFSET.fullmatch(level)
        known = severity_of(found[1] if found else level)
        severity = self[level] = min(24, max(1, known + int(found[2]))) if found and known else known
        return severity


def _severities(levels: Sequence[bytes]) -> bytes:
    return bytes(map(_Severities({b"fatal error": 21}).__getitem__, levels))


def _shape(head: bytes, rest: bytes = b"(?P<message>.*)", **more: Any) -> Shape:
    return Shape(head, rest, severities=_severities, **more)


_SHAPES: Final = (
    _shape(
        rb"(?P<prefix>" + _PREFIX + rb")(?P<time>" + _DATE + rb"(?:\.\d{1,9})?+) "
        rb"(?:" + _FILE + rb": )?+(?:\[?" + _LEVEL + rb"\]?:?+(?: |$))?+",
    ),
    _shape(
        rb"time=\"?" + ISO + rb"\"? level=(?P<level>[A-Za-z]{1,9}+(?:[+-]\d{1,3})?+)", rb"(?P<pairs>.*)", sure=False
    ),
    _shape(
        rb"\{\"time\":\"" + ISO + rb"\",\"level\":\"(?P<level>[A-Za-z]{1,9}+(?:[+-]\d{1,3})?+)\"",
        rb"(?P<object>.*)",
        sure=False,
    ),
    _shape(
        rb"\{\"level\":\"(?P<level>[A-Za-z]{1,9}+)\",\"ts\":(?P<time>\d{10}(?:\.\d{1,9})?+)",
        rb"\d*+(?P<object>.*)",
        times="epoch",
        sure=False,
    ),
    _shape(
        rb"(?P<level>[IWEF])(?P<time>" + PATTERNS["klog"] + rb") {1,8}(?P<pid>\d{1,10}+) " + _FILE + rb"\] ",
        times="klog",
    ),
    _shape(
        ISO + rb"\t(?P<level>[A-Za-z]{4,6}+)\t",
        rb"(?:(?P<logger>[\w./-]{1,128}+)\t)?+(?:" + _FILE + rb"\t)?+(?P<message>.*)",
    ),
    _shape(rb"(?P<mark>panic|fatal error): ", level="mark"),
    _shape(rb"\[?" + _LEVEL + rb"\]?(?:\[\d{1,9}\])?+:?+[ \t]++", sure=False),
    _shape(rb"\[?" + ISO + rb"\]?[ \t]*+(?:\[?" + _LEVEL + rb"\]?:?+[ \t]++)?+", sure=False),
)

_GOROUTINES: Final = re.compile(r"\n(?:\[signal [^\n]*+)?\n?goroutine \d+ (?:gp=[^\n]{0,128}? )?\[")


def _fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    """With what follows the first goroutine as ``stack``."""
    message = groups["message"]
    groups = {name: value.rstrip(": ") if name == "prefix" else value for name, value in groups.items()}
    if not groups.get("prefix", "-"):
        del groups["prefix"]
    found = _GOROUTINES.search(message)
    return groups if found is None else cut(groups, found.start(), found.end() - len(found[0].lstrip("\n")))


class _Go(Shaped, frozen=True):
    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        if record.startswith(b"{"):
            return format_of("json").fields(record)
        if record.startswith((b"time=", b"level=", b"ts=")):
            return format_of("logfmt").fields(record)
        return super().fields(record)


FORMAT: Final = _Go("go", _SHAPES, _JOINING, finish=_fields)
