"""This file reads mains adapters and batteries: /sys/class/power_supply (Documentation/power/power_supply_class.rst).

The kernel tells microvolts, microamperes, microwatts and their like, and tenths of a degree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import number, present, text
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

_AS_IS: Final = ("authentic", "calibrate", "capacity", "capacity_alert_max", "capacity_alert_min", "online", "present")
_MILLIONTHS: Final = (
    *("charge_control_limit", "charge_control_limit_max", "charge_counter", "charge_empty", "charge_empty_design"),
    *("charge_full", "charge_full_design", "charge_term_current", "constant_charge_current"),
    *("constant_charge_current_max", "constant_charge_voltage", "constant_charge_voltage_max", "current_boot"),
    *("current_max", "energy_empty", "energy_empty_design", "energy_full", "energy_full_design"),
    *("input_current_limit", "precharge_current", "voltage_boot", "voltage_max", "voltage_max_design", "voltage_min"),
    *("voltage_min_design", "voltage_ocv"),
)
_TENTHS: Final = (
    *("temp", "temp_alert_max", "temp_alert_min", "temp_ambient", "temp_ambient_max", "temp_ambient_min"),
    *("temp_max", "temp_min"),
)
METRICS: Final[dict[str, tuple[str, float]]] = {
    **{name: (name, 1.0) for name in _AS_IS},
    **{name: (name, 1e6) for name in _MILLIONTHS},
    **{name: (f"{name}_celsius", 10.0) for name in _TENTHS},
    "cycle_count": ("cyclecount", 1.0),
    "time_to_empty_now": ("time_to_empty_seconds", 1.0),
    "time_to_full_now": ("time_to_full_seconds", 1.0),
    "charge_now": ("charge_ampere", 1e6),
    "current_now": ("current_ampere", 1e6),
    "energy_now": ("energy_watthour", 1e6),
    "power_now": ("power_watt", 1e6),
    "voltage_now": ("voltage_volt", 1e6),
}
"""Attribute: name after ``node_power_supply_``, and by what the kernel's number is divided."""

LABELS: Final = (
    *("capacity_level", "charge_type", "health", "manufacturer", "model_name", "scope", "serial_number", "status"),
    *("technology", "type", "usb_type"),
)


class PowerSupplyClass:
    """Raises NoData on a machine without the class."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/power_supply"
        self._numbers = Table(
            ("power_supply",),
            *(
                Metric(f"node_power_supply_{name}", "gauge", f"{name} value of /sys/class/power_supply/<power_supply>.")
                for name, _ in METRICS.values()
            ),
        )
        self._info = Table(
            (*LABELS, "power_supply"),
            Metric("node_power_supply_info", "gauge", "info of /sys/class/power_supply/<power_supply>."),
        )

    def collect(self) -> Iterable[Family]:
        """A row for each supply, of the attributes that its driver has."""
        numbers: dict[tuple[str, ...], list[float | None]] = {}
        info: dict[tuple[str, ...], tuple[float]] = {}
        for name in entries(self._directory):
            try:
                held = present(f"{self._directory}/{name}", (*LABELS, *METRICS))
            except NoData:  # unplugged since it was listed
                continue
            values = ((number(held.get(attribute)), divisor) for attribute, (_, divisor) in METRICS.items())
            numbers[(name,)] = [None if value is None else value / divisor for value, divisor in values]
            info[(*(text(held.get(label)) for label in LABELS), name)] = (1.0,)
        return [*self._numbers.families(numbers), *self._info.families(info)]


COLLECTOR: Final = PowerSupplyClass
