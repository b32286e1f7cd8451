"""This file reads the energy that CPUs and memory have used: /sys/class/powercap (Documentation/power/powercap).

::

    intel-rapl:0    package-0  ─┐ zones of one name are told apart by an index: the number in their name,
    intel-rapl:0:0  core        │ or else how many of that name came before
    intel-rapl:1    package-1  ─┘
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.batch import Family
from agent.collect.host.attributes import attributes, number, text
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.collect.host.machine import Machine

_INDEXED: Final = re.compile(r"([^-]*)-(\d{1,9})")
_NO_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")


class Rapl:
    """Raises NoData on a machine without the class, and where only root may read it."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/class/powercap"
        self._series: dict[tuple[str, int, str], bytes] = {}

    def collect(self) -> Iterable[Family]:
        """A counter for each kind of zone, in joules."""
        refused = False
        seen: dict[str, int] = {}
        joules: dict[str, tuple[list[bytes], list[float]]] = {}
        for zone in entries(self._directory):
            path = f"{self._directory}/{zone}"
            try:
                label, microjoules = attributes(path, ("name", "energy_uj"))
            except NoData:  # gone since it was listed
                continue
            if label is None:
                continue
            name, index = _named(text(label), seen)
            seen[name] = index + 1
            if (value := number(microjoules)) is None:
                refused = True
                continue
            names, values = joules.setdefault(name, ([], []))
            names.append(self._series_of(name, index, path))
            values.append(value / 1e6)
        if refused and not joules:
            raise NoData(f"{self._directory} tells energy to root only")
        return [_family(name, names, values) for name, (names, values) in joules.items()]

    def _series_of(self, name: str, index: int, path: str) -> bytes:
        key = (name, index, path)
        if key not in self._series:
            self._series[key] = series(_metric(name), (("index", str(index)), ("path", path)))
        return self._series[key]


def _named(label: str, seen: dict[str, int]) -> tuple[str, int]:
    """Name and index of a zone: ``package-1`` is package, 1; the second ``dram`` is dram, 1."""
    indexed = _INDEXED.fullmatch(label)
    return (indexed[1], int(indexed[2])) if indexed else (label, seen.get(label, 0))


def _metric(name: str) -> str:
    return f"node_rapl_{_NO_NAME.sub('_', name)}_joules_total"


def _family(name: str, names: list[bytes], values: list[float]) -> Family:
    return Family(_metric(name), "counter", f"Current RAPL {name} value in joules", names, values)


COLLECTOR: Final = Rapl
