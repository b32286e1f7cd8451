"""This file reads what virtual memory has done: /proc/vmstat (proc(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import Fields
from agent.collect.host.kernelfile import read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family, Kind
    from agent.collect.host.machine import Machine


class Vmstat:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/vmstat"
        self._wanted = re.compile(machine.options.vmstat_fields)
        self._fields = Fields("vmstat", self._describe)

    def collect(self) -> Iterable[Family]:
        """The fields that the option ``vmstat_fields`` takes, as the kernel counts them."""
        return self._fields.families(parse(read(self._path)))

    def _describe(self, field: bytes) -> tuple[str, Kind, str] | None:
        name = field.decode("utf-8", "replace")
        if not self._wanted.search(name):
            return None
        return f"node_vmstat_{name}", "untyped", f"/proc/vmstat information field {name}."


def parse(data: bytes) -> dict[bytes, bytes | float]:
    """The number as text by name, of lines ``pgfault 8713841``. Raises ValueError on a file of another form."""
    words = data.split()
    if len(words) % 2:
        raise ValueError(f"vmstat has {len(words)} words; a name and a number are expected in each line")
    return dict(zip(words[::2], words[1::2], strict=True))


COLLECTOR: Final = Vmstat
