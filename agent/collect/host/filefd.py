"""This file reads how many files are open: /proc/sys/fs/file-nr (Linux, Documentation/admin-guide/sysctl/fs.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import numbers
from agent.collect.host.kernelfile import read
from agent.wire.series import single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine


class Filefd:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/sys/fs/file-nr"

    def collect(self) -> Iterable[Family]:
        """Two gauges, in file handles."""
        allocated, maximum = parse(read(self._path))
        return [
            single("node_filefd_allocated", "gauge", "File descriptor statistics: allocated.", allocated),
            single("node_filefd_maximum", "gauge", "File descriptor statistics: maximum.", maximum),
        ]


def parse(data: bytes) -> tuple[float, float]:
    """Allocated and maximum of ``1408  0  9223372036854775807``. Raises ValueError on anything else."""
    columns = data.split()
    if len(columns) < 3:
        raise ValueError(f"file-nr has {len(columns)} columns; 3 are needed")
    allocated, _, maximum = numbers(columns[:3], "file-nr")
    return allocated, maximum


COLLECTOR: Final = Filefd
