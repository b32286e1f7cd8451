"""What a lane knows of its own past."""

from __future__ import annotations

from agent.export.backoff import Backoff
from agent.export.lane import FIRST_REFUSALS, REFUSALS_IN_A_ROW, LaneState


def test_the_first_requests_refused_whole_are_not_the_records_fault() -> None:
    state = LaneState("loki/logs")
    assert [state.refused_whole() for _ in range(FIRST_REFUSALS)] == [False, False, True]


def test_after_one_was_accepted_it_takes_twenty_in_a_row() -> None:
    state = LaneState("loki/logs")
    state.accepted(1.0)
    assert [state.refused_whole() for _ in range(REFUSALS_IN_A_ROW)] == [False] * 19 + [True]


def test_an_accepted_request_between_two_refused_ones_begins_the_count_anew() -> None:
    state = LaneState("loki/logs")
    state.accepted(1.0)
    for _ in range(REFUSALS_IN_A_ROW - 1):
        state.refused_whole()
    state.accepted(2.0)
    assert state.refused_whole() is False


def test_an_accepted_request_ends_every_trouble() -> None:
    state = LaneState("loki/logs", backoff=Backoff(3), last_error="x", hold_reason="y", refused=2)
    state.accepted(7.0)
    assert (state.backoff, state.last_error, state.hold_reason, state.refused) == (Backoff(), None, None, 0)
    assert state.progress_seconds == 7.0
