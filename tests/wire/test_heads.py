"""Joining lines and reading their heads in one look gives what joining first and reading then does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.wire import joining
from agent.wire.format import Joined, Moment
from agent.wire.formats import FORMATS, format_of
from agent.wire.heads import AT_ONCE, look_for
from agent.wire.joining import joined
from agent.wire.shapes import Shape, Shaped
from tests.wire.formats import reference

MOMENT = Moment(1_795_197_600 * 10**9, UTC)
MOST = 256 << 10
JOINING = [found for found in map(format_of, FORMATS) if isinstance(found, Shaped) and found.joining and found.heads]
NAMES = [found.name for found in JOINING]

LOGBACK = b"2026-11-20 16:40:%02d.%03d %-5s [main] org.example.Orders - order %d failed\n"
TRACE = b"java.lang.IllegalStateException: no\n\tat org.example.Orders.price(Orders.java:12)\n"
LEVELS = (b"INFO", b"WARN", b"ERROR", b"DEBUG", b"TRACE")


def logback(count: int, trace_each: int = 3) -> bytes:
    heads = (LOGBACK % (i // 40 % 60, i % 1000, LEVELS[i % 5], i) for i in range(count))
    return b"".join(head + TRACE * (i % trace_each == 0) for i, head in enumerate(heads))


def shaped(name: str) -> Shaped:
    return next(found for found in JOINING if found.name == name)


def in_two_looks(found: Shaped, block: bytes, most: int = MOST) -> Joined:
    assert found.joining is not None
    whole, separator, count = joined(found.joining, block, most)
    return Joined(whole, separator, count, found.columns(Logs("", (), whole, count, separator), MOMENT))


def lines_of(*names: str) -> list[bytes]:
    return [line for name in names for line in (reference.LOGS / name).read_bytes().splitlines()[:40]]


LINES = [
    *lines_of(*reference.READERS),
    *LOGBACK.splitlines(),
    *TRACE.splitlines(),
    b"",
    b"\t",
    b"SEVERE: no",
    b"2026-11-20 16:40:01.123 INFO yes",
    b"2026-11-20 16:40:01.123 INFORMED",
    b"2026-11-20 16:40:01.123 FATAL no",
    b"2026-11-20 16:40:01.123 FINE yes",
    b"2026-11-20 16:40:01.123 UTC INFO yes",
    b"2026-11-20 16:40:01.1234 INFO yes",
    b"2026-99-99 99:99:99.999 INFO never",
    b"[2026-11-20 16:40:01,123] ERROR no",
    b"2026-11-20 16:40:01.123",
    b"2026-11-20 16:40:01.123 the word ERROR",
    b"x\x1ey",
]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80, deadline=None)
@given(lines=st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=20)), min_size=1, max_size=12))
@example(lines=[b"2026-11-20 16:40:01.123 INFO a", b"2026-11-20 16:40:01.123 INFO b", b"\tat", b"2026-11-20 x"])
@example(lines=[b""])
def test_one_look_gives_what_two_do(name: str, lines: list[bytes]) -> None:
    found = shaped(name)
    block = b"".join(line + b"\n" for line in lines)
    at_once = found.joined(block, MOST, MOMENT)
    assert at_once is None or at_once == in_two_looks(found, block)


@pytest.mark.parametrize("found", JOINING, ids=NAMES)
@pytest.mark.parametrize("name", reference.READERS)
def test_real_logs_read_in_one_look_are_as_in_two(found: Shaped, name: str) -> None:
    block = (reference.LOGS / name).read_bytes()
    block = block if block.endswith(b"\n") else block + b"\n"
    at_once = found.joined(block, MOST, MOMENT)
    assert at_once is None or at_once == in_two_looks(found, block)


def test_a_block_of_many_slices_is_joined_and_read_in_one_look() -> None:
    block = logback(3 * AT_ONCE)
    assert len(block) > 3 * joining.SLICE_BYTES
    at_once = shaped("java").joined(block, MOST, MOMENT)
    assert at_once == in_two_looks(shaped("java"), block)
    assert at_once is not None
    assert (at_once.count, at_once.columns.unparsed) == (3 * AT_ONCE, 0)


@pytest.mark.parametrize("at", [0, AT_ONCE // 2, 2 * AT_ONCE + 7])
@pytest.mark.parametrize(
    "odd", [b'Exception in thread "main" java.lang.Error: no\n', b"20-Nov-2026 16:40:01.123 SEVERE no\n"]
)
def test_a_record_that_is_otherwise_has_its_own_time_and_level(at: int, odd: bytes) -> None:
    block = logback(at) + odd + logback(3 * AT_ONCE)
    at_once = shaped("java").joined(block, MOST, MOMENT)
    assert at_once is None or at_once == in_two_looks(shaped("java"), block)
    assert (at_once is None) == (not at and odd.startswith(b"Exception"))


def test_records_without_traces_stay_the_lines_they_are() -> None:
    block = logback(50, 1000).removeprefix(logback(1, 1))
    at_once = shaped("java").joined(block, MOST, MOMENT)
    assert at_once is not None
    assert at_once.block is block
    assert at_once.separator == b"\n"


@pytest.mark.parametrize(
    "block",
    [
        TRACE + logback(3),
        logback(3) + LOGBACK % (1, 1, b"INFO", 1) + b"\tat a.b(C)\n" * 30_000 + logback(3),
        logback(3) + b"\x1e\x1f\0\n",
        b"no time at all\n" * 3,
    ],
    ids=["begins within a record", "a record of many slices", "no byte is left for a separator", "another shape"],
)
def test_what_takes_two_looks_is_left_to_them(block: bytes) -> None:
    assert shaped("java").joined(block, 1 << 20, MOMENT) is None


def test_a_record_that_is_too_long_is_left_to_be_divided() -> None:
    block = logback(3) + TRACE * 20
    assert shaped("java").joined(block, 1024, MOMENT) is None
    assert shaped("java").joined(block, 1 << 20, MOMENT) is not None


def learned(found: Shaped, record: bytes) -> bool:
    """Whether the expression for records like this one has been made for its digits."""
    shape = next(shape for shape in found.heads if shape.names)
    assert found.joining is not None
    return look_for(found.joining, shape, record).length > 0


@pytest.mark.parametrize("found", JOINING, ids=NAMES)
def test_an_expression_is_made_for_what_the_first_record_looks_like(found: Shaped) -> None:
    assert learned(found, b"2026-11-20 16:40:01.123 ERROR no") == (
        found.joining is not None and found.joining.by_beginning
    )


@pytest.mark.parametrize(
    "record",
    [
        b"2026-11-20 16:40:01.123 [main] INFO yes",
        b"2026-11-20 16:40:01.123 yes",
        b"2026-11-20 16:40:01.123 +0100 INFO yes",
        b"16:40:01.123 INFO yes",
    ],
)
def test_any_record_is_found_whatever_the_first_one_looks_like(record: bytes) -> None:
    block = (record + b"\n" + TRACE) * 3
    at_once = shaped("java").joined(block, MOST, MOMENT)
    assert at_once == in_two_looks(shaped("java"), block)


def test_levels_of_one_first_letter_are_told_apart() -> None:
    lines = (
        b"2026-11-20 16:40:01.%03d %s x\n" % (i, level) for i in range(40) for level in (b"FATAL", b"FINE", b"FINER")
    )
    block = b"".join(lines)
    at_once = shaped("java").joined(block, MOST, MOMENT)
    assert at_once == in_two_looks(shaped("java"), block)
    assert at_once is not None
    assert at_once.columns.severities == bytes([21, 5, 2]) * 40


def test_no_expression_is_made_that_takes_a_zone_for_a_level() -> None:
    shape = Shape(shaped("java").heads[0].head, names=b"INFO|EST", times="iso")
    found = look_for(shaped("java").joining or joining.unless_going_on(), shape, b"2026-11-20 16:40:01.123 INFO yes")
    assert not found.length


def test_expressions_are_made_once_for_all_that_look_alike() -> None:
    rule, shape = shaped("java").joining, shaped("java").heads[0]
    assert rule is not None
    made: Callable[[bytes], object] = lambda record: look_for(rule, shape, record)  # noqa: E731
    alike = itertools.starmap(made, ((LOGBACK % (i, i, level, i),) for i, level in enumerate(LEVELS)))
    assert len(set(map(id, alike))) == 1
