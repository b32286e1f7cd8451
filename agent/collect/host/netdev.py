"""This file reads what passed through the network devices: /proc/net/dev (proc(5)).

::

    Inter-|   Receive                                             |  Transmit
     face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
      eth0: 845 6 0 0 0 0 0 0  492 5 0 0 0 0 0 0
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import numbers
from agent.collect.host.kernelfile import number, read
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

RECEIVED: Final = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
SENT: Final = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")
STATISTICS: Final = (*(f"receive_{name}" for name in RECEIVED), *(f"transmit_{name}" for name in SENT))
NO_HANDLER: Final = "receive_nohandler"
"""Packets that no protocol wanted, from /sys/class/net/DEVICE/statistics; /proc/net/dev does not have it."""


class Netdev:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/net/dev"
        self._sys = f"{machine.sys}/class/net"
        exclude = machine.options.network_devices_exclude
        self._exclude = re.compile(exclude) if exclude else None
        self._table = Table(
            ("device",),
            *(
                Metric(f"node_network_{name}_total", "counter", f"Network device statistic {name}.")
                for name in (*STATISTICS, NO_HANDLER)
            ),
        )

    def collect(self) -> Iterable[Family]:
        """Counters for each device, in bytes and in packets."""
        rows: dict[tuple[str, ...], list[float | None]] = {}
        for device, statistics in parse(read(self._path)).items():
            if self._exclude is None or not self._exclude.search(device):
                rows[(device,)] = [*statistics, number(f"{self._sys}/{device}/statistics/rx_nohandler")]
        return self._table.families(rows)


def parse(data: bytes) -> dict[str, list[float]]:
    """The sixteen numbers by device. Raises ValueError on a line of another form."""
    rows: dict[str, list[float]] = {}
    for line in data.splitlines()[2:]:
        name, colon, rest = line.rpartition(b":")
        device = name.strip().decode("utf-8", "replace")
        columns = rest.split()
        if not colon or len(columns) < len(STATISTICS):
            raise ValueError(f"net/dev: {device} has {len(columns)} columns; {len(STATISTICS)} are needed")
        rows[device] = numbers(columns[: len(STATISTICS)], f"net/dev: {device}")
    return rows


COLLECTOR: Final = Netdev
