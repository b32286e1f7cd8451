"""This file reads what the disks did: /proc/diskstats (Linux, Documentation/admin-guide/iostats.rst).

Each line is a device: major and minor number, name, and 11 numbers; 15 since Linux 4.18, 17 since 5.5.
"""

from __future__ import annotations

import re
from operator import mul
from typing import TYPE_CHECKING, Final

from agent.collect.host.disk_properties import Device, DiskProperties
from agent.collect.host.figures import numbers
from agent.collect.host.kernelfile import read
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.batch import Family, Kind
    from agent.collect.host.machine import Machine

FEWEST_COLUMNS: Final = 11
SECTOR_BYTES: Final = 512.0
"""A sector of this file, whatever the disk's own."""
MILLISECOND: Final = 1.0 / 1000.0

COLUMNS: Final[tuple[tuple[str, Kind, float, str], ...]] = (
    ("reads_completed_total", "counter", 1, "The total number of reads completed successfully."),
    ("reads_merged_total", "counter", 1, "The total number of reads merged."),
    ("read_bytes_total", "counter", SECTOR_BYTES, "The total number of bytes read successfully."),
    ("read_time_seconds_total", "counter", MILLISECOND, "The total number of seconds spent by all reads."),
    ("writes_completed_total", "counter", 1, "The total number of writes completed successfully."),
    ("writes_merged_total", "counter", 1, "The number of writes merged."),
    ("written_bytes_total", "counter", SECTOR_BYTES, "The total number of bytes written successfully."),
    ("write_time_seconds_total", "counter", MILLISECOND, "This is the total number of seconds spent by all writes."),
    ("io_now", "gauge", 1, "The number of I/Os currently in progress."),
    ("io_time_seconds_total", "counter", MILLISECOND, "Total seconds spent doing I/Os."),
    ("io_time_weighted_seconds_total", "counter", MILLISECOND, "The weighted # of seconds spent doing I/Os."),
    ("discards_completed_total", "counter", 1, "The total number of discards completed successfully."),
    ("discards_merged_total", "counter", 1, "The total number of discards merged."),
    ("discarded_sectors_total", "counter", 1, "The total number of sectors discarded successfully."),
    (
        "discard_time_seconds_total",
        "counter",
        MILLISECOND,
        "This is the total number of seconds spent by all discards.",
    ),
    ("flush_requests_total", "counter", 1, "The total number of flush requests completed successfully"),
    (
        "flush_requests_time_seconds_total",
        "counter",
        MILLISECOND,
        "This is the total number of seconds spent by all flush requests.",
    ),
)
"""In the order of the file: name, kind, what one of the kernel's units is in ours, help."""

_UNITS: Final = tuple(unit for _, _, unit, _ in COLUMNS)
_NONE: Final[tuple[None, ...]] = (None,) * len(COLUMNS)

MOST_NAMES: Final = 4096
"""Names of devices whose exclusion is remembered; they are looked at anew beyond."""


class Diskstats:
    """Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/diskstats"
        self._exclude = re.compile(machine.options.diskstats_exclude)
        self._known: dict[bytes, bool] = {}
        self._properties = DiskProperties(machine)
        self._table = Table(("device",), *(Metric(f"node_disk_{name}", kind, text) for name, kind, _, text in COLUMNS))

    def collect(self) -> Iterable[Family]:
        """Counters for each device in requests, bytes and seconds, and what udev knows of it as labels."""
        rows = parse(read(self._path), self._takes)
        yield from self._properties.families(tuple(rows))
        yield from self._table.families({(device[0],): row for device, row in rows.items()})

    def _takes(self, name: bytes) -> bool:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= MOST_NAMES:
                self._known.clear()
            known = self._known[name] = not self._exclude.search(name.decode("utf-8", "replace"))
        return known


def parse(data: bytes, takes: Callable[[bytes], bool] = bool) -> dict[Device, list[float | None]]:
    """The numbers of each device that ``takes`` says yes to, in our units; None where an old kernel has no such column.

    Raises ValueError on a line of another form.
    """
    rows: dict[Device, list[float | None]] = {}
    for line in data.splitlines():
        head = line.split(None, 3)
        if len(head) < 4:
            raise ValueError(f'diskstats has a line "{line.decode("utf-8", "replace")}"; numbers are expected in it')
        major, minor, name, rest = head
        if not takes(name):
            continue
        device = name.decode("utf-8", "replace")
        columns = rest.split()
        if len(columns) < FEWEST_COLUMNS:
            raise ValueError(f"diskstats: {device} has {len(columns)} columns; {FEWEST_COLUMNS} are needed")
        known = list(map(mul, numbers(columns[: len(COLUMNS)], f"diskstats: {device}"), _UNITS))
        key = device, major.decode("utf-8", "replace"), minor.decode("utf-8", "replace")
        rows[key] = [*known, *_NONE[len(known) :]]
    return rows


COLLECTOR: Final = Diskstats
