"""This file reads how the processors spend their time: /proc/stat (proc(5)), in hundredths of a second.

::

    cpu0 81346 12 42893 1903846 5912 0 1034 211 0 0
         user nice system idle iowait irq softirq steal guest guest_nice; old kernels have fewer
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from agent.batch import Family
from agent.collect.host.cpu_topology import Isolated, Throttles, cpu_info
from agent.collect.host.figures import numbers
from agent.collect.host.kernelfile import read
from agent.wire.series import Metric, series

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.collect.host.machine import Machine

TICKS_PER_SECOND: Final = 100.0
"""USER_HZ; the kernel shows hundredths whatever its own tick."""
MODES: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
GUEST_MODES: Final = ("user", "nice")
IDLE: Final = MODES.index("idle")
JUMP_SECONDS: Final = 3.0
"""A processor whose idle time fell by this much was taken out and put back: it counts from zero again."""

SECONDS: Final = Metric("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode.")
GUEST_SECONDS: Final = Metric(
    "node_cpu_guest_seconds_total", "counter", "Seconds the CPUs spent in guests (VMs) for each mode."
)

Layout = tuple[tuple[str, int], ...]
"""Each processor and how many columns it has."""


class Cpu:
    """Raises ValueError on a file of another form.

    The kernel's idle, iowait and steal times step back a little now and then; a counter here never does.
    """

    def __init__(self, machine: Machine) -> None:
        self._proc = machine.proc
        self._info = machine.options.cpu_info
        self._seen: dict[str, list[float]] = {}
        self._layout: Layout = ()
        self._names: tuple[tuple[bytes, ...], tuple[bytes, ...]] = ((), ())
        self._throttles = Throttles(machine.sys)
        self._isolated = Isolated(machine.sys)

    def collect(self) -> Iterable[Family]:
        """Counters in seconds for each processor and mode, and how often it was too hot to run on."""
        self._seen = rows = forward(self._seen, parse(read(f"{self._proc}/stat")))
        layout = tuple((cpu, len(row)) for cpu, row in rows.items())
        if layout != self._layout:
            self._layout, self._names = layout, _names(layout)
            self._throttles.forget()
        names, guests = self._names
        yield _family(SECONDS, names, [row[: len(MODES)] for row in rows.values()])
        if guests:
            yield _family(GUEST_SECONDS, guests, [row[len(MODES) :] for row in rows.values()])
        yield from self._throttles.families()
        yield from self._isolated.families()
        if self._info:
            yield from cpu_info(read(f"{self._proc}/cpuinfo"))


def _family(metric: Metric, names: tuple[bytes, ...], rows: list[list[float]]) -> Family:
    return Family(metric.name, metric.kind, metric.help, names, list(chain.from_iterable(rows)))


def _names(layout: Layout) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    def of(name: str, modes: tuple[str, ...], before: int) -> tuple[bytes, ...]:
        return tuple(
            series(name, (("cpu", cpu), ("mode", mode)))
            for cpu, columns in layout
            for mode in modes[: max(columns - before, 0)]
        )

    return of(SECONDS.name, MODES, 0), of(GUEST_SECONDS.name, GUEST_MODES, len(MODES))


def forward(before: Mapping[str, list[float]], now: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """``now``, with what fell a little left as it was ``before``; a processor that began anew is taken as it is."""
    return {
        cpu: list(map(max, old, row)) if (old := before.get(cpu)) and _goes_on(old, row) else row
        for cpu, row in now.items()
    }


def _goes_on(old: list[float], row: list[float]) -> bool:
    return len(old) == len(row) and (len(row) <= IDLE or old[IDLE] - row[IDLE] < JUMP_SECONDS)


def parse(data: bytes) -> dict[str, list[float]]:
    """Seconds in the order of the modes, by processor. Raises ValueError where there is no line of one."""
    ends = data.find(b"\nintr ")  # below it follow as many numbers as the machine has interrupts
    rows: dict[str, list[float]] = {}
    for line in data[: ends if ends >= 0 else None].split(b"\n"):
        if line.startswith(b"cpu") and not line.startswith(b"cpu "):
            name, *columns = line.split()
            cpu = name[3:].decode("utf-8", "replace")
            ticks = numbers(columns[: len(MODES) + len(GUEST_MODES)], f"stat: cpu{cpu}")
            rows[cpu] = [tick / TICKS_PER_SECOND for tick in ticks]
    if not rows:
        raise ValueError("stat has no line of a processor, such as cpu0")
    return rows


COLLECTOR: Final = Cpu
