"""This file reads how long tasks ran and waited on each processor: /proc/schedstat.

Source: Linux, Documentation/scheduler/sched-stats.rst. ``cpuN`` and nine numbers, of which the last three are the time
tasks ran and waited, in nanoseconds, and the number of timeslices; more may follow in later versions of the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import numbers
from agent.collect.host.kernelfile import read
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

NANOSECONDS: Final = 1e9
METRICS: Final = (
    Metric("node_schedstat_running_seconds_total", "counter", "Number of seconds CPU spent running a process."),
    Metric(
        "node_schedstat_waiting_seconds_total", "counter", "Number of seconds spent by processing waiting for this CPU."
    ),
    Metric("node_schedstat_timeslices_total", "counter", "Number of timeslices executed by CPU."),
)


class Schedstat:
    """Raises NoData where the kernel does not measure it, ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/schedstat"
        self._table = Table(("cpu",), *METRICS)

    def collect(self) -> Iterable[Family]:
        """Counters for each processor, in seconds and in timeslices."""
        return self._table.families(parse(read(self._path)))


def parse(data: bytes) -> dict[tuple[str, ...], tuple[float, float, float]]:
    """Seconds run, seconds waited and timeslices by processor. Raises ValueError on a line of another form."""
    rows: dict[tuple[str, ...], tuple[float, float, float]] = {}
    for line in data.splitlines():
        if not line.startswith(b"cpu"):
            continue
        cpu, *columns = line.split()
        name = cpu[3:].decode("utf-8", "replace")
        if len(columns) < 9:
            raise ValueError(f"schedstat: cpu{name} has {len(columns)} columns; 9 are needed")
        ran, waited, timeslices = numbers(columns[6:9], f"schedstat: cpu{name}")
        rows[(name,)] = (ran / NANOSECONDS, waited / NANOSECONDS, timeslices)
    return rows


COLLECTOR: Final = Schedstat
