"""How long a lane waits after a failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.export.backoff import FIRST_SECONDS, MOST_SECONDS, RETRY_AFTER_MOST_SECONDS, Backoff


@given(failures=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_the_delay_lies_anywhere_between_nothing_and_a_bound_that_doubles(failures: int, jitter: float) -> None:
    bound = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 20))
    assert Backoff(failures).delay_seconds(lambda: jitter) == pytest.approx(jitter * bound)


def test_the_bound_grows_from_the_first_to_the_longest_delay() -> None:
    backoff, bounds = Backoff(), []
    for _ in range(9):
        backoff = backoff.failed()
        bounds.append(backoff.delay_seconds(lambda: 1.0))
    assert bounds == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@given(asked=st.floats(0, 1e9), failures=st.integers(0, 50), jitter=st.floats(0, 1, exclude_max=True))
def test_what_the_server_asks_for_is_the_least_up_to_five_minutes(asked: float, failures: int, jitter: float) -> None:
    delay = Backoff(failures).delay_seconds(lambda: jitter, asked)
    assert delay >= min(asked, RETRY_AFTER_MOST_SECONDS)
    assert delay <= RETRY_AFTER_MOST_SECONDS


def test_a_failure_makes_another_backoff_and_leaves_this_one_as_it_is() -> None:
    first = Backoff()
    assert first.failed() == Backoff(1)
    assert first == Backoff(0)
