"""Network devices out of /sys/class/net."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host.netclass import Netclass
from agent.errors import NoData
from tests.collect.host.machines import machine, samples


def device(root: Path, name: str, **attributes: str) -> Path:
    folder = root / "sys" / "devices" / "virtual" / "net" / name
    folder.mkdir(parents=True)
    for attribute, held in attributes.items():
        (folder / attribute).write_text(held + "\n")
    listed = root / "sys" / "class" / "net"
    listed.mkdir(parents=True, exist_ok=True)
    (listed / name).symlink_to(f"../../devices/virtual/net/{name}")
    return folder


def test_a_device_tells_what_it_knows_and_no_more(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up", flags="0x1003", speed="-1", mtu="", address="02:fc:00:00:00:01")
    assert samples(Netclass(machine(tmp_path)).collect()) == {
        'node_network_up{device="eth0"}': 1,
        'node_network_flags{device="eth0"}': 0x1003,
        'node_network_speed_bytes{device="eth0"}': -125000,
        'node_network_info{address="02:fc:00:00:00:01",device="eth0",operstate="up"}': 1,
    }


def test_the_list_of_bonds_is_no_device(tmp_path: Path) -> None:
    device(tmp_path, "lo", operstate="unknown")
    (tmp_path / "sys" / "class" / "net" / "bonding_masters").write_text("\n")
    assert samples(Netclass(machine(tmp_path)).collect()) == {
        'node_network_up{device="lo"}': 0,
        'node_network_info{device="lo",operstate="unknown"}': 1,
    }


def test_devices_can_be_left_out(tmp_path: Path) -> None:
    for name in ("eth0", "veth1a2b", "veth3c4d"):
        device(tmp_path, name, operstate="up")
    found = samples(Netclass(machine(tmp_path, network_devices_exclude="^veth")).collect())
    assert {series for series in found if "veth" in series} == set()
    assert found['node_network_up{device="eth0"}'] == 1


def test_a_device_that_goes_while_it_is_read_takes_no_other_along(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up")
    (tmp_path / "sys" / "class" / "net" / "veth0").symlink_to("../../devices/virtual/net/veth0")
    found = samples(Netclass(machine(tmp_path)).collect())
    assert found['node_network_up{device="eth0"}'] == 1
    assert 'node_network_up{device="veth0"}' not in found


def test_a_machine_without_the_class_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        Netclass(machine(tmp_path)).collect()
