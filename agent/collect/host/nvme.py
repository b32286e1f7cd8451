"""This file reads which NVMe controllers there are and how they do: /sys/class/nvme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, text
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

LABELS: Final = {"firmware_rev": "firmware_revision", "model": "model", "serial": "serial", "state": "state"}
"""Attribute: the label it is."""


class Nvme:
    """Raises NoData on a machine without the class."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/nvme"
        self._table = Table(
            (*LABELS.values(), "device"),
            Metric("node_nvme_info", "gauge", "Non-numeric data from /sys/class/nvme/<device>, value is always 1."),
        )

    def collect(self) -> Iterable[Family]:
        """One gauge for each controller, always 1."""
        rows: dict[tuple[str, ...], tuple[float]] = {}
        for device in entries(self._directory):
            try:
                held = attributes(f"{self._directory}/{device}", LABELS)
            except NoData:  # gone since it was listed
                continue
            rows[(*map(text, held), device)] = (1.0,)
        return self._table.families(rows)


COLLECTOR: Final = Nvme
