"""This file is what every source of lines takes that may understand them: ``parse`` and what belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from agent.options import Options, SourceOptions, Text

Timezone = Annotated[
    Text | None,
    Meta(description='Zone of times that name none, such as "Europe/Berlin"; that of this machine when left out.'),
]
Named = Literal[
    "none",
    "auto",
    "json",
    "logfmt",
    "syslog",
    "cri",
    "docker",
    "nginx",
    "apache",
    "postgres",
    "python",
    "java",
    "go",
    "node",
    "ruby",
    "dotnet",
]


class Regex(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A format of one's own."""

    regex: Annotated[
        Text,
        Meta(
            description="Python regular expression with named groups, which become fields. 'time' (or 'timestamp') is "
            "the record's time, 'level' (or 'severity') its level, 'message' its text."
        ),
    ]


class Multiline(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How lines make records."""

    start: Annotated[
        Text | None, Meta(description="A line in which this regular expression is found begins a record.")
    ] = None
    end: Annotated[Text | None, Meta(description="A line in which this regular expression is found ends a record.")] = (
        None
    )


class ParseOptions(SourceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a source of lines takes."""

    parse: Annotated[
        Named | Regex,
        Meta(
            description="The format of the lines, for their time, level and fields, and for joining stack traces. "
            "'auto' tells it by the first lines of each file; 'none' leaves them as they are, at no cost."
        ),
    ] = "none"
    multiline: Annotated[
        Multiline | None,
        Meta(description="Joins lines to records by expressions of one's own, in place of what the format says."),
    ] = None
    join_seconds: Annotated[
        float,
        Meta(ge=0, le=3600, description="How long the last record of a file waits for more lines of its own."),
    ] = 1.0
    max_record_bytes: Annotated[
        int, Meta(ge=1024, le=4 << 20, description="A longer record of several lines is divided between two of them.")
    ] = 256 << 10
    timezone: Timezone = None

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        lines = self.multiline
        if lines is not None and lines.start is None and lines.end is None:
            yield "multiline", "nothing says where a record begins or ends: give start or end"
        written = {
            "parse.regex": self.parse.regex if isinstance(self.parse, Regex) else None,
            "multiline.start": lines and lines.start,
            "multiline.end": lines and lines.end,
        }
        for key, expression in written.items():
            if expression:
                yield from expression_faults(key, expression)
        if self.timezone is not None:
            yield from zone_faults(self.timezone)


def expression_faults(key: str, expression: str) -> Iterator[tuple[str, str]]:
    """Why ``expression``, the value of ``key``, is no regular expression, or none that gives fields."""
    import re

    try:
        groups = re.compile(expression.encode()).groupindex
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        yield key, f"is not a regular expression: {error}"
    else:
        if key == "parse.regex" and not groups:
            yield key, "has no named group; what is to be a field is written (?P<name>…)"


def zone_faults(name: str) -> Iterator[tuple[str, str]]:
    """Why ``name``, the value of ``timezone``, is no time zone here."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        yield "timezone", 'is not a zone that this machine knows; names look like "Europe/Berlin" (package tzdata)'
