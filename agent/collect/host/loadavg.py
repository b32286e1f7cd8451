"""This file reads how many tasks want to run, averaged over 1, 5 and 15 minutes: /proc/loadavg (proc(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import read
from agent.wire.series import single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

NAMES: Final = (
    ("node_load1", "1m load average."),
    ("node_load5", "5m load average."),
    ("node_load15", "15m load average."),
)


class Loadavg:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/loadavg"

    def collect(self) -> Iterable[Family]:
        """Three gauges, in tasks."""
        averages = parse(read(self._path))
        return [single(name, "gauge", text, value) for (name, text), value in zip(NAMES, averages, strict=True)]


def parse(data: bytes) -> list[float]:
    """The three averages of ``0.12 0.08 0.05 1/345 6789``. Raises ValueError on anything else."""
    fields = data.split()
    if len(fields) < 3:
        raise ValueError(f"loadavg has {len(fields)} fields; 3 are needed")
    return [float(field) for field in fields[:3]]


COLLECTOR: Final = Loadavg
