"""This file reads how full the table of tracked connections is, and what happened to packets in it.

Source: Linux, Documentation/networking/nf_conntrack-sysctl.rst and net/netfilter/nf_conntrack_standalone.c;
/proc/net/stat/nf_conntrack has a heading and a line of hexadecimal numbers for each processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import hexadecimal, number
from agent.collect.host.kernelfile import read
from agent.errors import NoData
from agent.wire.series import single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

SIZES: Final = (
    ("nf_conntrack_count", "node_nf_conntrack_entries"),
    ("nf_conntrack_max", "node_nf_conntrack_entries_limit"),
)
HELP: Final = {
    "node_nf_conntrack_entries": "Number of currently allocated flow entries for connection tracking.",
    "node_nf_conntrack_entries_limit": "Maximum size of connection tracking table.",
    "node_nf_conntrack_stat_found": "Number of searched entries which were successful.",
    "node_nf_conntrack_stat_invalid": "Number of packets seen which can not be tracked.",
    "node_nf_conntrack_stat_ignore": "Number of packets seen which are already connected to a conntrack entry.",
    "node_nf_conntrack_stat_insert": "Number of entries inserted into the list.",
    "node_nf_conntrack_stat_insert_failed": "Number of entries for which list insertion was attempted but failed.",
    "node_nf_conntrack_stat_drop": "Number of packets dropped due to conntrack failure.",
    "node_nf_conntrack_stat_early_drop": (
        "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached."
    ),
    "node_nf_conntrack_stat_search_restart": (
        "Number of conntrack table lookups which had to be restarted due to hashtable resizes."
    ),
}


class Conntrack:
    """Raises NoData where connections are not tracked, ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._sizes = f"{machine.proc}/sys/net/netfilter"
        self._statistics = f"{machine.proc}/net/stat/nf_conntrack"

    def collect(self) -> Iterable[Family]:
        """Gauges, as node_exporter has them: entries, their limit, and what was counted over all processors."""
        values = {name: number(read(f"{self._sizes}/{file}"), file) for file, name in SIZES}
        try:
            counted = parse(read(self._statistics))
        except (NoData, PermissionError):  # a kernel without CONFIG_NF_CONNTRACK_PROCFS, or one that hides it
            counted = {}
        values |= {f"node_nf_conntrack_stat_{name}": value for name, value in counted.items()}
        return [single(name, "gauge", text, values[name]) for name, text in HELP.items() if name in values]


def parse(data: bytes) -> dict[str, float]:
    """Sums over the processors by the heading's names. Raises ValueError on a line of another form."""
    heading, *lines = data.decode("utf-8", "replace").splitlines() or [""]
    names = heading.split()
    rows = [hexadecimal([word.encode() for word in line.split()], "nf_conntrack") for line in lines]
    if not names or any(len(row) > len(names) for row in rows):
        raise ValueError(f"nf_conntrack has {len(names)} names and lines of more numbers, or none at all")
    return dict(zip(names, map(sum, zip(*rows, strict=False)), strict=False))


COLLECTOR: Final = Conntrack
