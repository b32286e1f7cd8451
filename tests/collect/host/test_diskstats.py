"""The disks of /proc/diskstats, as old and new kernels show them, and what udev knows of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.collect.host.disk_properties import parse as parse_properties
from agent.collect.host.diskstats import Diskstats, parse
from tests.collect.host.machines import machine, samples

OLD = "   8       0 sda 1 2 3 4000 5 6 7 8 9 10 11\n"


def diskstats(root: Path, text: str, **options: object) -> Diskstats:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "diskstats").write_text(text)
    return Diskstats(machine(root, **options))


def udev(root: Path, device: str, text: str, *, second: int) -> None:
    """Writes a file of udev's database as udev does, at ``second``."""
    folder = root / "run" / "udev" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / device).write_text(text)
    os.utime(folder, (second, second))


def infos(found: dict[str, float]) -> list[str]:
    return [name for name in found if "info" in name]


def test_sectors_become_bytes_and_milliseconds_seconds(tmp_path: Path) -> None:
    found = samples(diskstats(tmp_path, OLD).collect())
    assert found['node_disk_read_bytes_total{device="sda"}'] == 3 * 512
    assert found['node_disk_read_time_seconds_total{device="sda"}'] == 4.0
    assert found['node_disk_io_now{device="sda"}'] == 9
    assert found['node_disk_io_time_weighted_seconds_total{device="sda"}'] == 0.011


@pytest.mark.parametrize(("columns", "series"), [(11, 11), (15, 15), (17, 17), (20, 17)])
def test_every_kernels_columns_are_read(columns: int, series: int) -> None:
    (row,) = parse(b"8 0 sda " + b" ".join(b"1" for _ in range(columns)) + b"\n").values()
    assert len([value for value in row if value is not None]) == series


def test_disks_of_different_kernels_columns_stand_beside_each_other(tmp_path: Path) -> None:
    new = "   8      16 sdb " + " ".join("1" for _ in range(17)) + "\n"
    found = samples(diskstats(tmp_path, OLD + new).collect())
    assert [name for name in found if "flush_requests_total" in name] == [
        'node_disk_flush_requests_total{device="sdb"}'
    ]


def test_partitions_and_loops_are_left_out(tmp_path: Path) -> None:
    text = OLD + OLD.replace("sda", "sda1") + OLD.replace("sda", "loop0") + OLD.replace("sda", "nvme0n1p2")
    collector = diskstats(tmp_path, text)
    assert {name.rpartition("device=")[2] for name in samples(collector.collect()) if "now" in name} == {'"sda"}'}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"8 0 sda\n", "numbers are expected in it"),
        (b"8 0 sda 1 2 3\n", "diskstats: sda has 3 columns; 11 are needed"),
        (b"8 0 sda 1 2 3 4 5 6 7 8 9 x 11\n", 'diskstats: sda, number 10 is "x"'),
    ],
)
def test_a_file_of_another_form_says_where(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(data)


def test_a_disk_that_udev_knows_nothing_of_has_its_numbers(tmp_path: Path) -> None:
    found = samples(diskstats(tmp_path, OLD).collect())
    assert infos(found) == ['node_disk_info{device="sda",major="8",minor="0"}']


def test_what_udev_knows_becomes_labels(tmp_path: Path) -> None:
    known = "S:disk/by-id/x\nE:ID_MODEL=M 1\nE:ID_SERIAL_SHORT=S1\nE:ID_WWN=5\nE:ID_PATH=pci-1\nE:ID_REVISION=2=\n"
    udev(tmp_path, "b8:0", known + "E:ID_FS_TYPE=xfs\nE:ID_FS_UUID=u\nE:DM_NAME=root\nE:DM_UUID=LVM-1\n", second=1)
    assert infos(samples(diskstats(tmp_path, OLD).collect())) == [
        'node_disk_info{device="sda",major="8",minor="0",model="M 1",path="pci-1",revision="2=",serial="S1",wwn="5"}',
        'node_disk_filesystem_info{device="sda",type="xfs",uuid="u"}',
        'node_disk_device_mapper_info{device="sda",name="root",uuid="LVM-1"}',
    ]


def test_a_disk_of_ata_says_how_it_turns_and_caches(tmp_path: Path) -> None:
    udev(tmp_path, "b8:0", "E:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\nE:ID_ATA_ROTATION_RATE_RPM=7200\n", second=1)
    found = samples(diskstats(tmp_path, OLD).collect())
    assert {name: value for name, value in found.items() if "_ata_" in name} == {
        'node_disk_ata_write_cache{device="sda"}': 1.0,
        'node_disk_ata_rotation_rate_rpm{device="sda"}': 7200.0,
    }


def test_what_udev_writes_later_is_seen_also_twice_within_one_tick_of_the_clock(tmp_path: Path) -> None:
    udev(tmp_path, "b8:0", "E:ID_MODEL=first\n", second=1)
    collector = diskstats(tmp_path, OLD)
    for _ in range(3):
        assert 'model="first"' in infos(samples(collector.collect()))[0]
    udev(tmp_path, "b8:0", "E:ID_MODEL=second\n", second=2)
    assert 'model="second"' in infos(samples(collector.collect()))[0]
    udev(tmp_path, "b8:0", "E:ID_MODEL=third\n", second=2)
    assert 'model="third"' in infos(samples(collector.collect()))[0]


def test_a_disk_that_comes_is_looked_up(tmp_path: Path) -> None:
    collector = diskstats(tmp_path, OLD)
    assert len(infos(samples(collector.collect()))) == 1
    diskstats(tmp_path, OLD + OLD.replace("0 sda", "16 sdb"))
    assert len(infos(samples(collector.collect()))) == 2


def test_lines_of_udevs_database_that_are_no_properties_are_left_out() -> None:
    assert parse_properties(b"I:123\nE:A=1\nE:B\nG:systemd\nE:C=x=y\n\xff\n") == {"A": "1", "C": "x=y"}


def test_what_is_remembered_of_names_is_bounded_and_no_device_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.collect.host.diskstats.MOST_NAMES", 4)
    text = "".join(f"   8  {number} sd{number} 1 2 3 4 5 6 7 8 9 10 11\n" for number in range(11))
    collector = diskstats(tmp_path, text, diskstats_exclude="sd7")
    for _ in range(2):
        found = samples(collector.collect())
        named = [name for name in found if name.startswith("node_disk_io_now")]
        assert named == [f'node_disk_io_now{{device="sd{number}"}}' for number in range(11) if number != 7]
        assert len(collector._known) <= 4
