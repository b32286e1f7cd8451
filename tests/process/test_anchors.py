"""This file holds the scanner: which anchors a block has, where, and which records that touches."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.process.anchors import BYTES_PER_HIT, LEAST_HITS, Anchors, literal, slices, touched

TEXTS = (b"token", b"AKIA", b"://")


def test_anchors_are_found_in_either_case_with_their_ends_in_order() -> None:
    anchors = Anchors([literal(text) for text in TEXTS])
    assert anchors.hits(b"a Token b\nx://akia") == [(0, 7), (2, 14), (1, 18)]
    assert anchors.present(b"akia AKIA token") == {0, 1}
    assert anchors.hits(b"nothing") == []


def test_exact_anchors_are_found_in_their_own_case_only() -> None:
    assert Anchors([literal(b"Ab.c")], exact=True).hits(b"ab.c Abxc Ab.c") == [(0, 14)]


def test_a_literal_may_hold_any_byte() -> None:
    every = bytes(range(256))
    assert Anchors([literal(every)], exact=True).hits(b"x" + every) == [(0, 257)]


def test_no_anchors_match_nothing() -> None:
    anchors = Anchors([])
    assert anchors.hits(b"token") == []
    assert anchors.present(b"token") == set()


def test_more_hits_than_are_worth_handling_one_by_one_are_not_listed() -> None:
    anchors = Anchors([b"a"])
    assert len(anchors.hits(b"a" * LEAST_HITS) or ()) == LEAST_HITS
    assert anchors.hits(b"a" * (LEAST_HITS + 1)) is None
    assert anchors.hits(b"a" * (LEAST_HITS + 1) + b"b" * BYTES_PER_HIT) is not None


@pytest.mark.parametrize("expression", [b"a*", b"(", b"a{99999}"])
def test_an_expression_that_cannot_be_an_anchor_is_refused(expression: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is Hyperscan's own
        Anchors([expression]).hits(b"")


@settings(max_examples=100, deadline=None)
@given(
    records=st.lists(st.text("ab", max_size=5).map(str.encode), min_size=1, max_size=40),
    separator=st.sampled_from([b"\n", b"\0", b"\r\n"]),
)
def test_exactly_the_records_with_a_hit_are_touched(records: list[bytes], separator: bytes) -> None:
    block = b"".join(record + separator for record in records)
    hits = [(0, end) for end in range(2, len(block) + 1) if block[end - 2 : end] == b"aa"]
    spans = touched(block, hits, separator)
    assert [block[start:end] for start, end in spans] == [r + separator for r in records if b"aa" in r]


@settings(max_examples=100, deadline=None)
@given(
    records=st.lists(st.text("ab", max_size=30).map(str.encode), max_size=40),
    separator=st.sampled_from([b"\n", b"\r\n"]),
    most=st.integers(1, 60),
)
def test_slices_are_whole_records_and_lose_nothing(records: list[bytes], separator: bytes, most: int) -> None:
    block = b"".join(record + separator for record in records)
    cut = list(slices(block, separator, most))
    assert b"".join(cut) == block
    for piece in cut:
        assert piece.endswith(separator)
        assert len(piece) <= most + len(separator) or piece.count(separator) == 1


def test_a_scan_lets_other_threads_run() -> None:
    """With a switch interval that never comes, another thread moves only where the lock is let go."""
    anchors = Anchors([literal(text) for text in TEXTS])
    block = b"no secret in this line, 200 OK\n" * 500_000
    turns, ended = [0], threading.Event()

    def other() -> None:
        while not ended.is_set():
            turns[0] += 1
            time.sleep(0)

    def moved_during_a_scan() -> bool:
        before = turns[0]
        anchors.hits(block)
        return turns[0] > before

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    thread = threading.Thread(target=other)
    try:
        thread.start()
        assert any(moved_during_a_scan() for _ in range(100))
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        thread.join()
