"""This file counts the devices of each bond, and those of them that work: /sys/class/net/*/bonding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import attribute, read
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine


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
    return read(path).decode("utf-8", "replace").split()


def _works(bond: str, slave: str) -> bool:
    """What the bond's own supervision says of one device; older kernels link it as ``slave_NAME``."""
    status = attribute(f"{bond}/lower_{slave}/bonding_slave/mii_status")
    if status is None:
        status = attribute(f"{bond}/slave_{slave}/bonding_slave/mii_status")
    return status == "up"


COLLECTOR: Final = Bonding
