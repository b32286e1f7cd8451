"""This file counts the devices of each bond, and those of them that work: /sys/class/net/*/bonding."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes
from agent.collect.host.kernelfile import read
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

IFNAMSIZ: Final = 16
"""Bytes of a device's name, with the zero at its end (include/uapi/linux/if.h)."""


class Bonding:
    """Raises NoData on a machine whose kernel bonds nothing."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/net"
        self._table = Table(
            ("master",),
            Metric("node_bonding_slaves", "gauge", "Number of configured slaves per bonding interface."),
            Metric("node_bonding_active", "gauge", "Number of active slaves per bonding interface."),
        )

    def collect(self) -> Iterable[Family]:
        """A row for each bond."""
        rows: dict[tuple[str, ...], tuple[float, float]] = {}
        for bond in _names(f"{self._directory}/bonding_masters"):
            path = f"{self._directory}/{bond}"
            try:
                slaves = _names(f"{path}/bonding/slaves")
            except NoData:  # gone since it was listed
                continue
            rows[(bond,)] = (len(slaves), sum(_works(path, slave) for slave in slaves))
        return self._table.families(rows)


def _names(path: str) -> list[str]:
    """The devices that a file lists; what is longer than a device's name can be is none."""
    return [name for name in read(path).decode("ascii", "replace").split() if len(name) < IFNAMSIZ and "\0" not in name]


def _works(bond: str, slave: str) -> bool:
    """What the bond's own supervision says of one device; older kernels link it as ``slave_NAME``."""
    for link in ("lower", "slave"):
        with suppress(NoData):
            return attributes(f"{bond}/{link}_{slave}/bonding_slave", ("mii_status",)) == [b"up"]
    return False


COLLECTOR: Final = Bonding
