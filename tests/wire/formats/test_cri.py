"""This file shows what is read from CRI logs: whole lines of each stream, from every program that writes them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.containerlines import open_from, outputs
from agent.wire.formats.cri import FORMAT
from tests.wire.formats.engines import LOGS, as_it_grows, assert_lines_have_times, at_once, lines

TIME = b"2026-11-20T16:54:34.069525152+00:00"


def test_a_file_where_a_kubelet_has_it_is_read_alike() -> None:
    (path,) = (LOGS / "cri").glob("pods/*/*/0.log")
    assert lines(FORMAT, path.read_bytes()) == {"stdout": [b"GET /", b"z" * 9000], "stderr": [b"warn: disk"]}


def test_a_text_that_looks_like_another_stream_does_not_mislead() -> None:
    data = TIME + b" stderr P cut\n" + TIME + b" stdout F on stderr F and stdout P here\n"
    assert open_from(FORMAT, data, 0, len(data)) == 0
    assert lines(FORMAT, data) == {"stderr": [b"cut"], "stdout": [b"on stderr F and stdout P here"]}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"2026-11-20T16:54:34Z stdout F no fraction", b"no fraction"),
        (b"2026-11-20T16:54:34.5Z stdout F:more:tags of later versions", b"of later versions"),
        (b"2026-11-20T18:54:34.000000001+02:00 stdout F ", b""),
        (b"2026-11-20T16:54:34.1Z stdout F", b""),
    ],
)
def test_variants_are_understood(line: bytes, text: bytes) -> None:
    parts = FORMAT.parts(line + b"\n" + TIME + b" stdout F next\n")
    assert parts.unparsed == 0
    (output,) = outputs(parts, 1 << 20)
    assert output.block == text + b"\nnext\n"
    assert [time // 10**9 for time in output.times_ns] == [1795193674, 1795193674]


@pytest.mark.parametrize("strange", [b"", b"not of the kind", b"\0" * 9, TIME + b" stdin F x", TIME + b" stdout X x"])
def test_a_line_that_is_something_else_goes_through_whole_and_is_counted(strange: bytes) -> None:
    known = TIME + b" stdout F one\n"
    parts = FORMAT.parts(known + strange + b"\n" + known)
    assert parts.unparsed == 1
    (output,) = outputs(parts, 1 << 20)
    assert output.block == b"one\n" + strange + b"\none\n"
    assert output.times_ns[1] == 0


PARTS = st.lists(st.tuples(st.sampled_from([b"stdout", b"stderr"]), st.sampled_from([b"F", b"P"]), st.booleans()))


@settings(max_examples=60)
@given(PARTS, st.lists(st.integers(1, 300), max_size=6))
def test_blocks_cut_anywhere_give_what_the_whole_gives(
    parts: list[tuple[bytes, bytes, bool]], sizes: list[int]
) -> None:
    """However the file grew, reading up to where nothing is open and going on from there joins the same lines."""
    rows = [
        b"2026-11-20T16:54:%02d.%dZ %s %s %s\n" % (i % 60, i, stream, tag, b"%d " % i if text else b"")
        for i, (stream, tag, text) in enumerate(parts)
    ]
    data = b"".join(rows)
    assert as_it_grows(FORMAT, data, sizes) == at_once(FORMAT, data)


@settings(max_examples=60)
@given(st.lists(st.sampled_from([b" ", b"\n", b"F", b"P", b"stdout", b"stderr", TIME, b"\0", b"\xff"]), max_size=30))
def test_any_bytes_give_lines(pieces: list[bytes]) -> None:
    block = b"".join(pieces) + b"\n"
    assert_lines_have_times(FORMAT, block)
