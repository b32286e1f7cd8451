"""ZFS out of /proc/spl/kstat/zfs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.host.zfs import Zfs, parse, parse_dataset, parse_io
from tests.collect.host.machines import machine, samples

KSTAT = b"6 1 0x01 91 4368 5266997922 97951858082072\nname                            type data\n"
IO = b"16 3 0x00 1 80 1 2\nnread nwritten reads writes wtime wlentime wupdate rtime rlentime rupdate wcnt rcnt\n"


def test_numbers_of_64_bits_are_taken_and_text_is_not() -> None:
    lines = b"hits 4 8772612\nbacklog 3 -7\nname_of 7 tank\nratio 5 3\n"
    assert parse(KSTAT + lines) == [(b"hits", 8772612.0), (b"backlog", -7.0)]


def test_a_dataset_has_a_name_with_whatever_is_in_it() -> None:
    lines = b"dataset_name                    7    tank/my files@daily\nwrites 4    18446744073709551615\n"
    assert parse_dataset(KSTAT + lines) == ("tank/my files@daily", [(b"writes", 18446744073709551615.0)])


def test_a_pools_numbers_stand_below_their_names() -> None:
    numbers = parse_io(IO + b"1 2 3 4 5 6 7 8 9 10 11 12\n")
    assert numbers[0] == (b"nread", 1.0)
    assert numbers[-1] == (b"rcnt", 12.0)


@pytest.mark.parametrize(
    ("data", "fault"),
    [(b"", 'no line "name type data"'), (KSTAT + b"hits 4 many\n", '"hits" is not a number')],
)
def test_a_file_of_another_form_says_so(data: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse(data)


def test_a_pool_with_fewer_values_than_names_says_so() -> None:
    with pytest.raises(ValueError, match="12 names and 2 values"):
        parse_io(IO + b"1 2\n")


def test_the_file_at_fault_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "spl" / "kstat" / "zfs"
    folder.mkdir(parents=True)
    (folder / "arcstats").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match='zfs: arcstats: has no line "name type data"'):
        Zfs(machine(tmp_path)).collect()


def test_a_pool_that_comes_and_goes_takes_only_its_own_series_along(tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "spl" / "kstat" / "zfs"
    (folder / "tank").mkdir(parents=True)
    (folder / "zil").write_bytes(KSTAT + b"zil_commit_count 4 10\n")
    (folder / "tank" / "state").write_text("DEGRADED\n")
    zfs = Zfs(machine(tmp_path))
    with_pool = samples(zfs.collect())
    assert with_pool['node_zfs_zpool_state{state="degraded",zpool="tank"}'] == 1
    assert with_pool['node_zfs_zpool_state{state="online",zpool="tank"}'] == 0
    (folder / "tank" / "state").unlink()
    (folder / "tank").rmdir()
    assert samples(zfs.collect()) == {"node_zfs_zil_zil_commit_count": 10.0}


@given(
    st.one_of(
        st.binary(max_size=300), st.binary(max_size=300).map(KSTAT.__add__), st.binary(max_size=99).map(IO.__add__)
    )
)
def test_any_bytes_are_numbers_or_a_value_error(data: bytes) -> None:
    for reading in (parse, parse_dataset, parse_io):
        with suppress(ValueError):
            reading(data)
