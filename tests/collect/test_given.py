"""Which times a label set was given last is kept with what was read, for as long as anybody may say that time again."""

from __future__ import annotations

from array import array

import pytest

from agent.batch import Labels, Position
from agent.clock import Time
from agent.collect import given
from agent.collect.given import GivenTimes, positions_only

S = 1_000_000_000
NOW = 1_795_194_000
WEB: Labels = (("filename", "/var/log/wéb.log"),)


def at(seconds: int) -> Time:
    return Time((NOW + seconds) * S, 1.0)


def spool(held: dict[str, str], positions: tuple[Position, ...]) -> None:
    for position in positions:
        if position.value is None:
            del held[position.key]
        else:
            held[position.key] = position.value


def test_another_run_goes_on_where_the_last_one_was_whichever_file_it_reads() -> None:
    held: dict[str, str] = {}
    own, left = GivenTimes({}, NOW * S).distinct(WEB, array("q", [5 * S, 5 * S]), 0, at(0))
    spool(held, left)
    again, left = GivenTimes(held, NOW * S).distinct(WEB, array("q", [5 * S, 5 * S]), 0, at(1))
    assert [*own, *again] == [5 * S + number for number in range(4)]
    other, _ = GivenTimes(held, NOW * S).distinct((("filename", "b"),), array("q", [5 * S]), 0, at(1))
    assert other.tolist() == [5 * S]
    assert positions_only(held | {"started": "1"}) == {"started": "1"}


def test_late_records_go_on_with_numbers_of_their_own() -> None:
    held: dict[str, str] = {}
    own, left = GivenTimes({}, NOW * S).distinct(WEB, array("q", [6 * S, 5 * S]), 0, at(0))
    spool(held, left)
    again, _ = GivenTimes(held, NOW * S).distinct(WEB, array("q", [7 * S, 5 * S]), 0, at(1))
    assert own[1] < again[1] < 5 * S + 1_000_000


def test_what_rests_for_an_hour_is_kept_by_this_run_only() -> None:
    held: dict[str, str] = {}
    times = GivenTimes({}, NOW * S)
    spool(held, times.distinct(WEB, array("q", [5 * S]), 100, at(0))[1])
    assert len(held) == 1
    other = (("filename", "b"),)
    spool(held, times.distinct(other, array("q", [5 * S]), 0, at(3600))[1])
    assert len(held) == 2
    spool(held, times.distinct(other, array("q", [6 * S]), 0, at(3601))[1])
    assert len(held) == 1
    own, left = times.distinct(WEB, array("q", [5 * S + 100_000_000_000]), 100, at(3602))
    assert own.tolist() == [5 * S + 100_000_000_000]
    assert [position.value is None for position in left] == [False]


def test_what_was_kept_is_kept_through_a_long_stop() -> None:
    held: dict[str, str] = {}
    spool(held, GivenTimes({}, NOW * S).distinct(WEB, array("q", [5 * S]), 0, at(0))[1])
    for later in (100_000, 103_000):
        times = GivenTimes(held, at(later).wall_ns)
        spool(held, times.distinct((("filename", "b"),), array("q", [later * S]), 0, at(later + 1))[1])
    own, _ = GivenTimes(held, at(103_002).wall_ns).distinct(WEB, array("q", [5 * S]), 0, at(103_002))
    assert own.tolist() == [5 * S + 1]


def test_what_cannot_be_understood_is_forgotten() -> None:
    held = {"times:ab": "no", "times:cd": "1 2"}
    times = GivenTimes(held, NOW * S)
    for later in (0, 3601):
        spool(held, times.distinct(WEB, array("q", [(5 + later) * S]), 0, at(later))[1])
    assert len(held) == 1


def test_of_too_many_label_sets_the_one_not_used_for_longest_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(given, "MOST_LABEL_SETS", 2)
    held: dict[str, str] = {}
    times = GivenTimes({}, NOW * S)
    for name in ("a", "b", "a", "c"):
        spool(held, times.distinct((("filename", name),), array("q", [5 * S]), 0, at(0))[1])
    assert len(held) == 2
    for name, expected in (("a", 5 * S + 2), ("c", 5 * S + 1)):
        assert times.distinct((("filename", name),), array("q", [5 * S]), 0, at(0))[0].tolist() == [expected]
