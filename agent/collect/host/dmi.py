"""This file reads what the firmware says the machine is: /sys/class/dmi/id. It is read once; it cannot change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.batch import Family
from agent.collect.host.attributes import present, text
from agent.errors import NoData
from agent.wire.series import series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.collect.host.machine import Machine

LABELS: Final = {
    **{
        name: name
        for name in (
            *("bios_date", "bios_release", "bios_vendor", "bios_version"),
            *("board_asset_tag", "board_name", "board_serial", "board_vendor", "board_version"),
            *("chassis_asset_tag", "chassis_serial", "chassis_vendor", "chassis_version"),
            *("product_family", "product_name", "product_serial", "product_sku", "product_uuid", "product_version"),
        )
    },
    "sys_vendor": "system_vendor",
}
"""Attribute: the label it is. Serial numbers are for root only and left out elsewhere."""

HELP: Final = f"A metric with a constant '1' value labeled by {', '.join(LABELS.values())} if provided by DMI."


class Dmi:
    """Raises NoData on a machine whose firmware has no such table."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/dmi/id"
        self._families: list[Family] | None = None

    def collect(self) -> Iterable[Family]:
        """One gauge, always 1."""
        if self._families is None:
            self._families = [self._read()]
        return self._families

    def _read(self) -> Family:
        labels = [(LABELS[name], text(data)) for name, data in present(self._directory, LABELS).items()]
        if not labels:
            raise NoData(f"{self._directory} says nothing")
        return Family("node_dmi_info", "gauge", HELP, (series("node_dmi_info", labels),), (1.0,))


COLLECTOR: Final = Dmi
