"""This file reads temperatures and what cools them: /sys/class/thermal (Documentation/driver-api/thermal)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number, text
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

Rows = dict[tuple[str, ...], tuple[float | None, ...]]

_ZONE: Final = "thermal_zone"
_DEVICE: Final = "cooling_device"


class ThermalZone:
    """A zone that cannot be read now has no series."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/thermal"
        self._zones = Table(("zone", "type"), Metric("node_thermal_zone_temp", "gauge", "Zone temperature in Celsius"))
        self._devices = Table(
            ("name", "type"),
            Metric("node_cooling_device_cur_state", "gauge", "Current throttle state of the cooling device"),
            Metric("node_cooling_device_max_state", "gauge", "Maximum throttle state of the cooling device"),
        )

    def collect(self) -> Iterable[Family]:
        """Zones in degrees Celsius, devices in steps; -1 where a device cannot say. No families without any."""
        try:
            names = entries(self._directory)
        except NoData:
            return []
        zones: Rows = {}
        devices: Rows = {}
        for name in names:
            if name.startswith(_ZONE):
                kind, millidegrees = self._read(name, "type", "temp")
                if (value := number(millidegrees)) is not None:
                    zones[name.removeprefix(_ZONE), text(kind)] = (value / 1000.0,)
            elif name.startswith(_DEVICE):
                kind, now, most = self._read(name, "type", "cur_state", "max_state")
                devices[name.removeprefix(_DEVICE), text(kind)] = (number(now), number(most))
        return [*self._zones.families(zones), *self._devices.families(devices)]

    def _read(self, name: str, *wanted: str) -> list[bytes | None]:
        try:
            return attributes(f"{self._directory}/{name}", wanted)
        except NoData:  # gone since it was listed
            return [None] * len(wanted)


COLLECTOR: Final = ThermalZone
