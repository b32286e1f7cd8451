"""This file reads what each XFS file system has done: /sys/fs/xfs/*/stats/stats (fs/xfs/xfs_stats.c).

::

    extent_alloc 92447 97589 92448 93751
    vnodes 92601 0 0 0 92444 92444 92444 0      older kernels have one number less
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.counts import counts
from agent.collect.host.kernelfile import entries, read
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

METRICS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "extent_alloc": (
        ("extent_allocation_extents_allocated_total", "Number of extents allocated for a filesystem."),
        ("extent_allocation_blocks_allocated_total", "Number of blocks allocated for a filesystem."),
        ("extent_allocation_extents_freed_total", "Number of extents freed for a filesystem."),
        ("extent_allocation_blocks_freed_total", "Number of blocks freed for a filesystem."),
    ),
    "abt": (
        ("allocation_btree_lookups_total", "Number of allocation B-tree lookups for a filesystem."),
        ("allocation_btree_compares_total", "Number of allocation B-tree compares for a filesystem."),
        ("allocation_btree_records_inserted_total", "Number of allocation B-tree records inserted for a filesystem."),
        ("allocation_btree_records_deleted_total", "Number of allocation B-tree records deleted for a filesystem."),
    ),
    "blk_map": (
        ("block_mapping_reads_total", "Number of block map for read operations for a filesystem."),
        ("block_mapping_writes_total", "Number of block map for write operations for a filesystem."),
        ("block_mapping_unmaps_total", "Number of block unmaps (deletes) for a filesystem."),
        ("block_mapping_extent_list_insertions_total", "Number of extent list insertions for a filesystem."),
        ("block_mapping_extent_list_deletions_total", "Number of extent list deletions for a filesystem."),
        ("block_mapping_extent_list_lookups_total", "Number of extent list lookups for a filesystem."),
        ("block_mapping_extent_list_compares_total", "Number of extent list compares for a filesystem."),
    ),
    "bmbt": (
        ("block_map_btree_lookups_total", "Number of block map B-tree lookups for a filesystem."),
        ("block_map_btree_compares_total", "Number of block map B-tree compares for a filesystem."),
        ("block_map_btree_records_inserted_total", "Number of block map B-tree records inserted for a filesystem."),
        ("block_map_btree_records_deleted_total", "Number of block map B-tree records deleted for a filesystem."),
    ),
    "dir": (
        (
            "directory_operation_lookup_total",
            "Number of file name directory lookups which miss the operating systems directory name lookup cache.",
        ),
        ("directory_operation_create_total", "Number of times a new directory entry was created for a filesystem."),
        (
            "directory_operation_remove_total",
            "Number of times an existing directory entry was created for a filesystem.",
        ),
        (
            "directory_operation_getdents_total",
            "Number of times the directory getdents operation was performed for a filesystem.",
        ),
    ),
    "ig": (
        ("inode_operation_attempts_total", "Number of times the OS looked for an XFS inode in the inode cache."),
        (
            "inode_operation_found_total",
            "Number of times the OS looked for and found an XFS inode in the inode cache.",
        ),
        (
            "inode_operation_recycled_total",
            "Number of times the OS found an XFS inode in the cache, but could not use it as it was being recycled.",
        ),
        (
            "inode_operation_missed_total",
            "Number of times the OS looked for an XFS inode in the cache, but did not find it.",
        ),
        (
            "inode_operation_duplicates_total",
            "Number of times the OS tried to add a missing XFS inode to the inode cache, but found it "
            "had already been added by another process.",
        ),
        (
            "inode_operation_reclaims_total",
            "Number of times the OS reclaimed an XFS inode from the inode cache to free memory for another purpose.",
        ),
        (
            "inode_operation_attribute_changes_total",
            "Number of times the OS explicitly changed the attributes of an XFS inode.",
        ),
    ),
    "rw": (
        ("write_calls_total", "Number of write(2) system calls made to files in a filesystem."),
        ("read_calls_total", "Number of read(2) system calls made to files in a filesystem."),
    ),
    "vnodes": (
        ("vnode_active_total", "Number of vnodes not on free lists for a filesystem."),
        ("vnode_allocate_total", "Number of times vn_alloc called for a filesystem."),
        ("vnode_get_total", "Number of times vn_get called for a filesystem."),
        ("vnode_hold_total", "Number of times vn_hold called for a filesystem."),
        ("vnode_release_total", "Number of times vn_rele called for a filesystem."),
        ("vnode_reclaim_total", "Number of times vn_reclaim called for a filesystem."),
        ("vnode_remove_total", "Number of times vn_remove called for a filesystem."),
    ),
}
"""Line: name after ``node_xfs_`` and help of its numbers, in their order."""


class Xfs:
    """A machine without such file systems has no families. Raises ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._directory = f"{machine.sys}/fs/xfs"
        metrics = (metric for line in METRICS.values() for metric in line)
        self._table = Table(("device",), *(Metric(f"node_xfs_{name}", "counter", text) for name, text in metrics))

    def collect(self) -> Iterable[Family]:
        """A row for each file system, by its device; its counters wrap at 32 bits."""
        try:
            names = entries(self._directory)
        except NoData:
            return []
        rows: dict[tuple[str, ...], list[float | None]] = {}
        for device in names:
            try:
                rows[(device,)] = parse(read(f"{self._directory}/{device}/stats/stats"))
            except NoData:  # what all of them did together, or unmounted since it was listed
                continue
            except ValueError as error:
                raise ValueError(f"xfs: {device}: {error}") from None
        return self._table.families(rows)


def parse(data: bytes) -> list[float | None]:
    """A number for each metric, None where the kernel has no such line. Raises ValueError on a line of another form."""
    lines = {line.split(None, 1)[0]: line.split()[1:] for line in data.splitlines() if line.strip()}
    return [number for line, metrics in METRICS.items() for number in _numbers(line, lines, len(metrics))]


def _numbers(line: str, lines: dict[bytes, list[bytes]], size: int) -> list[float] | list[None]:
    fields = lines.get(line.encode())
    if fields is None:
        return [None] * size
    if len(fields) < size:
        raise ValueError(f"{line} has {len(fields)} numbers; {size} are needed")
    return counts(fields[:size])


COLLECTOR: Final = Xfs
