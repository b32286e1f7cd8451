"""This file reads the kernel's load balancer: /proc/net/ip_vs_stats and ip_vs (Documentation/networking/ipvs-sysctl).

::

    TCP  C0A80016:0CEA wlc
      -> C0A85216:0CEA      Tunnel  100    248        2          weight, active, inactive connections
    FWM  10001000 wlc
      -> [2620:0000:0000:0000:0000:0000:0000:0001]:0050 Route 1 0 0
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from agent.collect.host.counts import counts
from agent.collect.host.kernelfile import read
from agent.wire.series import Metric, Table, single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

TOTALS: Final = (
    ("connections_total", "The total number of connections made."),
    ("incoming_packets_total", "The total number of incoming packets."),
    ("outgoing_packets_total", "The total number of outgoing packets."),
    ("incoming_bytes_total", "The total amount of incoming data."),
    ("outgoing_bytes_total", "The total amount of outgoing data."),
)
"""Name after ``node_ipvs_`` and help of the numbers of the third line of ip_vs_stats, in their order."""

LABELS: Final = ("local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark")

Row = tuple[str, ...]


class Ipvs:
    """Raises NoData where the kernel balances nothing, ValueError on files of another form."""

    def __init__(self, machine: Machine) -> None:
        self._totals = f"{machine.proc}/net/ip_vs_stats"
        self._backends = f"{machine.proc}/net/ip_vs"
        self._table = Table(
            LABELS,
            Metric(
                "node_ipvs_backend_connections_active",
                "gauge",
                "The current active connections by local and remote address.",
            ),
            Metric(
                "node_ipvs_backend_connections_inactive",
                "gauge",
                "The current inactive connections by local and remote address.",
            ),
            Metric("node_ipvs_backend_weight", "gauge", "The current backend weight by local and remote address."),
        )

    def collect(self) -> Iterable[Family]:
        """Counters of all it did, and a row for each server behind each address."""
        totals = zip(TOTALS, parse_totals(read(self._totals)), strict=True)
        backends = parse_backends(read(self._backends))
        counters = [single(f"node_ipvs_{name}", "counter", text, value) for (name, text), value in totals]
        return [*counters, *self._table.families(backends)]


def parse_totals(data: bytes) -> list[float]:
    """The five hexadecimal totals of ip_vs_stats. Raises ValueError on a file of another form."""
    lines = data.split(b"\n", 3)
    if len(lines) < 4:
        raise ValueError(f"ip_vs_stats has {len(lines)} lines; 4 are needed")
    fields = lines[2].split()
    if len(fields) != len(TOTALS):
        raise ValueError(f"ip_vs_stats has {len(fields)} totals; {len(TOTALS)} are needed")
    return [_hexadecimal(field) for field in fields]


def parse_backends(data: bytes) -> dict[Row, list[float]]:
    """Active connections, inactive ones and weight by the labels; lines that have the same labels are added up.

    Raises ValueError on a line of another form.
    """
    rows: dict[Row, list[float]] = {}
    service: tuple[str, str, str, str] = ("", "0", "", "")
    for line in data.decode("ascii", "replace").splitlines():
        match line.split():
            case ["TCP" | "UDP" as protocol, address, *_]:
                service = (*_address(address), protocol, "")
            case ["FWM" as protocol, mark, *_]:
                service = ("", "0", protocol, mark)
            case ["->", address, _, weight, active, inactive, *_] if address != "RemoteAddress:Port":
                labels = (*service[:2], *_address(address), *service[2:])
                numbers = counts(field.encode() for field in (active, inactive, weight))
                rows[labels] = [a + b for a, b in zip(rows.get(labels, (0.0, 0.0, 0.0)), numbers, strict=True)]
    return rows


def _hexadecimal(field: bytes) -> float:
    try:
        if len(field) > 16:
            raise ValueError
        return float(int(field, 16))
    except ValueError:
        shown = field[:32].decode("utf-8", "replace")
        raise ValueError(f'ip_vs_stats: "{shown}" is not a hexadecimal number of 64 bits') from None


@lru_cache(maxsize=4096)
def _address(text: str) -> tuple[str, str]:
    """Address and port of ``C0A80016:0CEA`` or ``[2620:…:0001]:0050``. Raises ValueError on anything else."""
    address, _, port = text.rpartition(":")
    try:
        if address.startswith("[") and address.endswith("]"):
            readable = _readable(socket.inet_pton(socket.AF_INET6, address[1:-1]))
        else:
            readable = socket.inet_ntop(socket.AF_INET, bytes.fromhex(address))
        if len(port) != 4:
            raise ValueError
        return readable, str(int(port, 16))
    except (ValueError, OSError):
        raise ValueError(f'ip_vs: "{text[:64]}" is not an address and a port') from None


def _readable(address: bytes) -> str:
    """An IPv6 address; one that stands for an IPv4 address is written as that one."""
    if address.startswith(bytes(10) + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)


COLLECTOR: Final = Ipvs
