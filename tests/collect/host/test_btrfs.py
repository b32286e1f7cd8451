"""Btrfs out of /sys/fs/btrfs, and out of the file systems themselves where they answer."""

from __future__ import annotations

import fcntl
import struct
from pathlib import Path

import pytest

from agent.collect.host.btrfs import Btrfs, ratio
from agent.collect.host.btrfs_devices import Device, devices, mount_points
from tests.collect.host.machines import machine, samples

FSID = bytes.fromhex("3589a884e8f94b278639978002b09995")
UUID = "3589a884-e8f9-4b27-8639-978002b09995"
DISK = bytes.fromhex("733842c8b4414803ab038446f78c32c5")
DISK_UUID = "733842c8-b441-4803-ab03-8446f78c32c5"


def answering(opened: int, request: int, argument: bytearray) -> int:
    """A file system of one device, number 2, as the kernel would tell of it."""
    if request == 0x8400941F:
        struct.pack_into("=QQ16s", argument, 0, 2, 1, FSID)
        return 0
    [devid] = struct.unpack_from("=Q", argument)
    if devid != 2:
        raise OSError(19, "No such device")
    if request == 0xD000941E:
        struct.pack_into("=16sQQ", argument, 8, DISK, 300, 1000)
        argument[3072:3081] = b"/dev/vdb\0"
    else:
        struct.pack_into("=5Q", argument, 24, 1, 2, 3, 4, 5)
    return 0


def refusing(opened: int, request: int, argument: bytearray) -> int:
    raise PermissionError(1, "Operation not permitted")


def file_system(root: Path) -> Btrfs:
    folder = root / "sys" / "fs" / "btrfs" / UUID
    (folder / "devices" / "vdb").mkdir(parents=True)
    (folder / "devices" / "vdb" / "size").write_text("20\n")
    (folder / "allocation" / "data" / "raid1").mkdir(parents=True)
    (folder / "allocation" / "data" / "raid1" / "used_bytes").write_text("7\n")
    (folder / "label").write_text("pool\n")
    (root / "proc" / "1").mkdir(parents=True)
    (root / "proc" / "1" / "mounts").write_text(f"/dev/vda / ext4 rw 0 0\n/dev/vdb {root}/a\\040b btrfs rw 0 0\n")
    (root / "a b").mkdir()
    return Btrfs(machine(Path("/"), proc=root / "proc", sys=root / "sys"))


def test_a_file_system_tells_the_errors_of_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "ioctl", answering)
    assert devices(str(tmp_path)) == (UUID, [Device(DISK_UUID, "vdb", 1000, 700, (1, 2, 3, 4, 5))])
    found = samples(file_system(tmp_path).collect())
    disk = f'btrfs_dev_uuid="{DISK_UUID}",device="vdb"'
    assert found[f'node_btrfs_device_size_bytes{{{disk},uuid="{UUID}"}}'] == 1000
    assert found[f'node_btrfs_device_unused_bytes{{{disk},uuid="{UUID}"}}'] == 700
    assert found[f'node_btrfs_device_errors_total{{{disk},type="corruption",uuid="{UUID}"}}'] == 4


def test_one_that_may_not_be_asked_has_the_sizes_that_everybody_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", refusing)
    assert samples(file_system(tmp_path).collect()) == {
        f'node_btrfs_info{{label="pool",uuid="{UUID}"}}': 1,
        f'node_btrfs_device_size_bytes{{device="vdb",uuid="{UUID}"}}': 20 * 512,
        f'node_btrfs_used_bytes{{block_group_type="data",mode="raid1",uuid="{UUID}"}}': 7,
        f'node_btrfs_allocation_ratio{{block_group_type="data",mode="raid1",uuid="{UUID}"}}': 2,
    }


def test_a_device_is_asked_at_one_of_its_mount_points() -> None:
    mounts = b"/dev/sda1 / ext4 rw 0 0\n/dev/sdb /srv/a\\040b btrfs rw 0 0\n/dev/sdb /home btrfs rw 0 0\n\nnonsense\n"
    assert mount_points(mounts) == {"/dev/sdb": "/srv/a b"}


@pytest.mark.parametrize(
    ("mode", "disks", "bytes_for_one"),
    [
        ("single", 1, 1),
        ("raid1", 2, 2),
        ("raid1c3", 3, 3),
        ("raid5", 4, 4 / 3),
        ("raid6", 4, 2),
        ("raid5", 1, 0),
        ("raid7", 9, 0),
    ],
)
def test_a_profile_needs_so_many_bytes_for_one(mode: str, disks: int, bytes_for_one: float) -> None:
    assert ratio(mode, disks) == bytes_for_one
