"""This file reads the clock, its time zone, and what the kernel tells time by: /sys/devices/system/clocksource."""

from __future__ import annotations

from time import localtime
from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import attribute, entries
from agent.errors import NoData
from agent.wire.series import Metric, Table, single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

NANOSECONDS: Final = 1_000_000_000
ZONE: Final = Metric("node_time_zone_offset_seconds", "gauge", "System time zone offset in seconds.")
AVAILABLE: Final = Metric(
    "node_time_clocksource_available_info",
    "gauge",
    "Available clocksources read from '/sys/devices/system/clocksource'.",
)
CURRENT: Final = Metric(
    "node_time_clocksource_current_info", "gauge", "Current clocksource read from '/sys/devices/system/clocksource'."
)


class Time:
    """Leaves out the clock sources where the kernel does not show them."""

    def __init__(self, machine: Machine) -> None:
        self._clock = machine.clock
        self._sources = f"{machine.sys}/devices/system/clocksource"
        self._zone = Table(("time_zone",), ZONE)
        self._available = Table(("device", "clocksource"), AVAILABLE)
        self._current = Table(("device", "clocksource"), CURRENT)

    def collect(self) -> Iterable[Family]:
        """Seconds since 1970, the offset of local time, and a series that is always 1 for each clock source."""
        seconds = self._clock.wall_ns() / NANOSECONDS
        local = localtime(seconds)
        yield single("node_time_seconds", "gauge", "System time in seconds since epoch (1970).", seconds)
        yield from self._zone.families({(local.tm_zone,): (float(local.tm_gmtoff),)})
        folders = self._folders()
        available = [(str(n), source) for n, folder in enumerate(folders) for source in _words(folder, "available")]
        current = [(str(n), source) for n, folder in enumerate(folders) for source in _words(folder, "current")]
        yield from self._available.families(dict.fromkeys(available, (1.0,)))
        yield from self._current.families(dict.fromkeys(current, (1.0,)))

    def _folders(self) -> list[str]:
        try:
            return [f"{self._sources}/{name}" for name in entries(self._sources) if name.startswith("clocksource")]
        except NoData:
            return []


def _words(folder: str, which: str) -> list[str]:
    return (attribute(f"{folder}/{which}_clocksource") or "").split()


COLLECTOR: Final = Time
