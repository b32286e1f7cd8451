"""No bytes make a format take more than linear time: how its expressions are built rules it out.

A backtracking expression takes more when what it repeats without a bound can be given back to something that could take
it too. So each such repetition is possessive, or in an atomic group in which it is the only one, or of bytes of which
the next is none, or the last thing there is. Whatever is searched for, not matched where a record begins, starts with a
byte that it does not pass itself.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from datetime import UTC
from itertools import product
from typing import Any

import pytest

from agent.batch import Logs
from agent.wire import access, applog, shapes
from agent.wire.format import Moment
from agent.wire.formats import FORMATS, format_of
from agent.wire.heads import look_for
from agent.wire.joining import joined

parser: Any = re._parser  # type: ignore[attr-defined]
constants: Any = re._constants  # type: ignore[attr-defined]

SMALL = 600
"""A bound that is none worth the name."""

OURS = ("nginx", "apache", "postgres", "python", "java", "go", "node", "ruby", "dotnet")
BACKTRACKS = (constants.MAX_REPEAT, constants.MIN_REPEAT)
INNER = (constants.POSSESSIVE_REPEAT, *BACKTRACKS)


def expressions(name: str) -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every expression of a format: of its shapes, of its columns, of its joining, and those of its module."""
    module = importlib.import_module(FORMATS[name])
    found: Any = format_of(name)
    for shape in (*found.shapes, *found.heads):
        yield shape.head.decode("latin-1"), shape.pattern
        for quick in (True, False):
            yield "columns", shapes._columns_of((shape,), b"\n", quick)
        for record in (b"2026-11-20 16:40:01.123 ERROR no", b"") if found.joining is not None and shape.names else ():
            yield "one look", look_for(found.joining, shape, record).split.__self__
    if found.joining is not None:
        yield "joining", found.joining.starts
    for place in (module, access, applog):
        yield from ((key, value) for key, value in vars(place).items() if isinstance(value, re.Pattern))


def takes(item: Any, byte: int, flags: int) -> bool:
    """Whether an item of one character takes that one."""
    operator, argument = item
    if operator is constants.LITERAL:
        return bool(argument == byte)
    if operator is constants.NOT_LITERAL:
        return bool(argument != byte)
    if operator is constants.ANY:
        return bool(flags & re.DOTALL) or byte != 10
    if operator is not constants.IN:
        return True
    inverted = bool(argument) and argument[0][0] is constants.NEGATE
    return inverted != any(in_class(each, byte) for each in argument[inverted:])


CATEGORIES = {
    constants.CATEGORY_DIGIT: r"\d",
    constants.CATEGORY_WORD: r"\w",
    constants.CATEGORY_SPACE: r"\s",
    constants.CATEGORY_NOT_SPACE: r"\S",
}


def in_class(member: Any, byte: int) -> bool:
    operator, argument = member
    if operator is constants.LITERAL:
        return bool(argument == byte)
    if operator is constants.RANGE:
        return bool(argument[0] <= byte <= argument[1])
    return re.match(CATEGORIES[argument], chr(byte), re.ASCII) is not None


def unbounded(item: Any) -> bool:
    return item[0] in INNER and item[1][1] > SMALL


def parts(item: Any) -> list[Any]:
    """The sequences within an item."""
    operator, argument = item
    if operator in INNER:
        return [argument[2]]
    if operator is constants.BRANCH:
        return list(argument[1])
    if operator is constants.SUBPATTERN:
        return [argument[3]]
    if operator in (constants.ATOMIC_GROUP,):
        return [argument]
    if operator in (constants.ASSERT, constants.ASSERT_NOT):
        return [argument[1]]
    return []


def holds_unbounded(sequence: Any) -> bool:
    return any(unbounded(item) or any(map(holds_unbounded, parts(item))) for item in sequence)


def first_literal(sequence: list[Any]) -> int | None:
    """The byte that must come next; None where several could."""
    for operator, argument in sequence:
        if operator is constants.LITERAL:
            return int(argument)
        if operator is constants.SUBPATTERN:
            return first_literal(list(argument[3]))
        if operator not in (constants.ASSERT, constants.ASSERT_NOT, constants.AT):
            return None
    return None


