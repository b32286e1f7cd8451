"""This file reads what Ruby's Logger writes, and what Rails, Sidekiq and others write with it, with backtraces.

    E, [2026-11-20T16:40:01.123456 #4711] ERROR -- shop: no price (PaymentRefused)
    demo.rb:8:in `pay'
    demo.rb:17:in `<main>'

Such times are local and name no zone. A record goes on until a line begins like the first.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from agent.wire.applog import ISO, ISO_TIME, cut, levelled
from agent.wire.joining import beginning_with
from agent.wire.shapes import Shape, Shaped, severities_by

_NAMES: Final = rb"DEBUG|INFO|WARN|ERROR|FATAL|UNKNOWN|ANY"
_SEVERITIES: Final = severities_by({b"ANY": 0, b"UNKNOWN": 0})

_JOINING: Final = beginning_with(rb"[DIWEFA], \[\d{4}-|\[?" + ISO_TIME)

_SHAPES: Final = (
    Shape(
        rb"[DIWEFA], \[" + ISO + rb" {1,2}#(?P<pid>\d{1,10}+)\] {1,3}(?P<level>[A-Z]{3,7})"
        rb" -- (?P<program>[^:\nSEP]{0,128}+): ",
        severities=_SEVERITIES,
    ),
    *levelled(rb"\[?" + ISO, _NAMES, sure=False, severities=_SEVERITIES),
)

_TRACE: Final = re.compile(r"\n[ \t]{0,16}+(?:from )?+[^\s:]{1,256}:\d{1,9}:in [`']")
_RAISED: Final = re.compile(r" \((?P<type>[A-Z][\w:]{0,256}+)\)(?=$|\n)")


def _fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    """With the exception where one was logged, and its backtrace."""
    message = groups["message"]
    trace = _TRACE.search(message)
    if trace is None:
        return groups
    told = cut(groups, trace.start(), trace.start() + 1)
    raised = deque(_RAISED.finditer(told["message"]), 1)
    if not raised:
        return told
    text = told["message"][: raised[0].start()]
    return {**told, "exception_type": raised[0]["type"], "exception_message": text}


FORMAT: Final = Shaped("ruby", _SHAPES, _JOINING, finish=_fields)
