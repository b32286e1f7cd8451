"""Bonds out of /sys/class/net."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host.bonding import Bonding
from agent.errors import NoData
from tests.collect.host.machines import machine, samples


def bond(root: Path, masters: str, slaves: str) -> Path:
    folder = root / "sys" / "class" / "net" / "bond0"
    (folder / "bonding").mkdir(parents=True)
    (folder / "bonding" / "slaves").write_text(slaves)
    (folder.parent / "bonding_masters").write_text(masters)
    return folder


@pytest.mark.parametrize("link", ["lower", "slave"])
def test_those_that_work_are_counted_whatever_the_kernel_calls_the_link(tmp_path: Path, link: str) -> None:
    folder = bond(tmp_path, "bond0\n", "eth0 eth1 eth2\n")
    for device, status in (("eth0", "up"), ("eth1", "down")):
        (folder / f"{link}_{device}" / "bonding_slave").mkdir(parents=True)
        (folder / f"{link}_{device}" / "bonding_slave" / "mii_status").write_text(f"{status}\n")
    assert samples(Bonding(machine(tmp_path)).collect()) == {
        'node_bonding_slaves{master="bond0"}': 3,
        'node_bonding_active{master="bond0"}': 1,
    }


def test_what_cannot_be_a_device_is_none(tmp_path: Path) -> None:
    bond(tmp_path, f"bond0 {'x' * 5000} a\0b gone\n", "eth0\0 " + "y" * 300)
    assert samples(Bonding(machine(tmp_path)).collect()) == {
        'node_bonding_slaves{master="bond0"}': 0,
        'node_bonding_active{master="bond0"}': 0,
    }


def test_a_kernel_that_bonds_nothing_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        Bonding(machine(tmp_path)).collect()
