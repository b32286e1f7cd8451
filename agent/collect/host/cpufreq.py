"""This file reads the frequencies of the CPUs: /sys/devices/system/cpu/cpu*/cpufreq (Documentation/admin-guide/pm).

CPUs that change their frequency together share one directory, which is read once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import attributes, number
from agent.collect.host.kernelfile import entries
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.batch import Family
    from agent.collect.host.machine import Machine

METRICS: Final = {
    "cpuinfo_cur_freq": ("node_cpu_frequency_hertz", "Current cpu thread frequency in hertz."),
    "cpuinfo_min_freq": ("node_cpu_frequency_min_hertz", "Minimum cpu thread frequency in hertz."),
    "cpuinfo_max_freq": ("node_cpu_frequency_max_hertz", "Maximum cpu thread frequency in hertz."),
    "scaling_cur_freq": ("node_cpu_scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz."),
    "scaling_min_freq": ("node_cpu_scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz."),
    "scaling_max_freq": ("node_cpu_scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz."),
}
"""Attribute, in kHz: metric and help. ``cpuinfo_cur_freq`` is for root only and left out elsewhere."""


class Cpufreq:
    """A CPU without frequencies has no series."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/devices/system/cpu"
        self._table = Table(("cpu",), *(Metric(name, "gauge", text) for name, text in METRICS.values()))

    def collect(self) -> Iterable[Family]:
        """A row for each CPU, in hertz. No families on a machine whose CPUs have one frequency."""
        policies: dict[str, list[float | None] | None] = {}
        rows: dict[tuple[str, ...], list[float | None]] = {}
        for number_of_cpu, path in self._cpus():
            policy = _target(path)
            if policy not in policies:
                policies[policy] = _hertz(path)
            if (values := policies[policy]) is not None:
                rows[(number_of_cpu,)] = values
        return self._table.families(rows)

    def _cpus(self) -> Iterator[tuple[str, str]]:
        try:
            names = entries(self._directory)
        except NoData:
            return
        for name in names:
            if name.startswith("cpu") and name[3:].isdigit():
                yield name[3:], f"{self._directory}/{name}/cpufreq"


def _target(path: str) -> str:
    """Where the link leads, or the path itself where it is none, as on kernels that do not share directories."""
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return path


def _hertz(path: str) -> list[float | None] | None:
    try:
        kilohertz = map(number, attributes(path, METRICS))
    except NoData:
        return None
    return [None if value is None else value * 1000.0 for value in kilohertz]


COLLECTOR: Final = Cpufreq
