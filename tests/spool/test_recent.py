"""This file shows which batches of the last commits stay at hand: what somebody may still want, within a bound."""

from __future__ import annotations

from agent.batch import Logs
from agent.spool.recent import Recent


def batch(size: int) -> Logs:
    """A batch that counts as so many bytes."""
    made = Logs("file", (), b"x" * (size - 1) + b"\n", 1)
    assert made.size_bytes == size
    return made


def kept(recent: Recent, *ids: int) -> list[int]:
    return [row_id for row_id in ids if recent.get(row_id) is not None]


def test_what_was_just_written_is_at_hand_and_is_the_same_object() -> None:
    recent, written = Recent(100), {1: batch(10), 2: batch(10)}
    recent.keep(written, 0)
    assert recent.get(1) is written[1]
    assert recent.get(2) is written[2]
    assert recent.get(3) is None


def test_what_every_lane_has_passed_is_let_go_also_where_there_is_room() -> None:
    recent = Recent(100)
    recent.keep({each: batch(10) for each in (1, 2, 3)}, 0)
    recent.keep({4: batch(10)}, 2)
    assert kept(recent, 1, 2, 3, 4) == [3, 4]


def test_the_oldest_make_room_and_their_bytes_are_free_again() -> None:
    recent = Recent(100)
    for first in range(1, 40, 3):
        recent.keep({first + each: batch(30) for each in range(3)}, 0)
        assert kept(recent, *range(1, first + 3)) == [first, first + 1, first + 2]
    recent.keep({50: batch(101)}, 0)
    assert kept(recent, *range(51)) == []
