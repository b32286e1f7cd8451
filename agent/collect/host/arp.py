"""This file reads how many neighbours each network device knows: /proc/net/arp (proc(5))."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import read
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

ENTRIES: Final = Metric("node_arp_entries", "gauge", "ARP entries by device")


class Arp:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/net/arp"
        self._table = Table(("device",), ENTRIES)

    def collect(self) -> Iterable[Family]:
        """Entries by device, incomplete ones included."""
        return self._table.families(parse(read(self._path)))


def parse(data: bytes) -> dict[tuple[str, ...], tuple[float]]:
    """Entries by device. Raises ValueError where the first line is not the heading."""
    heading, _, entries = data.partition(b"\n")
    if not heading.startswith(b"IP address"):
        raise ValueError(f'arp begins with "{heading[:40].decode("utf-8", "replace")}"; "IP address" is expected')
    devices = Counter(line.rsplit(None, 1)[-1] for line in entries.splitlines() if line.strip())
    return {(device.decode("utf-8", "replace"),): (float(count),) for device, count in devices.items()}


COLLECTOR: Final = Arp