def faults(sequence: Any, after: list[Any], flags: int, *, atomic: bool) -> Iterator[str]:
    """What in a sequence may be given back to something that takes it too; ``after`` follows the sequence."""
    items = list(sequence)
    loose = 0
    for at, item in enumerate(items):
        operator = item[0]
        following = items[at + 1 :] + after
        if operator in BACKTRACKS and unbounded(item):
            yield from repeated(item, following, flags, atomic=atomic and not loose)
            loose += 1
        inside = atomic or operator in (constants.ATOMIC_GROUP, constants.POSSESSIVE_REPEAT)
        fresh = operator in (
            constants.ATOMIC_GROUP,
            constants.POSSESSIVE_REPEAT,
            constants.ASSERT,
            constants.ASSERT_NOT,
        )
        for part in parts(item):
            yield from faults(part, [] if fresh else following, flags, atomic=inside)


def repeated(item: Any, following: list[Any], flags: int, *, atomic: bool) -> Iterator[str]:
    """What is wrong with a repetition that may give back."""
    _, _, body = item[1]
    if holds_unbounded(body):
        yield f"repeats what repeats: {item}"
    following = [each for each in following if each[0] is not constants.AT]
    if not following:
        return
    byte = first_literal(following)
    if len(body) == 1 and byte is not None and not takes(body[0], byte, flags):
        return
    if not atomic or any(unbounded(each) or any(map(holds_unbounded, parts(each))) for each in following):
        yield f"may give back: {item} before {following[0]}"


@pytest.mark.parametrize("name", OURS)
def test_an_expression_gives_nothing_back_to_what_could_take_it(name: str) -> None:
    for where, pattern in expressions(name):
        tree = parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)
        assert list(faults(tree, [], pattern.flags, atomic=False)) == [], where


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"a*a*b", r"\w+\s*\w+!", r"(?:x.*)*y", r".*,.*;"])
def test_the_check_sees_what_takes_more_than_linear_time(pattern: str) -> None:
    assert list(faults(parser.parse(pattern), [], 0, atomic=False))


STARTS = (
    b"",
    b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "',
    b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET / HTTP/1.1" 200 5 "-" "-" ',
    b"2026/11/20 16:40:01 [error] 1#1: *1 x, client: ",
    b"[Fri Nov 20 16:40:01.123456 2026] [core:error] [pid 1] ",
    b"2026-11-20 16:40:01.123 UTC [1] a@b ERROR:  ",
    b"2026-11-20 16:40:01.123 UTC,",
    b"2026-11-20 16:40:01.123 [main] ERROR a.b - ",
    b"ERROR:a:",
    b"Traceback (most recent call last):\n",
    b"E, [2026-11-20T16:40:01.1 #1] ERROR -- x: ",
    b"fail: a[1]\n      ",
    b"panic: ",
)
ENDLESS = (
    *(
        b'"',
        b"\\",
        b'\\"',
        b"[",
        b" ",
        b"a",
        b"a.",
        b"a=",
        b'a="',
        b"a=b ",
        b":  ",
        b', request: "',
        b'"",',
        b"\n",
        b"\t",
    ),
    *(
        b"\nat ",
        b"\n\tat a.b(C)",
        b"A:",
        b" - ",
        b"1 ",
        b"\nTraceback (most recent call last):\n",
        b" (A",
        b"\ngoroutine 1 ",
    ),
    *(b"\n  | ", b"\n^", b' [20/Nov/2026:16:40:01 +0000] "', b"\n2026-11-20 DETAIL:  ", b"a:1:in `", b"x: y\n", b"A::"),
)
BIG_BYTES = 64 << 10


@pytest.mark.parametrize("name", OURS)
def test_records_of_one_thing_over_and_over_are_read(name: str) -> None:
    found = format_of(name)
    moment = Moment(1_795_197_600 * 10**9, UTC)
    for start, endless in product(STARTS, ENDLESS):
        record = (start + endless * (BIG_BYTES // len(endless))).replace(b"\x1e", b"")
        columns = found.columns(Logs("", (), record + b"\x1e", 1, b"\x1e"), moment)
        assert columns.severities is not None
        assert len(columns.severities) == 1
        found.fields(record)
        found.matches(record)
        if found.joining is not None:
            assert joined(found.joining, record + b"\n", 1 << 20)[2] >= 1
