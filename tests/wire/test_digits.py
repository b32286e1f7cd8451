"""Numbers that are read at once are those that are read one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.digits import MOST, everywhere, lanes, numbers


@given(
    st.integers(1, 8).flatmap(lambda width: st.lists(st.from_regex(rf"[0-9]{{{width}}}", fullmatch=True), min_size=1))
)
@settings(max_examples=100, deadline=None)
def test_columns_of_digits_are_the_numbers_they_make(texts: list[str]) -> None:
    columns = [bytes(column) for column in zip(*(text.encode() for text in texts), strict=True)]
    assert numbers(lanes(columns), len(texts)).tolist() == [int(text) for text in texts]


def test_the_largest_of_the_most_numbers_stay_in_their_lanes() -> None:
    nines = lanes([b"9" * MOST] * 8)
    assert numbers(nines, MOST).tolist() == [99_999_999] * MOST
    whole = nines * 1000 + everywhere(8 * 10**18, MOST)
    assert numbers(whole, MOST).tolist() == [8 * 10**18 + 99_999_999_000] * MOST
