"""This file shows that blocks are cut at line ends and nowhere else."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.lines import ended, line_start, whole_lines

short_lines = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"x")), max_size=20)


@pytest.mark.parametrize(
    ("data", "start", "most", "expected"),
    [
        (b"", 0, 4, (0, False)),
        (b"abc", 0, 4, (0, False)),
        (b"abcd\n", 0, 4, (5, False)),
        (b"abcde", 0, 4, (0, True)),
        (b"abcde\n", 0, 4, (0, True)),
        (b"a\nabcde\nb\n", 0, 4, (2, True)),
        (b"a\nbc", 0, 4, (2, False)),
        (b"\n\n\n", 0, 4, (3, False)),
        (b"x\nab\ncd", 2, 4, (5, False)),
        (b"x\nabcde\n", 2, 4, (2, True)),
        (b"x\n", 2, 4, (2, False)),
    ],
)
def test_a_block_is_cut_at_its_last_line_end_or_before_a_line_that_is_too_long(
    data: bytes, start: int, most: int, expected: tuple[int, bool]
) -> None:
    assert whole_lines(data, start, most) == expected


@given(short_lines, st.binary(max_size=12).map(lambda rest: rest.replace(b"\n", b"x")), st.integers(1, 12))
def test_it_agrees_with_a_look_at_every_line(lines: list[bytes], rest: bytes, most: int) -> None:
    data = b"".join(line + b"\n" for line in lines) + rest
    expected, too_long = 0, False
    for line in [*lines, rest]:
        if len(line) > most:
            too_long = True
            break
        expected += len(line) + 1
    else:
        expected -= len(rest) + 1
    assert whole_lines(data, 0, most) == (expected, too_long)


def test_the_calls_do_not_grow_with_the_number_of_lines() -> None:
    def calls(data: bytes) -> int:
        made = 0

        def count(_frame: object, event: str, _arg: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            whole_lines(data, 0, 1 << 20)
        finally:
            sys.setprofile(None)
        return made

    assert calls(b"x" * 99 + b"\n") == calls(b"x\n" * 200_000)


def test_the_start_of_the_unfinished_line() -> None:
    assert line_start(b"a\nb\ncd") == 4
    assert line_start(b"a\n") == 2
    assert line_start(b"abc") == 0


def test_a_missing_line_end_is_added() -> None:
    assert ended(b"a") == b"a\n"
    assert ended(b"a\n") == b"a\n"
    assert ended(b"") == b""
