"""Times that are encoded a thousand at once are what Loki's schema reads them as."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.wire.lokitimes import LANES, NANOSECONDS, timestamp, timestamps
from tests.peers import lokiwire

EDGES = [0, 1, NANOSECONDS - 1, NANOSECONDS, 2**31 * NANOSECONDS, 2**62 - 1, 2**62, 2**63 - 1]
ANY = (
    st.integers(0, 2**63 - 1)
    | st.sampled_from(EDGES)
    | st.builds(lambda second, around: second * NANOSECONDS + around, st.integers(1, 4 * 10**9), st.integers(-1, 1))
)


def read(piece: bytes) -> int:
    """The time as the published schema reads it."""
    found = lokiwire.schema().EntryAdapter.FromString(piece).timestamp
    return found.seconds * NANOSECONDS + found.nanos


@given(st.lists(ANY, max_size=40))
def test_any_times_are_read_as_what_they_are(times: list[int]) -> None:
    assert [read(piece) for piece in timestamps(times)] == times


@given(st.lists(ANY, min_size=1, max_size=3), st.integers(LANES - 2, LANES + 2))
def test_pieces_of_any_length_hold_the_times_one_by_one(times: list[int], count: int) -> None:
    many = (times * count)[:count]
    assert timestamps(many) == list(map(timestamp, many))


def test_what_lies_before_1970_becomes_1970() -> None:
    assert [read(piece) for piece in timestamps([-1, 5, -(2**63)])] == [0, 5, 0]
