"""This file reads the network devices as the kernel describes them: /sys/class/net (Documentation/ABI/testing).

What a device does not know (the speed of a bridge, the carrier of one that is down) has no series.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number, text
from agent.collect.host.kernelfile import ABSENT
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family, Kind
    from agent.collect.host.machine import Machine

LABELS: Final = ("address", "broadcast", "duplex", "ifalias", "operstate")
NUMBERS: Final[tuple[tuple[str, str, Kind], ...]] = (
    ("addr_assign_type", "address_assign_type", "gauge"),
    ("carrier", "carrier", "gauge"),
    ("carrier_changes", "carrier_changes_total", "counter"),
    ("carrier_up_count", "carrier_up_changes_total", "counter"),
    ("carrier_down_count", "carrier_down_changes_total", "counter"),
    ("dev_id", "device_id", "gauge"),
    ("dormant", "dormant", "gauge"),
    ("flags", "flags", "gauge"),
    ("ifindex", "iface_id", "gauge"),
    ("iflink", "iface_link", "gauge"),
    ("link_mode", "iface_link_mode", "gauge"),
    ("mtu", "mtu_bytes", "gauge"),
    ("name_assign_type", "name_assign_type", "gauge"),
    ("netdev_group", "net_dev_group", "gauge"),
    ("tx_queue_len", "transmit_queue_length", "gauge"),
    ("type", "protocol_type", "gauge"),
    ("speed", "speed_bytes", "gauge"),
)
"""Attribute, name after ``node_network_``, kind."""

_ATTRIBUTES: Final = (*LABELS, *(attribute for attribute, _, _ in NUMBERS))
_BYTES_PER_SECOND: Final = 1_000_000 / 8
"""Of one Mbit/s, the unit of ``speed``; -1 there means that the driver does not know."""


class Netclass:
    """Raises NoData on a machine without /sys/class/net."""

    def __init__(self, machine: Machine) -> None:
        exclude = machine.options.network_devices_exclude
        self._directory = f"{machine.sys}/class/net"
        self._excluded = None if exclude is None else re.compile(exclude)
        self._numbers = Table(
            ("device",),
            Metric("node_network_up", "gauge", "Value is 1 if operstate is 'up', 0 otherwise."),
            *(Metric(f"node_network_{name}", kind, f"Network device property: {name}") for _, name, kind in NUMBERS),
        )
        self._info = Table(
            (*LABELS, "device"),
            Metric("node_network_info", "gauge", "Non-numeric data from /sys/class/net/<iface>, value is always 1."),
        )

    def collect(self) -> Iterable[Family]:
        """A row for each device: numbers as they are, speed in bytes per second."""
        numbers: dict[tuple[str, ...], list[float | None]] = {}
        info: dict[tuple[str, ...], tuple[float]] = {}
        for device in self._devices():
            try:
                held = attributes(f"{self._directory}/{device}", _ATTRIBUTES)
            except NoData:  # gone since it was listed
                continue
            labels = [text(data) for data in held[: len(LABELS)]]
            *values, speed = [number(data) for data in held[len(LABELS) :]]
            up = float(labels[-1] == "up")
            numbers[(device,)] = [up, *values, None if speed is None else speed * _BYTES_PER_SECOND]
            info[(*labels, device)] = (1.0,)
        return [*self._numbers.families(numbers), *self._info.families(info)]

    def _devices(self) -> list[str]:
        """Their names; a plain file there (``bonding_masters``) is none."""
        try:
            with os.scandir(self._directory) as there:
                names = sorted(entry.name for entry in there if not entry.is_file(follow_symlinks=False))
        except OSError as error:
            if error.errno in ABSENT:
                raise NoData(f"{self._directory} does not exist") from None
            raise
        return names if self._excluded is None else [name for name in names if not self._excluded.search(name)]


COLLECTOR: Final = Netclass
