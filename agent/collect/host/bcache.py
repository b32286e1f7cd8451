"""This file reads caches of slow disks on fast ones: /sys/fs/bcache (Documentation/admin-guide/bcache.rst).

::

    UUID/average_key_size     UUID/internal/btree_nodes      UUID/cache0/written              1.1G
    UUID/bdev0/dirty_data     UUID/bdev0/stats_total/…       UUID/bdev0/writeback_rate_debug  rate:  1.1M/sec
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.collect.host.attributes import present, text
from agent.collect.host.kernelfile import entries, read
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.batch import Family, Kind
    from agent.collect.host.machine import Machine

Described = dict[str, tuple[str, "Kind", str]]
Rows = dict[tuple[str, ...], list[float | None]]

SET: Final[Described] = {
    "average_key_size": ("average_key_size_sectors", "gauge", "Average data per key in the btree (sectors)."),
    "btree_cache_size": (
        "btree_cache_size_bytes",
        "gauge",
        "Amount of memory currently used by the btree cache.",
    ),
    "cache_available_percent": (
        "cache_available_percent",
        "gauge",
        "Percentage of cache device without dirty data, usable for writeback (may contain clean cached data).",
    ),
    "congested": ("congested", "gauge", "Congestion."),
    "root_usage_percent": (
        "root_usage_percent",
        "gauge",
        "Percentage of the root btree node in use (tree depth increases if too high).",
    ),
    "tree_depth": ("tree_depth", "gauge", "Depth of the btree."),
}
INTERNAL: Final[Described] = {
    "active_journal_entries": (
        "active_journal_entries",
        "gauge",
        "Number of journal entries that are newer than the index.",
    ),
    "btree_nodes": ("btree_nodes", "gauge", "Total nodes in the btree."),
    "btree_read_average_duration_us": (
        "btree_read_average_duration_seconds",
        "gauge",
        "Average btree read duration.",
    ),
    "cache_read_races": (
        "cache_read_races_total",
        "counter",
        "Counts instances where while data was being read from the cache, the bucket was reused and invalidated - i.e. "
        "where the pointer was stale after the read completed.",
    ),
}
WRITEBACK: Final[Described] = {
    "target": ("dirty_target_bytes", "gauge", "Current dirty data target threshold for this backing device in bytes."),
    "rate": ("writeback_rate", "gauge", "Current writeback rate for this backing device in bytes."),
    "proportional": (
        "writeback_rate_proportional_term",
        "gauge",
        "Current result of proportional controller, part of writeback rate",
    ),
    "integral": (
        "writeback_rate_integral_term",
        "gauge",
        "Current result of integral controller, part of writeback rate",
    ),
    "change": ("writeback_change", "gauge", "Last writeback rate change step for this backing device."),
}
BACKING: Final[Described] = {
    "dirty_data": ("dirty_data_bytes", "gauge", "Amount of dirty data for this backing device in the cache."),
}
TOTALS: Final[Described] = {
    "bypassed": (
        "bypassed_bytes_total",
        "counter",
        "Amount of IO (both reads and writes) that has bypassed the cache.",
    ),
    "cache_hits": ("cache_hits_total", "counter", "Hits counted per individual IO as bcache sees them."),
    "cache_misses": ("cache_misses_total", "counter", "Misses counted per individual IO as bcache sees them."),
    "cache_bypass_hits": ("cache_bypass_hits_total", "counter", "Hits for IO intended to skip the cache."),
    "cache_bypass_misses": ("cache_bypass_misses_total", "counter", "Misses for IO intended to skip the cache."),
    "cache_miss_collisions": (
        "cache_miss_collisions_total",
        "counter",
        "Instances where data insertion from cache miss raced with write (data already present).",
    ),
    "cache_readaheads": ("cache_readaheads_total", "counter", "Count of times readahead occurred."),
}
CACHE: Final[Described] = {
    "io_errors": (
        "io_errors",
        "gauge",
        "Number of errors that have occurred, decayed by io_error_halflife.",
    ),
    "metadata_written": (
        "metadata_written_bytes_total",
        "counter",
        "Sum of all non data writes (btree writes and all other metadata).",
    ),
    "written": ("written_bytes_total", "counter", "Sum of all data that has been written to the cache."),
}
"""Attribute, or line of writeback_rate_debug: name after ``node_bcache_``, kind and help."""

_UNITS: Final = {unit: 1024.0**power for power, unit in enumerate(("", *"kMGTPEZY"))}
_AMOUNT: Final = re.compile(r"(-?)(\d{1,20})(?:\.(\d{1,4}))?([kMGTPEZY]?)")
_TENTHS: Final = 10.24
"""By what node_exporter divides what stands behind the point, which the kernel once meant as 1024ths."""


class Bcache:
    """A machine without such caches has no families."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/fs/bcache"
        self._sets = _table(("uuid",), SET, INTERNAL)
        self._backing = _table(("backing_device", "uuid"), BACKING, WRITEBACK, TOTALS)
        self._caches = _table(("cache_device", "uuid"), CACHE)

    def collect(self) -> Iterable[Family]:
        """A row for each set of caches, for each disk behind one, and for each disk that caches."""
        sets: Rows = {}
        backing: Rows = {}
        caches: Rows = {}
        for uuid in _entries(self._directory):
            if "-" not in uuid:
                continue
            path = f"{self._directory}/{uuid}"
            seconds = _values(f"{path}/internal", INTERNAL)
            seconds[2] = None if seconds[2] is None else seconds[2] * 1e-9
            sets[(uuid,)] = [*_values(path, SET), *seconds]
            for device in _entries(path):
                if device.startswith("bdev") and device[4:].isdigit():
                    backing[device, uuid] = _backing(f"{path}/{device}")
                elif device.startswith("cache") and device[5:].isdigit():
                    caches[device, uuid] = _values(f"{path}/{device}", CACHE)
        tables = ((self._sets, sets), (self._backing, backing), (self._caches, caches))
        return [family for table, rows in tables for family in table.families(rows)]


