"""Records of a stream never share a time with one that says the same, and keep their order and nearly their time."""

from __future__ import annotations

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.recordtimes import BEGINNING, BLOCK_PARTS, Given, distinct, filled

S = 1_000_000_000
FAR_NS = 1_000_000


def own(times: list[int], start: int = 0, last: Given | None = None) -> list[int]:
    return distinct(array("q", times), start, last)[0].tolist()


def test_the_first_of_equal_times_keeps_it() -> None:
    assert own([5 * S, 5 * S, 5 * S, 6 * S, 6 * S]) == [5 * S, 5 * S + 1, 5 * S + 2, 6 * S, 6 * S + 1]


def test_times_that_differ_are_left_alone() -> None:
    times = array("q", [5 * S, 6 * S, 7 * S])
    assert distinct(times, 0, None)[0] is times


def test_whoever_follows_in_the_same_nanosecond_waits_their_turn() -> None:
    assert own([10, 10, 10, 11, 20]) == [10, 11, 12, 13, 20]


def test_equal_times_go_on_over_blocks() -> None:
    first, last = distinct(array("q", [5 * S, 5 * S]), 0, None)
    second, last = distinct(array("q", [5 * S, 5 * S]), 200, last)
    third, _ = distinct(array("q", [6 * S]), 400, last)
    assert [*first, *second, *third] == [5 * S, 5 * S + 1, 5 * S + 2, 5 * S + 3, 6 * S]


def test_one_out_of_order_is_moved_past_those_it_may_share_its_time_with() -> None:
    times = own([5 * S, 6 * S, 5 * S, 5 * S, 6 * S])
    assert times[:2] == [5 * S, 6 * S]
    assert times[4] == 6 * S + 1
    assert 5 * S + 100_000 < times[2] < times[3] < 5 * S + FAR_NS


def test_after_a_restart_no_time_of_the_next_minute_is_given_again() -> None:
    before, last = distinct(array("q", [5 * S, 5 * S, 5 * S]), 0, None)
    assert last == Given(5 * S, 5 * S + 2, records=3)
    after, last = distinct(array("q", [5 * S, 5 * S]), 300, None)
    assert max(before) < after[0] < after[1] < 5 * S + FAR_NS
    soon, last = distinct(array("q", [6 * S, 64 * S]), 500, last)
    assert 6 * S < soon[0] < soon[1] - 58 * S < 6 * S + FAR_NS
    assert distinct(array("q", [66 * S]), 600, last)[0].tolist() == [66 * S]


def test_at_the_beginning_of_a_file_nothing_was_given_before() -> None:
    assert own([5 * S]) == [5 * S]
    assert distinct(array("q", [7]), 0, BEGINNING)[0].tolist() == [7]


def test_after_a_restart_a_log_out_of_order_gives_no_time_twice() -> None:
    written = [5 * S, 6 * S, 5 * S, 7 * S, 6 * S]
    before, _ = distinct(array("q", written), 0, None)
    after, _ = distinct(array("q", written), 5 * 60, None)
    assert not set(before) & set(after)


def test_a_time_far_ahead_moves_only_the_block_after_it() -> None:
    _, last = distinct(array("q", [5 * S, 90_000 * S]), 0, None)
    second, last = distinct(array("q", [6 * S]), 100, last)
    assert second[0] - 6 * S < FAR_NS
    assert distinct(array("q", [7 * S]), 200, last)[0].tolist() == [7 * S]


def test_a_record_without_a_time_has_that_of_the_one_before() -> None:
    assert filled(array("q", [0, 0, 5, 0, 6, 0])) == array("q", [5, 5, 5, 5, 6, 6])
    assert filled(array("q", [0, 0])) is None
    times = array("q", [1, 2])
    assert filled(times) is times


def test_times_that_run_backwards_by_nanoseconds_do_not_meet() -> None:
    times = own([9, 9, 8, 8, 7, 7], start=100)
    assert len(set(times)) == 6


SAYS = st.lists(st.sampled_from([5 * S, 5 * S + 1, 5 * S + 1000, 6 * S, 7 * S, 7 * S + 3]), min_size=1, max_size=30)


@given(st.lists(st.tuples(SAYS, st.booleans()), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_no_two_that_say_the_same_have_the_same(blocks: list[tuple[list[int], bool]]) -> None:
    """Each block is read in the state the one before left, or after a restart."""
    given_to: dict[int, list[int]] = {}
    last: Given | None = None
    start = 0
    for says, restarted in blocks:
        times, last = distinct(array("q", says), start, None if restarted and start else last)
        start += len(says) * 64
        for said, time_ns in zip(says, times, strict=True):
            given_to.setdefault(said, []).append(time_ns)
            assert 0 <= time_ns - said < FAR_NS
    for times_of_one in given_to.values():
        assert len(times_of_one) == len(set(times_of_one))
    assert start < 16 * BLOCK_PARTS


@given(st.lists(SAYS, min_size=1, max_size=6), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_two_that_say_the_same_have_the_same_in_files_that_were_rotated(files: list[list[int]], known: bool) -> None:
    """Each file is one block at its beginning; of the first it may be known what was given before."""
    given_to: set[tuple[int, int]] = set()
    last = Given(6 * S, 6 * S + 1, 7) if known else None
    for says in files:
        times, last = distinct(array("q", says), 0, last)
        given_to |= set(zip(says, times, strict=True))
    assert len(given_to) == sum(map(len, files))


@given(SAYS, st.integers(0, 1 << 40))
@settings(max_examples=100, deadline=None)
def test_what_is_in_order_stays_in_order(says: list[int], start: int) -> None:
    says.sort()
    times = own(says, start)
    assert times == sorted(set(times))
    assert len(times) == len(says)
