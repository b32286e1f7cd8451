"""This file reads what udev has found out about the disks: /run/udev/data/bMAJOR:MINOR.

Source: systemd, src/libsystemd/sd-device. The database is private to udev; lsblk reads it all the same.
A line ``E:NAME=value`` is a property. udev writes a new file and renames it over the old one, so that the time of the
folder says whether anything is new.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.collect.host.kernelfile import read
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.batch import Family
    from agent.collect.host.machine import Machine

Device = tuple[str, str, str]
"""Name, major and minor number."""

Properties = dict[str, str]


class Info(NamedTuple):
    """A metric that is always 1, with properties as labels; a device without the ``needed`` one has no such series."""

    name: str
    help: str
    labels: tuple[str, ...]
    properties: tuple[str, ...]
    needed: str = ""

    def rows(self, found: Mapping[Device, Properties]) -> dict[tuple[str, ...], tuple[float | None, ...]]:
        """The value 1 by the labels of each device that has it."""
        return {
            (device[0], *(properties.get(name, "") for name in self.properties)): (1.0,)
            for device, properties in found.items()
            if not self.needed or properties.get(self.needed)
        }


INFOS: Final = (
    Info(
        "node_disk_info",
        "Info of /sys/block/<block_device>.",
        ("device", "major", "minor", "path", "wwn", "model", "serial", "revision"),
        ("MAJOR", "MINOR", "ID_PATH", "ID_WWN", "ID_MODEL", "SERIAL", "ID_REVISION"),
    ),
    Info(
        "node_disk_filesystem_info",
        "Info about disk filesystem.",
        ("device", "type", "usage", "uuid", "version"),
        ("ID_FS_TYPE", "ID_FS_USAGE", "ID_FS_UUID", "ID_FS_VERSION"),
        needed="ID_FS_TYPE",
    ),
    Info(
        "node_disk_device_mapper_info",
        "Info about disk device mapper.",
        ("device", "name", "uuid", "vg_name", "lv_name", "lv_layer"),
        ("DM_NAME", "DM_UUID", "DM_VG_NAME", "DM_LV_NAME", "DM_LV_LAYER"),
        needed="DM_NAME",
    ),
)

ATA: Final = (
    ("ID_ATA_WRITE_CACHE", Metric("node_disk_ata_write_cache", "gauge", "ATA disk has a write cache.")),
    (
        "ID_ATA_WRITE_CACHE_ENABLED",
        Metric("node_disk_ata_write_cache_enabled", "gauge", "ATA disk has its write cache enabled."),
    ),
    (
        "ID_ATA_ROTATION_RATE_RPM",
        Metric("node_disk_ata_rotation_rate_rpm", "gauge", "ATA disk rotation rate in RPMs (0 for SSDs)."),
    ),
)

SERIALS: Final = ("SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT")
"""The first that is there is the serial number printed on the disk, or what comes nearest to it."""


class DiskProperties:
    """Families of all devices; read again when the devices are others or udev has written something."""

    def __init__(self, machine: Machine) -> None:
        self._folder = f"{machine.root.rstrip('/')}/run/udev/data"
        self._devices: tuple[Device, ...] | None = None
        self._changed_ns = 0
        self._settled = False
        self._families: list[Family] = []

    def families(self, devices: tuple[Device, ...]) -> list[Family]:
        """What is known of ``devices``, as labels of series that are always 1."""
        changed_ns = self._time_ns()
        same = devices == self._devices and changed_ns == self._changed_ns
        if not (same and self._settled):
            # once more after a change: two writes within one tick of the clock give the folder the same time
            self._devices, self._changed_ns, self._settled = devices, changed_ns, same
            self._families = list(self._read(devices))
        return self._families

    def _time_ns(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns
        except OSError:
            return 0

    def _read(self, devices: tuple[Device, ...]) -> Iterator[Family]:
        found = {device: self._of(device) for device in devices}
        for info in INFOS:
            yield from Table(info.labels, Metric(info.name, "gauge", info.help)).families(info.rows(found))
        values: dict[tuple[str, ...], list[float | None]] = {
            (device[0],): _ata(properties) for device, properties in found.items() if properties.get("ID_ATA")
        }
        yield from Table(("device",), *(metric for _, metric in ATA)).families(values)

    def _of(self, device: Device) -> Properties:
        _, major, minor = device
        try:
            properties = parse(read(f"{self._folder}/b{major}:{minor}"))
        except (NoData, OSError):
            properties = {}
        serial = next(filter(None, map(properties.get, SERIALS)), "")
        return {**properties, "MAJOR": major, "MINOR": minor, "SERIAL": serial}


def _ata(properties: Properties) -> list[float | None]:
    return [_number(properties.get(name)) for name, _ in ATA]


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def parse(data: bytes) -> Properties:
    """Values by name, of lines ``E:NAME=value``; other lines say other things."""
    lines = (line[2:].partition("=") for line in data.decode("utf-8", "replace").split("\n") if line.startswith("E:"))
    return {name: value for name, equals, value in lines if equals}
