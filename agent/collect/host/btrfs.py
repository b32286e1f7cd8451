"""This file reads the space of Btrfs file systems: /sys/fs/btrfs/UUID (Documentation/ABI, fs/btrfs/sysfs.c).

::

    allocation/global_rsv_size          allocation/data/raid5/total_bytes     devices/vdb/size
    allocation/data/bytes_reserved      allocation/data/raid5/used_bytes      (sectors of 512 bytes)

Where the kernel lets us ask the file systems themselves, their devices have more to say.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number, text
from agent.collect.host.kernelfile import ABSENT, entries, read
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.btrfs_devices import Device
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
        self._mounts = f"{machine.proc}/1/mounts"
        self._root = machine.root.rstrip("/")
        self._systems = Table(("uuid",), Metric("node_btrfs_global_rsv_size_bytes", "gauge", "Size of global reserve."))
        self._info = Table(("label", "uuid"), Metric("node_btrfs_info", "gauge", "Filesystem information"))
        self._devices = Table(
            ("btrfs_dev_uuid", "device", "uuid"),
            Metric("node_btrfs_device_size_bytes", "gauge", "Size of a device that is part of the filesystem."),
            Metric(
                "node_btrfs_device_unused_bytes",
                "gauge",
                "Unused bytes unused on a device that is part of the filesystem.",
            ),
        )
        self._errors = Table(
            ("btrfs_dev_uuid", "device", "type", "uuid"),
            Metric("node_btrfs_device_errors_total", "counter", "Errors reported for the device"),
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
        names = [name for name in _entries(self._directory) if "-" in name]
        asked = self._asked() if names else {}
        tables = (self._info, self._systems, self._devices, self._errors, self._groups, self._layouts)
        found: tuple[Rows, ...] = tuple({} for _ in tables)
        info, systems, disks, errors, groups, layouts = found
        for name in names:
            path = f"{self._directory}/{name}"
            try:
                label, metadata_uuid = attributes(path, ("label", "metadata_uuid"))
            except NoData:  # unmounted since it was listed
                continue
            uuid = text(metadata_uuid) or name
            info[text(label), uuid] = (1.0,)
            systems[(uuid,)] = (_number(f"{path}/allocation", "global_rsv_size"),)
            listed = _entries(f"{path}/devices")
            if name in asked:
                _add_asked(asked[name], uuid, disks, errors)
            else:
                disks |= {("", disk, uuid): (_size(f"{path}/devices/{disk}"), None) for disk in listed}
            _add_allocated(f"{path}/allocation", uuid, len(listed), groups, layouts)
        return [family for table, rows in zip(tables, found, strict=True) for family in table.families(rows)]

    def _asked(self) -> dict[str, list[Device]]:
        """The devices of each file system that says them; none without the right to ask."""
        from agent.collect.host.btrfs_devices import devices, mount_points  # for machines that have Btrfs

        found: dict[str, list[Device]] = {}
        try:
            for place in mount_points(read(self._mounts)).values():
                with suppress(FileNotFoundError, NotADirectoryError):
                    name, asked = devices(f"{self._root}{place}")
                    found[name] = asked
        except (NoData, OSError):
            pass
        return found


def _add_asked(asked: list[Device], uuid: str, disks: Rows, errors: Rows) -> None:
    from agent.collect.host.btrfs_devices import ERRORS

    for device in asked:
        disks[device.uuid, device.name, uuid] = (device.size_bytes, device.unused_bytes)
        for kind, number_of in zip(ERRORS, device.errors, strict=True):
            errors[device.uuid, device.name, kind, uuid] = (number_of,)


def _add_allocated(path: str, uuid: str, disks: int, groups: Rows, layouts: Rows) -> None:
    for group in GROUPS:
        groups[group, uuid] = (_number(f"{path}/{group}", "bytes_reserved"),)
        for mode in _directories(f"{path}/{group}"):
            used, total = map(number, attributes(f"{path}/{group}/{mode}", ("used_bytes", "total_bytes")))
            layouts[group, mode, uuid] = (used, total, ratio(mode, disks))


def _size(path: str) -> float | None:
    sectors = _number(path, "size")
    return None if sectors is None else sectors * _SECTOR_BYTES


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
