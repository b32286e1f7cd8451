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
    "arp": Subject("agent.collect.host.arp", "proc/net/arp"),
    "bcache": Subject("agent.collect.host.bcache", "sys/fs/bcache", empty_is_success=True),
    "bonding": Subject("agent.collect.host.bonding", "sys/class/net/bonding_masters"),
    "btrfs": Subject("agent.collect.host.btrfs", "sys/fs/btrfs", reads_disks=True, empty_is_success=True),
    "conntrack": Subject("agent.collect.host.conntrack", "proc/sys/net/netfilter/nf_conntrack_count"),
    "cpu": Subject("agent.collect.host.cpu", "proc/stat"),
    "cpufreq": Subject("agent.collect.host.cpufreq", "sys/devices/system/cpu/cpu0/cpufreq", empty_is_success=True),
    "diskstats": Subject("agent.collect.host.diskstats", "proc/diskstats"),
    "dmi": Subject("agent.collect.host.dmi", "sys/class/dmi/id"),
    "edac": Subject("agent.collect.host.edac", "sys/devices/system/edac/mc", empty_is_success=True),
    "entropy": Subject("agent.collect.host.entropy", "proc/sys/kernel/random"),
    "fibrechannel": Subject("agent.collect.host.fibrechannel", "sys/class/fc_host"),
    "filefd": Subject("agent.collect.host.filefd", "proc/sys/fs/file-nr"),
    "filesystem": Subject("agent.collect.host.filesystem", "proc/mounts", reads_disks=True),
    "hwmon": Subject("agent.collect.host.hwmon", "sys/class/hwmon"),
    "infiniband": Subject("agent.collect.host.infiniband", "sys/class/infiniband"),
    "ipvs": Subject("agent.collect.host.ipvs", "proc/net/ip_vs_stats"),
    "loadavg": Subject("agent.collect.host.loadavg", "proc/loadavg"),
    "mdadm": Subject("agent.collect.host.mdadm", "proc/mdstat"),
    "meminfo": Subject("agent.collect.host.meminfo", "proc/meminfo"),
    "netclass": Subject("agent.collect.host.netclass", "sys/class/net"),
    "netdev": Subject("agent.collect.host.netdev", "proc/net/dev"),
    "netstat": Subject("agent.collect.host.netstat", "proc/net/netstat"),
    "nfs": Subject("agent.collect.host.nfs", "proc/net/rpc/nfs"),
    "nfsd": Subject("agent.collect.host.nfsd", "proc/net/rpc/nfsd"),
    "nvme": Subject("agent.collect.host.nvme", "sys/class/nvme"),
    "os": Subject("agent.collect.host.os"),
    "powersupplyclass": Subject("agent.collect.host.powersupplyclass", "sys/class/power_supply"),
    "pressure": Subject("agent.collect.host.pressure", "proc/pressure"),
    "rapl": Subject("agent.collect.host.rapl", "sys/class/powercap"),
    "schedstat": Subject("agent.collect.host.schedstat", "proc/schedstat"),
    "selinux": Subject("agent.collect.host.selinux"),
    "sockstat": Subject("agent.collect.host.sockstat", "proc/net/sockstat", empty_is_success=True),
    "softnet": Subject("agent.collect.host.softnet", "proc/net/softnet_stat"),
    "stat": Subject("agent.collect.host.stat", "proc/stat"),
    "tapestats": Subject("agent.collect.host.tapestats", "sys/class/scsi_tape"),
    "thermal_zone": Subject("agent.collect.host.thermal_zone", "sys/class/thermal", empty_is_success=True),
    "time": Subject("agent.collect.host.time"),
    "timex": Subject("agent.collect.host.timex"),
    "udp_queues": Subject("agent.collect.host.udp_queues", "proc/net/udp"),
    "uname": Subject("agent.collect.host.uname"),
    "vmstat": Subject("agent.collect.host.vmstat", "proc/vmstat"),
    "xfs": Subject("agent.collect.host.xfs", "sys/fs/xfs", empty_is_success=True),
    "zfs": Subject("agent.collect.host.zfs", "proc/spl/kstat/zfs"),
}
"""Subjects by node_exporter's name of the collector."""
