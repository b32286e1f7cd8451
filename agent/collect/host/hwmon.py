"""This file reads the sensors of mainboards, CPUs and disks: /sys/class/hwmon (hwmon/sysfs-interface.rst).

What a chip has is found out once, and again when its directories have other sensors; then only numbers are read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.collect.host.attributes import MOST_BYTES, attributes, text
from agent.collect.host.gathered import Gathered
from agent.collect.host.hwmon_names import Place, Quantity, clean, place, quantity
from agent.collect.host.kernelfile import entries, read
from agent.errors import NoData
from agent.wire.series import series

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.batch import Family
    from agent.collect.host.machine import Machine

_OWN, _DEVICE = "", "/device"
"""A chip's sensors are in its own directory; those of old drivers are in its device's."""

CHIP_NAMES: Final = ("node_hwmon_chip_names", "Annotation metric for human-readable chip names")
SENSOR_LABEL: Final = ("node_hwmon_sensor_label", "Label for given chip and sensor")

Listing = tuple[list[str], list[str]]
"""The entries of a chip's own directory and of its device's."""

Files = dict[Place, tuple[str, str]]
"""The directory and name of the file of each place."""


class Fixed(NamedTuple):
    """A name or a label: a series that is always 1."""

    name: str
    help: str
    series: bytes


class Reading(NamedTuple):
    """What the number of a file is, and its series."""

    quantity: Quantity
    series: bytes


class Chip(NamedTuple):
    """What a chip has while its directories have these entries; ``readings`` by the file, by the directory."""

    listing: Listing
    fixed: tuple[Fixed, ...]
    readings: dict[str, dict[str, Reading]]


class Hwmon:
    """Raises NoData on a machine without the class."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/hwmon"
        self._chips: dict[str, Chip] = {}

    def collect(self) -> Iterable[Family]:
        """Volts, degrees Celsius, amperes, watts, joules, revolutions per minute; what has no unit is as it is."""
        gathered = Gathered()
        chips: dict[str, Chip] = {}
        for name in entries(self._directory):
            path = f"{self._directory}/{name}"
            try:
                target = _target(path)
                chips[target] = chip = self._chip(path, target)
                _gather(path, chip, gathered)
            except NoData:  # gone since it was listed
                continue
        self._chips = chips
        return gathered.families()

    def _chip(self, path: str, target: str) -> Chip:
        own = entries(path)
        listing = (own, entries(path + _DEVICE) if "device" in own else [])
        known = self._chips.get(target)
        return known if known is not None and known.listing == listing else _described(path, listing)


def _target(path: str) -> str:
    """Where the link leads, or the path itself where it is none: numbers are given anew, devices stay."""
    try:
        return os.readlink(path)
    except OSError:
        return path


def _gather(path: str, chip: Chip, gathered: Gathered) -> None:
    for fixed in chip.fixed:
        gathered.add(fixed.name, "gauge", fixed.help, fixed.series, 1.0)
    for directory, readings in chip.readings.items():
        held = attributes(path + directory, readings)
        for (of, labelled), data in zip(readings.values(), held, strict=True):
            try:
                value = float(data or b"")
            except ValueError:  # nothing there now, or no number
                continue
            gathered.add(of.name, of.kind, of.help, labelled, value * of.factor / of.divisor)


def _described(path: str, listing: Listing) -> Chip:
    chip = _name(path)
    files: Files = {
        found: (directory, file)
        for directory, names in zip((_OWN, _DEVICE), listing, strict=True)
        for file in names
        if (found := place(file)) is not None
    }
    readings: dict[str, dict[str, Reading]] = {}
    for found, (directory, file) in files.items():
        if found.element != "label":
            of = quantity(found.kind, found.element, has_own_value=found._replace(element="") in files)
            labelled = series(of.name, (("chip", chip), ("sensor", found.sensor)))
            readings.setdefault(directory, {})[file] = Reading(of, labelled)
    return Chip(listing, (*_names(path, chip), *_labels(path, chip, files)), readings)


def _name(path: str) -> str:
    """The chip's stable name: bus and device that it is on, else what it calls itself, else its number."""
    device = os.path.realpath(path + _DEVICE)
    if os.path.isdir(device):
        bus, name = (clean(part) for part in device.split("/")[-2:])
        if name:
            return f"{bus}_{name}" if bus else name
    return _own_name(path) or clean(os.path.basename(os.path.realpath(path)))


def _own_name(path: str) -> str:
    return clean(text(attributes(path, ("name",))[0]))


def _names(path: str, chip: str) -> Iterator[Fixed]:
    if name := _own_name(path):
        yield Fixed(*CHIP_NAMES, series(CHIP_NAMES[0], (("chip", chip), ("chip_name", name))))


def _labels(path: str, chip: str, files: Files) -> Iterator[Fixed]:
    for found, (directory, file) in files.items():
        if found.element == "label" and (label := _label(f"{path}{directory}/{file}")):
            pairs = (("chip", chip), ("label", label), ("sensor", found.sensor))
            yield Fixed(*SENSOR_LABEL, series(SENSOR_LABEL[0], pairs))


def _label(path: str) -> str:
    """A sensor's name as its driver writes it, spaces at its end included, as node_exporter has it."""
    try:
        return text(read(path)[:MOST_BYTES].strip(b"\n"))
    except (NoData, OSError):
        return ""


COLLECTOR: Final = Hwmon
