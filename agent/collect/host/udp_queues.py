"""This file reads how much waits in the queues of UDP sockets: /proc/net/udp and /proc/net/udp6 (proc(5)).

::

      sl  local_address rem_address   st tx_queue rx_queue tr tm->when …
     2117: 00000000:0044 00000000:0000 07 00000000:00000180 00:00000000 …
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import hexadecimal
from agent.collect.host.kernelfile import read
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

FILES: Final = (("v4", "udp"), ("v6", "udp6"))
QUEUES: Final = Metric(
    "node_udp_queues", "gauge", "Number of allocated memory in the kernel for UDP datagrams in bytes."
)
_EMPTY: Final = b" 00000000:00000000 "


class UdpQueues:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._proc = machine.proc
        self._table = Table(("queue", "ip"), QUEUES)

    def collect(self) -> Iterable[Family]:
        """Bytes that wait to be sent and to be read, over all sockets."""
        rows: dict[tuple[str, ...], tuple[float]] = {}
        for version, file in FILES:
            try:
                sent, received = parse(read(f"{self._proc}/net/{file}"), file)
            except NoData:  # the kernel has no IPv6
                continue
            rows["tx", version], rows["rx", version] = (sent,), (received,)
        if not rows:
            raise NoData(f"{self._proc}/net has neither udp nor udp6")
        return self._table.families(rows)


def parse(data: bytes, file: str = "udp") -> tuple[float, float]:
    """Bytes in all queues to send and to receive. Raises ValueError on a line of another form."""
    if data.count(_EMPTY) == data.count(b"\n") - 1:  # as nearly always, and some servers have ten thousand sockets
        return 0.0, 0.0
    lines = data.splitlines()[1:]
    queues = [line.split(None, 5)[4:5] for line in lines]
    pairs = [queue[0].partition(b":") for queue in queues if queue]
    if len(pairs) != len(lines):
        raise ValueError(f"{file} has a line without tx_queue and rx_queue")
    sent = hexadecimal([pair[0] for pair in pairs], f"{file}: tx_queue")
    received = hexadecimal([pair[2] for pair in pairs], f"{file}: rx_queue")
    return sum(sent, 0.0), sum(received, 0.0)


COLLECTOR: Final = UdpQueues
