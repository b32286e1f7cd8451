"""This file reads what the system calls itself: uname(2), and the NIS domain from /proc/sys/kernel/domainname."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import attribute
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

LABELS: Final = ("sysname", "nodename", "release", "version", "machine", "domainname")
INFO: Final = Metric("node_uname_info", "gauge", "Labeled system information as provided by the uname system call.")


class Uname:
    """Never fails."""

    def __init__(self, machine: Machine) -> None:
        self._domainname = f"{machine.proc}/sys/kernel/domainname"
        self._table = Table(LABELS, INFO)

    def collect(self) -> Iterable[Family]:
        """One series, always 1; the names are its labels."""
        return self._table.families({(*os.uname(), attribute(self._domainname) or ""): (1.0,)})


COLLECTOR: Final = Uname
