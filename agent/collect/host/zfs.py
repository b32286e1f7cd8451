"""This file reads ZFS: the kernel's kstat files below /proc/spl/kstat/zfs (OpenZFS, module/os/linux/spl).

::

    6 1 0x01 91 4368 5266997922 97951858082072        nread    nwritten reads …      (io of a pool)
    name                            type data         2826240  2680501248 33 …
    hits                            4    8772612
    dataset_name                    7    pool1/home   types: 3 and 4 numbers of 64 bits, 7 text
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from agent.collect.host.counts import counts
from agent.collect.host.gathered import Gathered
from agent.collect.host.kernelfile import entries, read
from agent.errors import NoData
from agent.wire.series import series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

FILES: Final = {
    "abdstats": "zfs_abd",
    "arcstats": "zfs_arc",
    "dmu_tx": "zfs_dmu_tx",
    "dnodestats": "zfs_dnode",
    "fm": "zfs_fm",
    "vdev_cache_stats": "zfs_vdev_cache",
    "vdev_mirror_stats": "zfs_vdev_mirror",
    "xuio_stats": "zfs_xuio",
    "zfetchstats": "zfs_zfetch",
    "zil": "zfs_zil",
}
"""File: start of its metrics' names. Versions of ZFS have more and fewer of them; node_exporter takes these."""

STATES: Final = ("online", "degraded", "faulted", "offline", "removed", "unavail")

_STATE: Final = "node_zfs_zpool_state"

MOST_SERIES: Final = 65536
"""Series of which the bytes are remembered."""

_HEADER: Final = re.compile(rb"^name[ \t]+type[ \t]+data[ \t]*$", re.MULTILINE)
_NUMBER: Final = re.compile(rb"^(\S+)[ \t]+[34][ \t]+(?:(-?\d{1,20})(?!\S)|(\S+))", re.MULTILINE)
_DATASET: Final = re.compile(rb"^dataset_name[ \t]+7[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)

Numbers = list[tuple[bytes, float]]
Known = tuple[str, bytes, str, str]


class Zfs:
    """Raises NoData on a machine without ZFS, ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.proc}/spl/kstat/zfs"
        self._known: dict[Known, tuple[str, str, bytes]] = {}

    def collect(self) -> Iterable[Family]:
        """Everything that the kernel counts, as it is, and each pool's state: 1 for the one it is in."""
        gathered = Gathered()
        for name in entries(self._directory):
            path = f"{self._directory}/{name}"
            try:
                if (prefix := FILES.get(name)) is not None:
                    self._add(gathered, prefix, name, parse(read(path)))
                else:
                    self._pool(gathered, name, path)
            except NoData:  # a file of another kind, or a pool that is gone since it was listed
                continue
            except ValueError as error:
                raise ValueError(f"zfs: {name}: {error}") from None
        return gathered.families()

    def _pool(self, gathered: Gathered, pool: str, path: str) -> None:
        for file in entries(path):
            if file.startswith("objset-"):
                dataset, numbers = parse_dataset(read(f"{path}/{file}"))
                self._add(gathered, "zfs_zpool_dataset", "objset", numbers, pool, dataset)
            elif file == "io":
                self._add(gathered, "zfs_zpool", "io", parse_io(read(f"{path}/io")), pool)
            elif file == "state":
                now = read(f"{path}/state").strip().lower().decode("ascii", "replace")
                for state, labelled in _states(pool):
                    gathered.add(_STATE, "gauge", "kstat.zfs.misc.state", labelled, float(state == now))

    def _add(
        self, gathered: Gathered, prefix: str, origin: str, numbers: Numbers, pool: str = "", dataset: str = ""
    ) -> None:
        for name, value in numbers:
            key = (prefix, name, pool, dataset)
            known = self._known.get(key)
            if known is None:
                if len(self._known) >= MOST_SERIES:
                    self._known.clear()
                known = self._known[key] = _described(prefix, origin, name, pool, dataset)
            metric, help_, labelled = known
            gathered.add(metric, "untyped", help_, labelled, value)


def _described(prefix: str, origin: str, name: bytes, pool: str, dataset: str) -> tuple[str, str, bytes]:
    """Metric, help and series of a number of that name."""
    read_as = name.decode("ascii", "replace")
    metric = f"node_{prefix}_{re.sub('[^a-zA-Z0-9_]', '_', read_as)}"
    return metric, f"kstat.zfs.misc.{origin}.{read_as}", series(metric, (("dataset", dataset), ("zpool", pool)))


@lru_cache(maxsize=256)
def _states(pool: str) -> tuple[tuple[str, bytes], ...]:
    """Each state a pool can be in, and its series."""
    return tuple((state, series(_STATE, (("state", state), ("zpool", pool)))) for state in STATES)


def parse(data: bytes) -> Numbers:
    """Name and value of each number of a kstat file. Raises ValueError where it has none of its form."""
    header = _HEADER.search(data)
    if header is None:
        raise ValueError('has no line "name type data"')
    found = _NUMBER.findall(data, header.end())
    for name, _, other in found:
        if other:
            raise ValueError(f'"{name[:64].decode("utf-8", "replace")}" is not a number')
    return [(name, float(number)) for name, number, _ in found]


def parse_dataset(data: bytes) -> tuple[str, Numbers]:
    """A dataset's name, empty where it has none, and its numbers. Raises ValueError on a file of another form."""
    name = _DATASET.search(data)
    return "" if name is None else name[1].decode("utf-8", "replace"), parse(data)


def parse_io(data: bytes) -> Numbers:
    """A pool's numbers: a line of names and a line of values. Raises ValueError on a file of another form."""
    lines = [line.split() for line in data.splitlines()]
    for names, values in pairwise(lines):
        if len(names) >= 12 and names[0] == b"nread":
            if len(values) < len(names):
                raise ValueError(f"io has {len(names)} names and {len(values)} values")
            return list(zip(names, counts(values[: len(names)]), strict=True))
    return []


COLLECTOR: Final = Zfs
