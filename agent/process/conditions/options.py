"""This file is conditions as the tables of several processors have them, and what can be wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from agent.options import Options, Text

Level = Literal["trace", "debug", "info", "warn", "error", "fatal"]
LEVEL: Final = "level"


class ConditionOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of ``when``; all that it says must hold of the field."""

    field: Annotated[
        Text | None,
        Meta(
            description="Field, metadata or label that is looked at; 'a.b' is b inside a, 'level' the severity's name, "
            "'message' the record's message. Left out: the whole record."
        ),
    ] = None
    equals: Annotated[str | float | bool | None, Meta(description="The value is this one.")] = None
    in_: Annotated[
        Annotated[tuple[str | float, ...], Meta(min_length=1)] | None, Meta(description="The value is one of these.")
    ] = msgspec.field(default=None, name="in")
    contains: Annotated[Text | None, Meta(description="This text stands in the value, in this case.")] = None
    matches: Annotated[Text | None, Meta(description="This Python regular expression is found in the value.")] = None
    at_least: Annotated[
        float | Level | None, Meta(description="The value is a number, or a level, that is not below this one.")
    ] = None
    below: Annotated[
        float | Level | None, Meta(description="The value is a number, or a level, that is below this one.")
    ] = None
    exists: Annotated[bool | None, Meta(description="The field is there (true), or is not (false).")] = None
    not_: Annotated[bool, Meta(description="True turns the condition round: it holds where the rest does not.")] = (
        msgspec.field(default=False, name="not")
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types cannot say."""
        given = [name for name in COMPARISONS if getattr(self, name) is not None]
        if not given:
            yield "", "says nothing of the field: give equals, in, contains, matches, at_least, below or exists"
        if self.field is None and any(name not in ("contains", "matches") for name in given):
            yield "", "says nothing of which field: give field; of a whole record only contains and matches can be told"
        if self.matches is not None:
            yield from expression_faults("matches", self.matches)
        for name in ("at_least", "below"):
            if isinstance(getattr(self, name), str) and self.field != LEVEL:
                yield name, "compares with a level, which only the field 'level' is; give a number"


COMPARISONS: Final = ("equals", "in_", "contains", "matches", "at_least", "below", "exists")
Conditions = Annotated[
    tuple[ConditionOptions, ...], Meta(description="What is asked of a record, one table a condition.")
]
Match = Annotated[
    Literal["all", "any"], Meta(description="Whether all conditions must hold of a record, or any one of them.")
]


def expression_faults(key: str, expression: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a regular expression, over text and over bytes."""
    for form in (expression, expression.encode()):
        try:
            re.compile(form)
        except (re.error, ValueError, OverflowError, RecursionError) as error:
            yield key, f"is not a regular expression: {error}"
            return


def condition_faults(key: str, conditions: tuple[ConditionOptions, ...]) -> Iterator[tuple[str, str]]:
    """What is wrong with the conditions that ``key`` holds."""
    for place, condition in enumerate(conditions):
        for inner, message in condition.faults():
            yield f"{key}[{place}]" + (f".{inner}" if inner else ""), message
