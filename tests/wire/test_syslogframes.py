"""This file shows that a stream of syslog is cut into the same messages however it is split, and in linear time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.syslogframes import Framer, Piece, in_one, piece_of

MOST = 4096


def framed(chunks: Sequence[bytes], most: int = MOST) -> tuple[list[bytes], int, int, int]:
    """The messages of a stream that comes in these chunks and ends then; how many were cut, by how much, unfinished."""
    framer = Framer(most)
    messages: list[bytes] = []
    cut = cut_bytes = unfinished = 0
    for each in [*map(framer.feed, chunks), framer.finish()]:
        for piece in each.pieces:
            assert len(piece.messages()) == piece.count
            messages += piece.messages()
        cut, cut_bytes, unfinished = cut + each.cut, cut_bytes + each.cut_bytes, unfinished + each.unfinished
    assert framer.held_bytes == 0
    return messages, cut, cut_bytes, unfinished


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        (b"<1>a\n<2>b\n", [b"<1>a", b"<2>b"]),
        (b"<1>a\r\n<2>b\r\n", [b"<1>a", b"<2>b"]),
        (b"<1>a\0<2>b\0", [b"<1>a", b"<2>b"]),
        (b"<1>a\n\0<2>b\n\0", [b"<1>a", b"<2>b"]),
        (b"\n\n<1>a\n\n\n<2>b\n\n", [b"<1>a", b"<2>b"]),
        (b"4 <1>a4 <2>b", [b"<1>a", b"<2>b"]),
        (b"5 <1>a\n5 <2>b\n", [b"<1>a", b"<2>b"]),
        (b"4 <1>a\n4 <2>b\n", [b"<1>a", b"<2>b"]),
        (b"8 <1>a\nb\n\n<2>c\n", [b"<1>a\nb", b"<2>c"]),
        (b"<1>a\n4 <2>b<3>c\n4 <4>d", [b"<1>a", b"<2>b", b"<3>c", b"<4>d"]),
        (b"not syslog\n2023 was\n12 monkeys\n0 <1>\n", [b"not syslog", b"2023 was", b"12 monkeys", b"0 <1>"]),
        (b"12345678 <1>a\n", [b"12345678 <1>a"]),
        (b"12345678", [b"12345678"]),
        (b"<1>a\n<2>b", [b"<1>a", b"<2>b"]),
        (b"20 <1>only a part", [b"<1>only a part"]),
        (b"<1>a\0004 <2>b<3>c\n", [b"<1>a", b"<2>b", b"<3>c"]),
        (b"7 <1>a\0b\0<2>c\n", [b"<1>a\0b", b"<2>c"]),
        (b"\r\n", []),
        (b"", []),
    ],
)
def test_both_framings_are_understood_and_may_change_from_message_to_message(
    stream: bytes, messages: list[bytes]
) -> None:
    assert framed([stream])[0] == messages
    assert framed([bytes((byte,)) for byte in stream])[0] == messages


@pytest.mark.parametrize(
    "stream",
    [b"<1>" + b"x" * 60 + b"\n<2>b\n", b"63 <1>" + b"x" * 60 + b"<2>b\n", b"<0>\n<1>" + b"x" * 60 + b"\n<2>b\n"],
)
def test_a_message_that_is_too_long_is_cut_and_counted_and_the_next_one_is_whole(stream: bytes) -> None:
    for chunks in ([stream], [stream[i : i + 7] for i in range(0, len(stream), 7)]):
        messages, cut, cut_bytes, unfinished = framed(chunks, most=20)
        assert messages[-2:] == [b"<1>" + b"x" * 17, b"<2>b"]
        assert (cut, cut_bytes, unfinished) == (1, 43, 0)


def test_a_count_that_promises_more_than_comes_is_unfinished() -> None:
    assert framed([b"<1>a\n9999999 <2>b"]) == ([b"<1>a", b"<2>b"], 0, 0, 1)


def test_what_is_given_up_goes_on_as_it_is_and_its_rest_is_passed_over() -> None:
    framer = Framer(MOST)
    assert framer.feed(b"<1>begun") == Framer(MOST).feed(b"")
    given_up = framer.give_up()
    assert ([each.messages() for each in given_up.pieces], given_up.cut) == ([[b"<1>begun"]], 1)
    after = framer.feed(b" and ended\n<2>next\n")
    assert ([each.messages() for each in after.pieces], after.cut_bytes) == ([[b"<2>next"]], 10)
    framer.feed(b"14 <1>begun")
    assert [each.messages() for each in framer.give_up().pieces] == [[b"<1>begun"]]
    after = framer.feed(b" ended<2>next\n")
    assert ([each.messages() for each in after.pieces], after.cut_bytes) == ([[b"<2>next"]], 6)


def counted(message: bytes) -> bytes:
    return b"%d %s" % (len(message), message)


texts = st.binary(max_size=30).map(lambda text: b"<13>x" + text.replace(b"\n", b"y").replace(b"\0", b"z") + b".")
frames = st.lists(st.tuples(texts, st.sampled_from([b"counted", b"\n", b"\r\n", b"\0"])), max_size=30)


def splits(stream: bytes, at: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(each % (len(stream) + 1) for each in at), len(stream)]
    return [stream[a:b] for a, b in pairwise(places)]


@given(frames, st.lists(st.integers(min_value=0, max_value=1000), max_size=8))
@settings(max_examples=150)
def test_messages_come_out_as_they_went_in_however_they_are_framed_and_split(
    sent: list[tuple[bytes, bytes]], at: list[int]
) -> None:
    stream = b"".join(counted(text) if how == b"counted" else text + how for text, how in sent)
    assert framed(splits(stream, at)) == ([text for text, _ in sent], 0, 0, 0)


alphabet = st.sampled_from(
    [b"\n", b"\0", b"\r", b"<", b"1", b"2", b"9", b" ", b"x", b"<1>", b"\n4 <", b"12 <", b"yyyyyyyy"]
)


@given(
    st.lists(alphabet, max_size=60).map(b"".join),
    st.lists(st.integers(min_value=0, max_value=1000), max_size=8),
    st.integers(min_value=6, max_value=20),
)
@settings(max_examples=400)
def test_any_bytes_give_the_same_messages_however_they_are_split(stream: bytes, at: list[int], most: int) -> None:
    whole = framed([stream], most)
    assert framed(splits(stream, at), most) == whole
    assert framed([bytes((byte,)) for byte in stream], most) == whole
    assert all(0 < len(message) <= most for message in whole[0])


@given(st.lists(st.binary(min_size=1, max_size=8), max_size=12))
def test_messages_with_any_bytes_are_kept_apart(messages: list[bytes]) -> None:
    piece = piece_of(messages) if messages else Piece(b"", 0)
    assert (piece.messages(), piece.count) == (messages, len(messages))
    assert in_one([piece, Piece(b"a\n", 1)]).messages() == [*messages, b"a"]


def calls(stream: bytes) -> int:
    """Calls, of C functions too, for one feed."""
    made = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    framer = Framer(MOST)
    sys.setprofile(count)
    try:
        framer.feed(stream)
    finally:
        sys.setprofile(None)
    return made


def test_lines_are_handed_on_as_they_came_without_a_call_for_each() -> None:
    assert calls(b"<13>line\n" * 20_000) <= calls(b"<13>line\n" * 1000) + 2 * 20_000 * 9 // MOST


@pytest.mark.parametrize("unit", [b"<\n1 <", b"x\n1 <", b"\0", b"1 <\0", b"\n", b"1 ", b"<", b"1 <", b"9 <\n2 <a\0"])
def test_work_grows_no_faster_than_what_is_sent(unit: bytes) -> None:
    few, many = unit * 500, unit * 5000
    assert calls(many) <= 12 * max(calls(few), 20)
