"""This file reads what this machine's own NFS server does: /proc/net/rpc/nfsd (fs/nfsd/stats.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import read
from agent.collect.host.rpcstats import V2, V3, Metric, Reading, parse, procedures, single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

OPS: Final = (
    *("Op0Unused", "Op1Unused", "Op2Future", "Access", "Close", "Commit", "Create", "DelegPurge", "DelegReturn"),
    *("GetAttr", "GetFH", "Link", "Lock", "Lockt", "Locku", "Lookup", "LookupRoot", "Nverify", "Open", "OpenAttr"),
    *("OpenConfirm", "OpenDgrd", "PutFH", "PutPubFH", "PutRootFH", "Read", "ReadDir", "ReadLink", "Remove", "Rename"),
    *("Renew", "RestoreFH", "SaveFH", "SecInfo", "SetAttr", "Verify", "Write", "RelLockOwner"),
)
"""Operations of NFS 4.0 in the order of their numbers (RFC 7530); the kernel tells later ones behind them."""

UNUSED: Final = ("Null", "Op0Unused", "Op1Unused", "Op2Future", "PutPubFH", "PutRootFH")
"""What node_exporter leaves out."""

SIZES: Final = {
    "rc": 3,
    "fh": 5,
    "io": 2,
    "th": 2,
    "ra": 12,
    "net": 4,
    "rpc": 5,
    "proc2": len(V2),
    "proc3": len(V3),
    "proc4ops": len(OPS),
}

METRICS: Final = (
    Metric(
        "node_nfsd_reply_cache_hits_total",
        "counter",
        "Total number of NFSd Reply Cache hits (client lost server response).",
        single("rc", 0),
    ),
    Metric(
        "node_nfsd_reply_cache_misses_total",
        "counter",
        "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
        single("rc", 1),
    ),
    Metric(
        "node_nfsd_reply_cache_nocache_total",
        "counter",
        "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
        single("rc", 2),
    ),
    Metric("node_nfsd_file_handles_stale_total", "counter", "Total number of NFSd stale file handles", single("fh", 0)),
    Metric("node_nfsd_disk_bytes_read_total", "counter", "Total NFSd bytes read.", single("io", 0)),
    Metric("node_nfsd_disk_bytes_written_total", "counter", "Total NFSd bytes written.", single("io", 1)),
    Metric(
        "node_nfsd_server_threads", "gauge", "Total number of NFSd kernel threads that are running.", single("th", 0)
    ),
    Metric(
        "node_nfsd_read_ahead_cache_size_blocks",
        "gauge",
        "How large the read ahead cache is in blocks.",
        single("ra", 0),
    ),
    Metric(
        "node_nfsd_read_ahead_cache_not_found_total",
        "counter",
        "Total number of NFSd read ahead cache not found.",
        single("ra", 11),
    ),
    Metric("node_nfsd_connections_total", "counter", "Total number of NFSd TCP connections.", single("net", 3)),
    Metric("node_nfsd_server_rpcs_total", "counter", "Total number of NFSd RPCs.", single("rpc", 0)),
    Metric(
        "node_nfsd_packets_total",
        "counter",
        "Total NFSd network packets (sent+received) by protocol type.",
        Reading((("proto", "udp"),), "net", 1),
        Reading((("proto", "tcp"),), "net", 2),
    ),
    Metric(
        "node_nfsd_rpc_errors_total",
        "counter",
        "Total number of NFSd RPC errors by error type.",
        Reading((("error", "fmt"),), "rpc", 2),
        Reading((("error", "auth"),), "rpc", 3),
        Reading((("error", "cInt"),), "rpc", 4),
    ),
    Metric(
        "node_nfsd_requests_total",
        "counter",
        "Total number NFSd Requests by method and protocol.",
        *procedures("proc2", "2", V2, UNUSED),
        *procedures("proc3", "3", V3, UNUSED),
        *procedures("proc4ops", "4", OPS, UNUSED),
    ),
)


class Nfsd:
    """Raises NoData where the kernel serves no NFS, ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/net/rpc/nfsd"

    def collect(self) -> Iterable[Family]:
        """Counters since the server began, and its threads."""
        lines = parse(read(self._path), SIZES)
        return [metric.family(lines) for metric in METRICS]


COLLECTOR: Final = Nfsd
