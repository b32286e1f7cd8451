"""When a lane stops asking a dead backend, and when it asks again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.export.breaker import OPEN_SECONDS, SLOW_AGAIN_SECONDS, SLOW_SECONDS, WINDOW_SECONDS, Breaker


def told(*results: tuple[float, str]) -> Breaker:
    """A breaker that was told these results: ``S`` succeeded, ``F`` failed."""
    breaker = Breaker()
    for now_seconds, result in results:
        (breaker.succeeded if result == "S" else breaker.failed)(now_seconds)
    return breaker


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("FF", "closed"),  # fewer than three requests say nothing
        ("FFF", "open"),
        ("SFF", "open"),
        ("SSF", "closed"),
        ("SSFF", "open"),  # exactly half
        ("SSSFF", "closed"),
        ("SSSSSSSSSSSSFFF", "closed"),  # of the last eight, three
        ("SSSSSSSSSSSSFFFF", "open"),
    ],
)
def test_it_opens_when_half_of_at_least_three_requests_failed(results: str, state: str) -> None:
    assert told(*[(i * 0.1, result) for i, result in enumerate(results)]).state == state


def test_what_is_older_than_the_window_does_not_count() -> None:
    assert told((0, "F"), (1, "F"), (WINDOW_SECONDS, "F")).state == "closed"
    assert told((0, "F"), (1, "F"), (WINDOW_SECONDS - 0.1, "F")).state == "open"


def test_it_lets_one_request_through_half_a_minute_after_it_opened() -> None:
    breaker = told((0, "F"), (1, "F"), (2, "F"))
    assert breaker.wait_seconds(2) == OPEN_SECONDS
    assert breaker.wait_seconds(2 + OPEN_SECONDS) == 0
    breaker.admit()
    assert breaker.state == "half_open"


def test_a_failed_probe_opens_it_for_another_half_minute() -> None:
    breaker = told((0, "F"), (1, "F"), (2, "F"))
    breaker.admit()
    breaker.failed(40)
    breaker.failed(41)  # the same request, still unanswered
    assert (breaker.state, breaker.wait_seconds(41)) == ("open", OPEN_SECONDS - 1)


def test_an_answered_probe_closes_it_and_the_past_is_forgotten() -> None:
    breaker = told((0, "F"), (1, "F"), (2, "F"))
    breaker.admit()
    breaker.succeeded(3)
    assert (breaker.state, breaker.wait_seconds(3)) == ("closed", 0)
    breaker.failed(3.1)
    assert breaker.state == "closed"


def test_admitting_changes_nothing_while_it_is_closed() -> None:
    breaker = Breaker()
    breaker.admit()
    assert breaker.state == "closed"


def test_there_is_less_patience_with_a_request_after_one_that_failed() -> None:
    assert Breaker().patience_seconds == SLOW_SECONDS
    assert told((0, "F")).patience_seconds == SLOW_AGAIN_SECONDS
    assert told((0, "F"), (1, "S")).patience_seconds == SLOW_SECONDS


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from("SFA")), max_size=60))
def test_after_any_past_it_is_closed_by_a_success_and_never_asks_to_wait_longer_than_it_may(
    steps: list[tuple[int, str]],
) -> None:
    breaker, now = Breaker(), 0
    for passed, step in steps:
        now += passed
        if step == "A":
            breaker.admit()
        else:
            (breaker.succeeded if step == "S" else breaker.failed)(now)
        assert 0 <= breaker.wait_seconds(now) <= OPEN_SECONDS
        assert step != "S" or breaker.state == "closed"
