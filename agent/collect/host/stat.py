"""This file reads how busy the kernel is: interrupts, context switches, forks and queues of /proc/stat (proc(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import Fields
from agent.collect.host.kernelfile import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.batch import Family, Kind
    from agent.collect.host.machine import Machine

METRICS: Final[Mapping[bytes, tuple[str, Kind, str]]] = {
    b"intr": ("node_intr_total", "counter", "Total number of interrupts serviced."),
    b"ctxt": ("node_context_switches_total", "counter", "Total number of context switches."),
    b"processes": ("node_forks_total", "counter", "Total number of forks."),
    b"btime": ("node_boot_time_seconds", "gauge", "Node boot time, in unixtime."),
    b"procs_running": ("node_procs_running", "gauge", "Number of processes in runnable state."),
    b"procs_blocked": ("node_procs_blocked", "gauge", "Number of processes blocked waiting for I/O to complete."),
}


class Stat:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/stat"
        self._fields = Fields("stat", METRICS.get)

    def collect(self) -> Iterable[Family]:
        """What the machine as a whole counts; its processors are another subject."""
        return self._fields.families(parse(read(self._path)))


def parse(data: bytes) -> dict[bytes, bytes | float]:
    """The first number as text by the name of its line. Raises ValueError where no line is one that is known."""
    begins = max(data.find(b"\nintr "), 0)  # above it stand the processors, in hundreds of lines on some machines
    fields: dict[bytes, bytes | float] = {}
    for line in data[begins:].split(b"\n"):
        words = line.split(None, 2)
        if len(words) > 1 and words[0] in METRICS:
            fields[words[0]] = words[1]
    if not fields:
        raise ValueError("stat has none of the lines " + ", ".join(name.decode() for name in METRICS))
    return fields


COLLECTOR: Final = Stat
