"""This file reads the space of Btrfs file systems: /sys/fs/btrfs/UUID (Documentation/ABI, fs/btrfs/sysfs.c).

::

    allocation/global_rsv_size          allocation/data/raid5/total_bytes     devices/vdb/size
    allocation/data/bytes_reserved      allocation/data/raid5/used_bytes      (sectors of 512 bytes)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number, text
from agent.collect.host.kernelfile import ABSENT, entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

Rows = dict[tuple[str, ...], tuple[float | None, ...]]

GROUPS: Final = ("data", "metadata", "system")
COPIES: Final = {
    **dict.fromkeys(("single", "raid0"), 1.0),
    **dict.fromkeys(("dup", "raid1", "raid10"), 2.0),
    "raid1c3": 3.0,
    "raid1c4": 4.0,
}
"""How often each byte is stored, by the profile."""

PARITIES: Final = {"raid5": 1, "raid6": 2}
"""Devices' worth of parity, by the profile."""

_SECTOR_BYTES: Final = 512


class Btrfs:
    """A machine without such file systems has no families."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/fs/btrfs"
        self._systems = Table(("uuid",), Metric("node_btrfs_global_rsv_size_bytes", "gauge", "Size of global reserve."))
        self._info = Table(("label", "uuid"), Metric("node_btrfs_info", "gauge", "Filesystem information"))
        self._devices = Table(
            ("device", "uuid"),
            Metric("node_btrfs_device_size_bytes", "gauge", "Size of a device that is part of the filesystem."),
        )
        self._groups = Table(
            ("block_group_type", "uuid"),
            Metric("node_btrfs_reserved_bytes", "gauge", "Amount of space reserved for a data type"),
        )
        self._layouts = Table(
            ("block_group_type", "mode", "uuid"),
            Metric("node_btrfs_used_bytes", "gauge", "Amount of used space by a layout/data type"),
            Metric("node_btrfs_size_bytes", "gauge", "Amount of space allocated for a layout/data type"),
            Metric("node_btrfs_allocation_ratio", "gauge", "Data allocation ratio for a layout/data type"),
        )

    def collect(self) -> Iterable[Family]:
        """Rows for each file system, its devices, and what it has allocated for what."""
        tables = (self._info, self._systems, self._devices, self._groups, self._layouts)
        rows: tuple[Rows, ...] = tuple({} for _ in tables)
        for name in _entries(self._directory):
            if "-" in name:
                try:
                    self._read(name, *rows)
                except NoData:  # unmounted since it was listed
                    continue
        return [family for table, found in zip(tables, rows, strict=True) for family in table.families(found)]

    def _read(self, name: str, info: Rows, systems: Rows, devices: Rows, groups: Rows, layouts: Rows) -> None:
        path = f"{self._directory}/{name}"
        label, metadata_uuid = attributes(path, ("label", "metadata_uuid"))
        uuid = text(metadata_uuid) or name
        info[text(label), uuid] = (1.0,)
        systems[(uuid,)] = (_number(f"{path}/allocation", "global_rsv_size"),)
        disks = _entries(f"{path}/devices")
        for disk in disks:
            sectors = _number(f"{path}/devices/{disk}", "size")
            devices[disk, uuid] = (None if sectors is None else sectors * _SECTOR_BYTES,)
        for group in GROUPS:
            group_path = f"{path}/allocation/{group}"
            groups[group, uuid] = (_number(group_path, "bytes_reserved"),)
            for mode in _directories(group_path):
                used, total = map(number, attributes(f"{group_path}/{mode}", ("used_bytes", "total_bytes")))
                layouts[group, mode, uuid] = (used, total, ratio(mode, len(disks)))


def ratio(mode: str, devices: int) -> float:
    """How many bytes of disk one byte needs in that profile on so many devices; 0 for a profile that is not known."""
    if mode in PARITIES:
        parity = PARITIES[mode]
        return devices / (devices - parity) if devices > parity else 0.0
    return COPIES.get(mode, 0.0)


def _entries(path: str) -> list[str]:
    try:
        return entries(path)
    except NoData:
        return []


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as there:
            return sorted(entry.name for entry in there if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise


def _number(directory: str, name: str) -> float | None:
    """The number of one attribute; None where the directory is not there either."""
    try:
        return number(attributes(directory, (name,))[0])
    except NoData:
        return None


COLLECTOR: Final = Btrfs
