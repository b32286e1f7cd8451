"""XFS out of /sys/fs/xfs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.host.xfs import METRICS, Xfs, parse
from tests.collect.host.machines import machine, samples


def stats(root: Path, device: str, data: bytes) -> Xfs:
    (root / "sys" / "fs" / "xfs" / device / "stats").mkdir(parents=True)
    (root / "sys" / "fs" / "xfs" / device / "stats" / "stats").write_bytes(data)
    return Xfs(machine(root))


def test_a_line_that_this_kernel_does_not_have_has_no_series(tmp_path: Path) -> None:
    found = samples(stats(tmp_path, "sda1", b"rw 107739 94045\n").collect())
    assert found == {
        'node_xfs_write_calls_total{device="sda1"}': 107739,
        'node_xfs_read_calls_total{device="sda1"}': 94045,
    }


def test_what_all_file_systems_did_together_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "sys" / "fs" / "xfs" / "stats").mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "xfs" / "stats" / "stats").write_bytes(b"rw 1 2\n")
    assert Xfs(machine(tmp_path)).collect() == []


@pytest.mark.parametrize(
    ("data", "fault"),
    [(b"rw 1\n", "xfs: sda1: rw has 1 numbers; 2 are needed"), (b"rw 1 -2\n", 'xfs: sda1: "-2" is not a count')],
)
def test_a_line_of_another_form_is_shown_with_its_device(tmp_path: Path, data: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        stats(tmp_path, "sda1", data).collect()


@given(st.one_of(st.binary(max_size=300), st.text("rwabtdirig 019\n", max_size=300).map(str.encode)))
def test_any_bytes_are_numbers_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        assert len(parse(data)) == sum(map(len, METRICS.values()))
