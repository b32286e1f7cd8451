"""Software RAID out of /proc/mdstat."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.host.mdadm import Array, parse

HEAD = "Personalities : [raid1] [raid0]\n"
TAIL = "\nunused devices: <none>\n"


def arrays(*lines: str) -> list[Array]:
    return parse((HEAD + "\n".join(lines) + "\n" + TAIL).encode())


def test_an_array_at_rest_has_all_its_blocks_in_step() -> None:
    assert arrays("md127 : active raid1 sdi2[0] sdj2[1]", "      312319552 blocks [2/2] [UU]", "      ") == [
        Array("md127", "active", active=2, required=2, failed=0, spare=0, blocks=312319552, synced=312319552)
    ]


def test_an_array_that_recovers_tells_how_far_it_is_and_which_disks_failed() -> None:
    assert arrays(
        "md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]",
        "      195310144 blocks [2/1] [U_]",
        "      [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec",
    ) == [Array("md6", "recovering", active=1, required=2, failed=1, spare=1, blocks=195310144, synced=16775552)]


@pytest.mark.parametrize(
    ("line", "state", "synced"),
    [
        ("      [=>...]  resync = 10.5% (20507565/195310144) finish=17.0min", "resync", 20507565),
        ("      [=>...]  check =  5.7% (114176/195310144) finish=0.2min", "check", 114176),
        ("      \tresync=DELAYED", "resync", 0),
        ("      \tresync=PENDING", "resync", 0),
        ("      [==>..]  reshape = 21.5% (840000000/3906762752) finish=311.2min", "active", 195310144),
        ("      bitmap: 0/30 pages [0KB], 65536KB chunk", "active", 195310144),
    ],
)
def test_the_line_below_says_what_an_array_does(line: str, state: str, synced: int) -> None:
    [array] = arrays("md8 : active raid1 sdb1[1] sda1[0]", "      195310144 blocks [2/2] [UU]", line)
    assert (array.state, array.synced) == (state, synced)


def test_a_bitmap_may_stand_before_the_progress() -> None:
    [array] = arrays(
        "md8 : active raid1 sdb1[1] sda1[0]",
        "      195310144 blocks [2/2] [UU]",
        "      bitmap: 2/2 pages [8KB], 65536KB chunk",
        "      [=>...]  resync = 10.5% (20507565/195310144) finish=17.0min",
    )
    assert array.synced == 20507565


def test_a_striped_array_has_as_many_disks_as_it_names_and_an_inactive_one_none() -> None:
    striped, inactive = arrays(
        "md10 : active raid0 sda1[0] sdb1[1]",
        "      314159265 blocks 64k chunks",
        "      ",
        "md219 : inactive sdb[2](S) sdc[1](S)",
        "      7932 blocks super external:imsm",
        "      ",
    )
    assert (striped.active, striped.required) == (2, 2)
    assert (inactive.active, inactive.required, inactive.spare, inactive.state) == (0, 0, 2, "inactive")


def test_no_arrays_are_no_fault() -> None:
    assert parse((HEAD + TAIL).encode()) == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (("md0 :", "      1 blocks"), '"md0 :" is not an array with its lines'),
        (("md0 : active raid1 sda[0]", "      no blocks"), 'md0: "      no blocks" tells no blocks'),
        (("md0 : active raid1 sda[0]", "      12 blocks"), '"      12 blocks" tells no disks'),
        (
            ("md0 : active raid1 sda[0]", "      12 blocks [2/2] [UU]", "      resync=REMOTE"),
            '"      resync=REMOTE" tells no progress',
        ),
    ],
)
def test_a_line_of_another_form_is_shown(lines: tuple[str, ...], fault: str) -> None:
    with pytest.raises(ValueError, match="mdstat: ") as raised:
        arrays(*lines)
    assert fault in str(raised.value)


@given(st.one_of(st.binary(max_size=400), st.text("md0:aciverd [](F)_U\n 129/blocks", max_size=400).map(str.encode)))
def test_any_bytes_are_arrays_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        assert all(isinstance(array, Array) for array in parse(data))
