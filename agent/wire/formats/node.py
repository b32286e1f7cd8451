"""This file reads what Node programs leave on their standard error and in files: errors as the console shows them, with
their causes, and lines of a time and a level, as winston and many a ``console.log`` write them.

    2026-11-20T16:40:01.123Z error: order 18 failed PaymentRefused: no price
        at pay (/srv/shop/demo.js:17:11) {
      code: 'E_REFUSED',
      [cause]: TypeError: …
    }
    (node:4711) [DEP0001] DeprecationWarning: …

Most lines of such a log are of no format at all, so a record goes on only where a line is indented or closes a bracket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from agent.wire.applog import ISO, cut, head, levelled, severities
from agent.wire.format import Joining
from agent.wire.shapes import LINE_FEED, Shape, Shaped

_SMALL: Final = rb"trace|silly|debug|verbose|http|info|warn|warning|error|fatal"
_NAMES: Final = rb"TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|" + _SMALL
_SEVERITIES: Final = severities(http=9, Error=17, Exception=17, Warning=13)

_JOINING: Final = Joining(re.compile(rb"\n(?<!\^\n)(?<!\^\n\n)(?=[^\s}\])])(?![^\n]{0,512}\n\s{0,512}\^)"))
"""Also kept together: the line of code that threw, with the caret below it, and the error that follows."""

_WINSTON: Final = Shape(
    rb"\[?" + ISO + rb"\]?[ \t]{1,4}\[?(?P<level>" + _SMALL + rb")(?=[:\]])",
    rb"\]?:? ?(?P<message>.*)",
    severities=_SEVERITIES,
    sure=False,
)

_SHAPES: Final = (
    Shape(
        rb"\(node:(?P<pid>\d{1,10}+)\) (?:\[(?P<code>\w{1,32}+)\] )?+(?=\w{0,64}?(?P<mark>Warning))",
        level="mark",
        severities=_SEVERITIES,
    ),
    _WINSTON,
    *levelled(rb"\[?" + ISO, _NAMES, sure=False, severities=_SEVERITIES),
    Shape(rb"(?P<level>" + _NAMES + rb"): ", sure=False, severities=_SEVERITIES),
    Shape(
        rb"(?:Uncaught )?+(?P<exception_type>(?>[A-Za-z_$][\w$]{0,96}?(?P<mark>Error|Exception))): ",
        level="mark",
        severities=_SEVERITIES,
    ),
    Shape(
        rb"(?P<file>(?:/|file:|node:)[^\nSEP:]{1,256}+):(?P<line>\d{1,9}+)(?P<mark>"
        + LINE_FEED
        + rb")(?=[^\n]{0,512}\n\s{0,512}\^)",
        level="mark",
        severities=severities(**{"\n": 17}),
    ),
)

_HEADS: Final = (
    _WINSTON,
    head(rb"\[?" + ISO, _NAMES, severities=_SEVERITIES),
    *(shape for shape in _SHAPES if b"<time>" not in shape.head),
)

_AT: Final = re.compile(r"\n[ \t]++at ")
_THROWN: Final = re.compile(r"(?:^|[\n ])(?P<type>[A-Z][\w$]*+(?:\.[\w$]++)*+): (?=(?P<text>[^\n]*+))")


def _fields(groups: dict[str, Any]) -> Mapping[str, Any]:
    """With the error that the console showed, and its stack."""
    message = groups["message"]
    at = _AT.search(message)
    if at is None:
        return groups
    if "exception_type" in groups:
        return {**cut(groups, at.start(), at.start() + 1), "exception_message": message[: at.start()]}
    thrown = _THROWN.search(message, 0, at.start())
    if thrown is None:
        return cut(groups, at.start(), at.start() + 1)
    text = message[thrown.start("text") : at.start()]
    start = thrown.start("type")
    return {**cut(groups, start, start), "exception_type": thrown["type"], "exception_message": text}


FORMAT: Final = Shaped("node", _SHAPES, _JOINING, finish=_fields, heads=_HEADS)
