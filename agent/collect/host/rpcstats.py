"""This file reads the counters of NFS that are lines of a name and numbers: /proc/net/rpc/nfs and nfsd.

::

    net 18628 0 18628 6
    rpc 4329785 0 4338291
    proc3 22 1 4084749 29200 …          the first number is how many follow
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from agent.batch import Family, Kind
from agent.collect.host.counts import counts
from agent.wire.series import series

V2: Final = (
    *("Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove"),
    *("Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat"),
)
V3: Final = (
    *("Null", "GetAttr", "SetAttr", "Lookup", "Access", "ReadLink", "Read", "Write", "Create", "MkDir", "SymLink"),
    *("MkNod", "Remove", "RmDir", "Rename", "Link", "ReadDir", "ReadDirPlus", "FsStat", "FsInfo", "PathConf"),
    *("Commit",),
)
"""Procedures of NFS 2 and 3 in the order of their numbers (RFC 1094, RFC 1813), in node_exporter's spelling."""

Lines = Mapping[str, list[float]]
"""The numbers of the file by the name of their line."""


class Reading(NamedTuple):
    """A series of a metric: its labels, and the line and place of its number."""

    labels: tuple[tuple[str, str], ...]
    line: str
    at: int


class Metric:
    """A metric that is read from some of the numbers; the bytes of its series are made once."""

    def __init__(self, name: str, kind: Kind, text: str, *readings: Reading) -> None:
        self._described: tuple[str, Kind, str] = (name, kind, text)
        self._series = tuple(series(name, reading.labels) for reading in readings)
        self._places = tuple((reading.line, reading.at) for reading in readings)

    def family(self, lines: Lines) -> Family:
        """The metric with the numbers of now."""
        return Family(*self._described, self._series, [lines[line][at] for line, at in self._places])


def single(line: str, at: int) -> Reading:
    """The only series of a metric, without labels."""
    return Reading((), line, at)


def procedures(line: str, version: str, names: Iterable[str], unused: Collection[str] = ()) -> list[Reading]:
    """A series for each procedure of one version, less those that are unused."""
    return [
        Reading((("method", name), ("proto", version)), line, at) for at, name in enumerate(names) if name not in unused
    ]


def parse(data: bytes, sizes: Mapping[str, int], grown: Collection[str] = ()) -> dict[str, list[float]]:
    """The numbers of each line that ``sizes`` names, as many as it says; zeros where the kernel has no such line.

    Newer kernels have more lines, and more numbers at the end of a line: those are left out. A line in ``grown`` may
    be shorter than it says, as older kernels have it. Raises ValueError, with the line, on one that is not a name and
    enough counts.
    """
    lines = {name: [0.0] * size for name, size in sizes.items()}
    for line in data.splitlines():
        name, *fields = line.split() or (b"",)
        known = name.decode("utf-8", "replace")
        if not fields:
            raise ValueError(f'rpc: "{known[:32]}" has no numbers')
        if known in lines:
            lines[known] = _numbers(known, fields, sizes[known], known in grown)
    return lines


def _numbers(name: str, fields: list[bytes], size: int, may_be_shorter: bool) -> list[float]:
    try:
        if not name.startswith("proc"):
            numbers = counts(fields[:size])
        else:
            announced, *numbers = counts(fields)
            if announced != len(numbers):
                raise ValueError(f"announces {announced:.0f} numbers and has {len(numbers)}")
    except ValueError as error:
        raise ValueError(f"rpc: {name}: {error}") from None
    if len(numbers) < size and not may_be_shorter:
        raise ValueError(f"rpc: {name}: has {len(numbers)} numbers; {size} are needed")
    return [*numbers[:size], *[0.0] * (size - len(numbers))]
