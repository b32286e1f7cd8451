"""This file reads what each processor did with received packets: /proc/net/softnet_stat.

Source: Linux, net/core/net-procfs.c. Each line is a processor, each column a hexadecimal number: packets processed,
dropped, times the budget ran out, … and since 5.10 in the thirteenth the processor's number, before that it is the
line's. A processor that is off has no line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import hexadecimal
from agent.collect.host.kernelfile import read
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

FEWEST_COLUMNS: Final = 9
CPU_COLUMN: Final = 12
METRICS: Final = (
    Metric("node_softnet_processed_total", "counter", "Number of processed packets"),
    Metric("node_softnet_dropped_total", "counter", "Number of dropped packets"),
    Metric("node_softnet_times_squeezed_total", "counter", "Number of times processing packets ran out of quota"),
)


class Softnet:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/net/softnet_stat"
        self._table = Table(("cpu",), *METRICS)

    def collect(self) -> Iterable[Family]:
        """Counters for each processor, in packets and in times."""
        return self._table.families(parse(read(self._path)))


def parse(data: bytes) -> dict[tuple[str, ...], list[float]]:
    """Processed, dropped and squeezed by the processor's number. Raises ValueError on a line of another form."""
    rows: dict[tuple[str, ...], list[float]] = {}
    for line, text in enumerate(data.splitlines()):
        columns = text.split()
        if len(columns) < FEWEST_COLUMNS:
            raise ValueError(f"softnet_stat: line {line + 1} has {len(columns)} columns; {FEWEST_COLUMNS} are needed")
        place = f"softnet_stat: line {line + 1}"
        cpu = hexadecimal(columns[CPU_COLUMN : CPU_COLUMN + 1], place) or (line,)
        rows[(f"{cpu[0]:.0f}",)] = hexadecimal(columns[:3], place)
    return rows


COLLECTOR: Final = Softnet
