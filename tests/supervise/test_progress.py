"""What counts as standing still, and what is right to."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from agent.export.lane import Doing, LaneState
from agent.supervise.progress import STUCK_SECONDS, Progress
from tests.fakes import FakeClock


class Parts:
    """A pipeline with one lane, as far as progress is concerned."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.lane = LaneState("loki/logs")
        self.spool: Any = SimpleNamespace(
            store=SimpleNamespace(waiting_bytes=Counter({1: 100})),
            lane_id=lambda name: 1,
            cursor=lambda name: 7,
            trouble=None,
            replacing=False,
            pending_bytes=0,
            last_commit_seconds=self.clock.monotonic_seconds(),
        )
        pipeline: Any = SimpleNamespace(drains={"loki/logs": SimpleNamespace(state=self.lane)}, spool=self.spool)
        self.progress = Progress(pipeline, self.clock)

    def does(self, doing: Doing) -> None:
        self.lane.does(doing, self.clock.monotonic_seconds())

    def stuck_after(self, seconds: float) -> list[str]:
        self.progress.stuck()
        self.clock.move(seconds)
        return self.progress.stuck()


@pytest.mark.parametrize("doing", ["sending", "idle"])
def test_a_lane_that_has_something_to_send_and_does_not_move_is_stuck(doing: Doing) -> None:
    parts = Parts()
    parts.does(doing)
    assert parts.stuck_after(STUCK_SECONDS - 1) == []
    assert parts.stuck_after(2) == ["loki/logs has not moved for 61 s"]


def test_a_request_may_take_the_time_its_destination_was_given() -> None:
    parts = Parts()
    parts.lane.timeout_seconds = 300.0
    parts.does("sending")
    assert parts.stuck_after(300 + STUCK_SECONDS - 1) == []
    assert parts.stuck_after(2) == ["loki/logs has not moved for 361 s"]


def test_a_lane_that_was_idle_for_long_is_not_stuck_when_it_begins_to_send() -> None:
    parts = Parts()
    parts.spool.store.waiting_bytes[1] = 0
    assert parts.stuck_after(1000) == []
    parts.does("sending")
    parts.spool.store.waiting_bytes[1] = 5
    assert parts.stuck_after(STUCK_SECONDS) == []


@pytest.mark.parametrize("doing", ["backoff", "open", "held"])
def test_a_lane_that_waits_for_its_backend_is_not_stuck(doing: Doing) -> None:
    parts = Parts()
    parts.does(doing)
    assert parts.stuck_after(10_000) == []
    parts.does("sending")
    assert parts.stuck_after(STUCK_SECONDS) == []


def test_a_lane_with_nothing_to_send_is_not_stuck() -> None:
    parts = Parts()
    parts.spool.store.waiting_bytes.clear()
    assert parts.stuck_after(10_000) == []


def test_each_request_and_each_acknowledgement_is_progress() -> None:
    parts = Parts()
    parts.does("sending")
    for _ in range(10):
        assert parts.stuck_after(STUCK_SECONDS - 1) == []
        parts.lane.progress_seconds = parts.clock.monotonic_seconds()
    cursors = iter(range(100))
    parts.spool.cursor = lambda name: next(cursors)
    assert parts.stuck_after(1000) == []


def test_a_full_disk_holds_up_acknowledgements_and_commits_and_nothing_is_stuck() -> None:
    parts = Parts()
    parts.spool.pending_bytes, parts.spool.trouble = 100, "disk full"
    assert parts.stuck_after(10_000) == []


def test_a_commit_that_hangs_is_stuck() -> None:
    parts = Parts()
    parts.spool.store.waiting_bytes.clear()
    parts.clock.move(1000)
    parts.spool.pending_bytes = 100
    assert parts.stuck_after(STUCK_SECONDS) == []
    assert parts.stuck_after(1) == ["the spool's commit has not moved for 61 s"]
    parts.spool.last_commit_seconds = parts.clock.monotonic_seconds()
    assert parts.stuck_after(STUCK_SECONDS) == []


def test_replacing_a_damaged_file_may_take_its_time() -> None:
    parts = Parts()
    parts.spool.pending_bytes, parts.spool.replacing = 100, True
    assert parts.stuck_after(10_000) == []