def amount(written: str) -> float | None:
    """A number as bcache writes it, ``1.1M`` or ``-512``; None where it is none."""
    found = _AMOUNT.fullmatch(written)
    if found is None:
        return None
    sign, whole, fraction, unit = found.groups()
    size = float(int((int(whole) + int(fraction or 0) / _TENTHS) * _UNITS[unit])) if unit else float(whole)
    return -size if sign else size


def parse_writeback(data: bytes) -> dict[str, str]:
    """The amounts of writeback_rate_debug by the words before them, without what they are per."""
    pairs = (line.partition(":") for line in data.decode("ascii", "replace").splitlines())
    return {name.strip(): value.strip().removesuffix("/sec") for name, _, value in pairs}


def _backing(path: str) -> list[float | None]:
    try:
        written = parse_writeback(read(f"{path}/writeback_rate_debug"))
    except NoData:
        written = {}
    totals = dict(zip(TOTALS, _values(f"{path}/stats_total", TOTALS), strict=True))
    if totals["cache_readaheads"] is None and totals["cache_hits"] is not None:
        totals["cache_readaheads"] = 0.0  # kernels that read nothing ahead do not count it
    rates = [amount(written.get(name, "")) for name in WRITEBACK]
    return [*_values(path, BACKING), *rates, *totals.values()]


def _values(path: str, described: Mapping[str, object]) -> list[float | None]:
    try:
        held = present(path, described)
    except NoData:
        held = {}
    return [amount(text(held.get(name))) for name in described]


def _table(labels: tuple[str, ...], *described: Described) -> Table:
    metrics = (metric for some in described for metric in some.values())
    return Table(labels, *(Metric(f"node_bcache_{name}", kind, help_) for name, kind, help_ in metrics))


def _entries(path: str) -> list[str]:
    try:
        return entries(path)
    except NoData:
        return []


COLLECTOR: Final = Bcache
