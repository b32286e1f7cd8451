"""This file names what sensors measure: the metric, unit and help of each kind of file that a hardware monitor has.

::

    temp1_crit_alarm     temp, sensor 1, element "crit_alarm"
    in0                  in, sensor 0, no element
    beep_enable          beep_enable, no sensor

Source: Linux, Documentation/hwmon/sysfs-interface.rst; names and help are node_exporter's.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from agent.batch import Kind

_FILE: Final = re.compile(r"([^0-9]+)([0-9]{0,9})(?:_(.+))?", re.DOTALL)
_NO_NAME: Final = re.compile(r"[^a-z0-9:_]")

ALONE: Final = {
    "beep_enable": ("node_hwmon_beep_enabled", "Hardware beep enabled", 1.0),
    "vrm": ("node_hwmon_voltage_regulator_version", "Hardware voltage regulator", 1.0),
    "update_interval": ("node_hwmon_update_interval_seconds", "Hardware monitor update interval", 0.001),
}
"""Kinds that have no elements: metric, help, and what turns the file's number into that unit."""

UNITS: Final[dict[str, tuple[str, str, Kind, float, float]]] = {
    "in": ("_volts", "voltage ({})", "gauge", 0.001, 1.0),
    "cpu": ("_volts", "voltage ({})", "gauge", 0.001, 1.0),
    "temp": ("_celsius", "temperature ({})", "gauge", 0.001, 1.0),
    "curr": ("_amps", "current ({})", "gauge", 0.001, 1.0),
    "energy": ("_joule_total", "joules used so far ({})", "counter", 1.0, 1e6),
    "power": ("_watt", "power usage in watts ({})", "gauge", 1.0, 1e6),
    "humidity": (
        "",
        "humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage) ({})",
        "gauge",
        1.0,
        1e6,
    ),
}
"""Kinds that have a unit: end of the metric, help, kind, and the numbers to multiply and to divide by."""

KINDS: Final = frozenset((*ALONE, *UNITS, "fan", "pwm", "intrusion"))

_INTERVALS: Final = ("average_interval", "average_interval_min", "average_interval_max")
_REVOLUTIONS: Final = ("input", "min", "max", "target")


class Place(NamedTuple):
    """What the name of a file says: the kind of sensor, the sensor (``temp1``), and what of it."""

    kind: str
    sensor: str
    element: str


class Quantity(NamedTuple):
    """What a number is: the metric, and how it becomes that metric's unit."""

    name: str
    kind: Kind
    help: str
    factor: float = 1.0
    divisor: float = 1.0


def place(file: str) -> Place | None:
    """What the name of a file says; None where it is no sensor's."""
    found = _FILE.fullmatch(file)
    if found is None or found[1] not in KINDS:
        return None
    return Place(found[1], f"{found[1]}{int(found[2] or 0)}", found[3] or "")


def clean(name: str) -> str:
    """A name as node_exporter writes it in labels and metrics: small letters, digits, ``:`` and ``_``."""
    return _NO_NAME.sub("_", name.lower()).strip("_")


def quantity(kind: str, element: str, *, has_own_value: bool) -> Quantity:
    """What the element of a sensor is. ``has_own_value`` says that the sensor also has a file without an element."""
    if kind in ALONE:
        name, help_, factor = ALONE[kind]
        return Quantity(name, "gauge", help_, factor)
    name = f"node_hwmon_{kind}"
    if element == "input":
        name += "_input" if has_own_value else ""
    elif element:
        name += f"_{clean(element)}"
    if element in ("fault", "alarm"):
        return Quantity(name, "gauge", f"Hardware sensor {element} status ({kind})")
    if element == "beep":
        return Quantity(f"{name}_enabled", "gauge", "Hardware monitor sensor has beeping enabled")
    return _exception(name, kind, element) or _measured(name, kind, element)


def _exception(name: str, kind: str, element: str) -> Quantity | None:
    """What is told in another unit than the rest of its kind."""
    if kind == "power" and element == "accuracy":
        return Quantity(name, "gauge", "Hardware monitor power meter accuracy, as a ratio", 1.0, 1e6)
    if kind == "power" and element in _INTERVALS:
        help_ = f"Hardware monitor power usage update interval ({element})"
        return Quantity(f"{name}_seconds", "gauge", help_, 0.001)
    if kind == "fan" and element in _REVOLUTIONS:
        return Quantity(f"{name}_rpm", "gauge", f"Hardware monitor for fan revolutions per minute ({element})")
    return None


def _measured(name: str, kind: str, element: str) -> Quantity:
    if kind not in UNITS or (kind == "temp" and element == "type"):
        return Quantity(name, "gauge", f"Hardware monitor {kind} element {element}")
    end, help_, family, factor, divisor = UNITS[kind]
    of = "input" if kind == "temp" and not element else element
    return Quantity(name + end, family, f"Hardware monitor for {help_.format(of)}", factor, divisor)
