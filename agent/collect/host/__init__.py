"""This folder reads the machine, one file per subject, under node_exporter's names. The dict is the catalogue.

A subject whose ``needs`` does not exist on this machine is not even imported.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Subject(NamedTuple):
    """A module whose ``COLLECTOR`` is called with a Machine and gives an agent.contract.Collector.

    ``needs`` is a path below /proc (``proc/…``) or /sys (``sys/…``) without which it has nothing to say; empty where
    it always has. ``reads_disks`` marks one that a dead disk or server may block: it goes last. ``empty_is_success``
    marks one of which node_exporter says that it succeeded also on a machine that has nothing of the kind.
    """

    module: str
    needs: str = ""
    reads_disks: bool = False
    empty_is_success: bool = False


SUBJECTS: Final[dict[str, Subject]] = {
    "cpufreq": Subject("agent.collect.host.cpufreq", "sys/devices/system/cpu/cpufreq", empty_is_success=True),
    "dmi": Subject("agent.collect.host.dmi", "sys/class/dmi/id"),
    "edac": Subject("agent.collect.host.edac", "sys/devices/system/edac/mc", empty_is_success=True),
    "loadavg": Subject("agent.collect.host.loadavg", "proc/loadavg"),
    "netclass": Subject("agent.collect.host.netclass", "sys/class/net"),
    "nvme": Subject("agent.collect.host.nvme", "sys/class/nvme"),
    "thermal_zone": Subject("agent.collect.host.thermal_zone", "sys/class/thermal", empty_is_success=True),
}
"""Subjects by node_exporter's name of the collector."""
