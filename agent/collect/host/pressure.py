"""This file reads how long tasks waited for processors, disks and memory: /proc/pressure.

Source: Linux, Documentation/accounting/psi.rst. ``some avg10=0.00 avg60=0.00 avg300=0.00 total=815``, in microseconds.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import number
from agent.collect.host.kernelfile import read
from agent.errors import NoData
from agent.wire.series import single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

METRICS: Final = {
    "cpu": {b"some": ("node_pressure_cpu_waiting_seconds_total", "that processes have waited for CPU time")},
    "io": {
        b"some": ("node_pressure_io_waiting_seconds_total", "that processes have waited due to IO congestion"),
        b"full": ("node_pressure_io_stalled_seconds_total", "no process could make progress due to IO congestion"),
    },
    "memory": {
        b"some": ("node_pressure_memory_waiting_seconds_total", "that processes have waited for memory"),
        b"full": (
            "node_pressure_memory_stalled_seconds_total",
            "no process could make progress due to memory congestion",
        ),
    },
}
"""By resource, then by the first word of the line: name, and how its help goes on."""


class Pressure:
    """Raises NoData where the kernel does not measure it, ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._folder = f"{machine.proc}/pressure"

    def collect(self) -> Iterable[Family]:
        """Counters, in seconds."""
        families = []
        for resource, metrics in METRICS.items():
            seconds = parse(self._read(resource), resource)
            families += [
                single(name, "counter", f"Total time in seconds {text}", seconds[line])
                for line, (name, text) in metrics.items()
                if line in seconds
            ]
        return families

    def _read(self, resource: str) -> bytes:
        try:
            return read(f"{self._folder}/{resource}")
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # built into the kernel, and not switched on: psi=1
                raise NoData(f"{self._folder} is switched off") from None
            raise


def parse(data: bytes, resource: str = "pressure") -> dict[bytes, float]:
    """Seconds by the first word of each line. Raises ValueError on a line without a total."""
    seconds: dict[bytes, float] = {}
    for line in data.splitlines():
        kind, _, rest = line.partition(b" ")
        total = rest.partition(b"total=")[2]
        # divided twice, as node_exporter does: the last digit of the two ways differs
        seconds[kind] = number(total, f"pressure/{resource}: total") / 1000.0 / 1000.0
    return seconds


COLLECTOR: Final = Pressure
