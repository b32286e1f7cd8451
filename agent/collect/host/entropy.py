"""This file reads how much randomness the kernel has gathered: /proc/sys/kernel/random (random(4))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.figures import number
from agent.collect.host.kernelfile import read
from agent.errors import NoData
from agent.wire.series import single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

FILES: Final = {
    "entropy_avail": ("node_entropy_available_bits", "Bits of available entropy."),
    "poolsize": ("node_entropy_pool_size_bits", "Bits of entropy pool."),
}


class Entropy:
    """Raises NoData where the kernel shows neither, ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._folder = f"{machine.proc}/sys/kernel/random"

    def collect(self) -> Iterable[Family]:
        """Two gauges, in bits."""
        families = []
        for file, (name, text) in FILES.items():
            try:
                families.append(single(name, "gauge", text, number(read(f"{self._folder}/{file}"), file)))
            except NoData:
                continue
        if not families:
            raise NoData(f"{self._folder} does not exist")
        return families


COLLECTOR: Final = Entropy
