"""This file reads how many sockets there are: /proc/net/sockstat and /proc/net/sockstat6 (proc(5))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import Fields, number
from agent.collect.host.kernelfile import read
from agent.errors import NoData

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family, Kind
    from agent.collect.host.machine import Machine

FILES: Final = ("sockstat", "sockstat6")
STATES: Final = frozenset((b"inuse", b"orphan", b"tw", b"alloc", b"mem", b"memory"))
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Sockstat:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._proc = machine.proc
        self._fields = Fields("sockstat", _describe)

    def collect(self) -> Iterable[Family]:
        """Gauges by protocol and state, in sockets; ``mem`` in pages and again in bytes."""
        fields: dict[bytes, bytes | float] = {}
        for file in FILES:
            try:
                fields |= parse(read(f"{self._proc}/net/{file}"), file)
            except NoData:  # the kernel has no IPv6
                continue
        if not fields:
            raise NoData(f"{self._proc}/net has no sockstat")
        return self._fields.families(fields)


def _describe(field: bytes) -> tuple[str, Kind, str]:
    name = field.decode("utf-8", "replace")
    if field == b"sockets_used":
        return "node_sockstat_sockets_used", "gauge", "Number of IPv4 sockets in use."
    protocol, _, state = name.partition("_")
    return f"node_sockstat_{name}", "gauge", f"Number of {protocol} sockets in state {state}."


def parse(data: bytes, file: str = "sockstat") -> dict[bytes, bytes | float]:
    """Numbers by ``TCP_inuse``, of lines ``TCP: inuse 4 orphan 0 …``. Raises ValueError on a line of another form."""
    fields: dict[bytes, bytes | float] = {}
    for line in data.splitlines():
        words = line.split()
        if not words[0:1] or len(words) % 2 == 0:
            raise ValueError(f'{file} has a line "{line.decode("utf-8", "replace")}"; states and numbers are expected')
        protocol = words[0].removesuffix(b":") + b"_"
        for state, text in zip(words[1::2], words[2::2], strict=True):
            if state in STATES or protocol == b"sockets_":
                name = protocol + state
                count = fields[name] = number(text, f"{file}: {name.decode('utf-8', 'replace')}")
                if state == b"mem":
                    fields[name + b"_bytes"] = count * PAGE_BYTES
    return fields


COLLECTOR: Final = Sockstat
