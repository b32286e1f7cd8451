"""This file reads what this machine asks of NFS servers: /proc/net/rpc/nfs (fs/nfs, net/sunrpc/stats.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import read
from agent.collect.host.rpcstats import V2, V3, Metric, Reading, parse, procedures, single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

V4: Final = (
    *("Null", "Read", "Write", "Commit", "Open", "OpenConfirm", "OpenNoattr", "OpenDowngrade", "Close", "Setattr"),
    *("FsInfo", "Renew", "SetClientID", "SetClientIDConfirm", "Lock", "Lockt", "Locku", "Access", "Getattr"),
    *("Lookup", "LookupRoot", "Remove", "Rename", "Link", "Symlink", "Create", "Pathconf", "StatFs", "ReadLink"),
    *("ReadDir", "ServerCaps", "DelegReturn", "GetACL", "SetACL", "FsLocations", "ReleaseLockowner", "Secinfo"),
    *("FsidPresent", "ExchangeID", "CreateSession", "DestroySession", "Sequence", "GetLeaseTime", "ReclaimComplete"),
    *("LayoutGet", "GetDeviceInfo", "LayoutCommit", "LayoutReturn", "SecinfoNoName", "TestStateID", "FreeStateID"),
    *("GetDeviceList", "BindConnToSession", "DestroyClientID", "Seek", "Allocate", "DeAllocate", "LayoutStats"),
    *("Clone",),
)
"""Operations of NFS 4 in the order of the kernel's client (include/linux/nfs4.h); it grows at its end."""

SIZES: Final = {"net": 4, "rpc": 3, "proc2": len(V2), "proc3": len(V3), "proc4": len(V4)}

METRICS: Final = (
    Metric(
        "node_nfs_packets_total",
        "counter",
        "Total NFSd network packets (sent+received) by protocol type.",
        Reading((("protocol", "udp"),), "net", 1),
        Reading((("protocol", "tcp"),), "net", 2),
    ),
    Metric("node_nfs_connections_total", "counter", "Total number of NFSd TCP connections.", single("net", 3)),
    Metric("node_nfs_rpcs_total", "counter", "Total number of RPCs performed.", single("rpc", 0)),
    Metric(
        "node_nfs_rpc_retransmissions_total",
        "counter",
        "Number of RPC transmissions performed.",
        single("rpc", 1),
    ),
    Metric(
        "node_nfs_rpc_authentication_refreshes_total",
        "counter",
        "Number of RPC authentication refreshes performed.",
        single("rpc", 2),
    ),
    Metric(
        "node_nfs_requests_total",
        "counter",
        "Number of NFS procedures invoked.",
        *procedures("proc2", "2", V2),
        *procedures("proc3", "3", V3),
        *procedures("proc4", "4", V4),
    ),
)


class Nfs:
    """Raises NoData where the kernel is no client, ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/net/rpc/nfs"

    def collect(self) -> Iterable[Family]:
        """Counters since the kernel became a client."""
        lines = parse(read(self._path), SIZES, grown=("proc4",))
        return [metric.family(lines) for metric in METRICS]


COLLECTOR: Final = Nfs
