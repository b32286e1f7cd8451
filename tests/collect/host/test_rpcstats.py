"""NFS out of /proc/net/rpc."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collect.host import nfs, nfsd
from agent.collect.host.nfs import Nfs
from agent.collect.host.rpcstats import parse
from tests.collect.host.machines import machine, samples

SIZES = {"net": 4, "th": 2, "proc2": 2, "proc4": 3}


def test_each_line_is_its_numbers_as_many_as_are_needed() -> None:
    data = b"net 1 2 3 4\nth 8 0 0.000 0.000\nproc2 2 5 6\nproc4 3 7 8 9\n"
    assert parse(data, SIZES) == {"net": [1, 2, 3, 4], "th": [8, 0], "proc2": [5, 6], "proc4": [7, 8, 9]}


def test_a_line_that_this_kernel_does_not_have_is_zeros() -> None:
    assert parse(b"net 1 2 3 4\n", SIZES)["proc2"] == [0, 0]


def test_lines_and_numbers_of_newer_kernels_are_left_out() -> None:
    assert parse(b"wdeleg_getattr 5\nproc2 4 1 2 3 4\n", SIZES)["proc2"] == [1, 2]


def test_a_client_of_an_older_kernel_knows_fewer_operations() -> None:
    assert parse(b"proc4 2 7 8\n", SIZES, grown=("proc4",))["proc4"] == [7, 8, 0]
    with pytest.raises(ValueError, match="rpc: proc4: has 2 numbers; 3 are needed"):
        parse(b"proc4 2 7 8\n", SIZES)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"net\n", 'rpc: "net" has no numbers'),
        (b"net 1 2 3 x\n", 'rpc: net: "x" is not a count'),
        (b"net 1 2\n", "rpc: net: has 2 numbers; 4 are needed"),
        (b"proc2 5 1 2\n", "rpc: proc2: announces 5 numbers and has 2"),
    ],
)
def test_a_line_of_another_form_is_shown(data: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse(data, SIZES)


def test_a_kernel_without_nfs_2_has_asked_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / "proc" / "net" / "rpc").mkdir(parents=True)
    (tmp_path / "proc" / "net" / "rpc" / "nfs").write_text("net 0 0 0 0\nrpc 3 2 1\n")
    found = samples(Nfs(machine(tmp_path)).collect())
    assert found['node_nfs_requests_total{method="GetAttr",proto="2"}'] == 0
    assert found["node_nfs_rpcs_total"] == 3


@given(st.one_of(st.binary(max_size=300), st.text("netrpc24 0189\n", max_size=300).map(str.encode)))
def test_any_bytes_are_numbers_or_a_value_error(data: bytes) -> None:
    for sizes in (nfs.SIZES, nfsd.SIZES):
        with suppress(ValueError):
            assert {name: len(numbers) for name, numbers in parse(data, sizes).items()} == sizes
