"""This file reads what the processors are: how often they were too hot, which are set apart, and their model.

Source: Linux, Documentation/ABI/testing/sysfs-devices-system-cpu and Documentation/admin-guide/cputopology.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import attribute, entries, number
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.batch import Family

CORE_THROTTLES: Final = Metric(
    "node_cpu_core_throttles_total", "counter", "Number of times this CPU core has been throttled."
)
PACKAGE_THROTTLES: Final = Metric(
    "node_cpu_package_throttles_total", "counter", "Number of times this CPU package has been throttled."
)
ISOLATED: Final = Metric(
    "node_cpu_isolated", "gauge", "Whether each core is isolated, information from /sys/devices/system/cpu/isolated."
)
INFO: Final = Metric("node_cpu_info", "gauge", "CPU information from /proc/cpuinfo.")
INFO_LABELS: Final = {
    "package": "physical id",
    "core": "core id",
    "cpu": "processor",
    "vendor": "vendor_id",
    "family": "cpu family",
    "model": "model",
    "model_name": "model name",
    "microcode": "microcode",
    "stepping": "stepping",
    "cachesize": "cache size",
}
"""Label: the name of the line in /proc/cpuinfo. Other architectures than x86 have few of them."""


class Throttles:
    """How often each core and package was slowed down because of heat; x86 alone counts that.

    Which processor stands for which core is looked up once, and again after ``forget``.
    """

    def __init__(self, sys: str) -> None:
        self._folder = f"{sys}/devices/system/cpu"
        self._files: list[tuple[tuple[str, ...], str]] | None = None
        self._cores = Table(("package", "core"), CORE_THROTTLES)
        self._packages = Table(("package",), PACKAGE_THROTTLES)

    def forget(self) -> None:
        """Looks at the processors again the next time: one came or went."""
        self._files = None

    def families(self) -> Iterable[Family]:
        if self._files is None:
            self._files = list(self._find())
        if not self._files:
            return ()
        counted: dict[tuple[str, ...], tuple[float]] = {
            row: (value,) for row, path in self._files if (value := number(path)) is not None
        }
        cores = dict(item for item in counted.items() if len(item[0]) == 2)
        packages = dict(item for item in counted.items() if len(item[0]) == 1)
        return self._packages.families(packages) + self._cores.families(cores)

    def _find(self) -> Iterator[tuple[tuple[str, ...], str]]:
        found: set[tuple[str, ...]] = set()
        for cpu in self._processors():
            folder = f"{self._folder}/{cpu}"
            package, core = number(f"{folder}/topology/physical_package_id"), number(f"{folder}/topology/core_id")
            if package is None or core is None or package < 0:
                continue
            for row, file in (((f"{package:.0f}", f"{core:.0f}"), "core"), ((f"{package:.0f}",), "package")):
                path = f"{folder}/thermal_throttle/{file}_throttle_count"
                if row not in found and number(path) is not None:
                    found.add(row)
                    yield row, path

    def _processors(self) -> list[str]:
        try:
            return [name for name in entries(self._folder) if name.startswith("cpu") and name[3:4].isdigit()]
        except NoData:
            return []


class Isolated:
    """The processors that the kernel was told at boot to leave alone; read once."""

    def __init__(self, sys: str) -> None:
        self._path = f"{sys}/devices/system/cpu/isolated"
        self._families: list[Family] | None = None

    def families(self) -> list[Family]:
        if self._families is None:
            cpus = parse_list(attribute(self._path) or "")
            self._families = Table(("cpu",), ISOLATED).families({(cpu,): (1.0,) for cpu in cpus})
        return self._families


def parse_list(text: str) -> list[str]:
    """The numbers of ``2-4,7`` (the kernel's "cpulist"); what is none is left out."""
    cpus: list[str] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isascii() and first.isdigit() and (last or first).isascii() and (last or first).isdigit():
            cpus += map(str, range(int(first), min(int(last or first), int(first) + MOST_PROCESSORS) + 1))
    return cpus


MOST_PROCESSORS: Final = 8192
"""The most processors Linux can be built for."""


def cpu_info(data: bytes) -> list[Family]:
    """A series for each processor of /proc/cpuinfo, always 1, with what it is as labels."""
    rows = {tuple(cpu.get(line, "") for line in INFO_LABELS.values()): (1.0,) for cpu in parse_info(data)}
    return Table(tuple(INFO_LABELS), INFO).families(rows)


def parse_info(data: bytes) -> list[dict[str, str]]:
    """The lines ``name : value`` of each processor; a processor begins with the line ``processor``."""
    cpus: list[dict[str, str]] = []
    for line in data.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        name = name.strip()
        if name == "processor":
            cpus.append({})
        if colon and cpus:
            cpus[-1].setdefault(name, value.strip())
    return cpus
