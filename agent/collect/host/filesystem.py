"""This file reads how full the mounted file systems are: /proc/1/mounts (proc(5), fstab(5)) and statvfs(3).

::

    /dev/sda1 /srv/two\\040words ext4 rw,relatime 0 0
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.collect.host.kernelfile import read
from agent.collect.host.remote_mounts import DEADLINE_SECONDS, REMOTE_TYPES, RemoteMounts
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

METRICS: Final = (
    Metric(
        "node_filesystem_device_error",
        "gauge",
        "Whether an error occurred while getting statistics for the given device.",
    ),
    Metric("node_filesystem_readonly", "gauge", "Filesystem read-only status."),
    Metric("node_filesystem_size_bytes", "gauge", "Filesystem size in bytes."),
    Metric("node_filesystem_free_bytes", "gauge", "Filesystem free space in bytes."),
    Metric("node_filesystem_avail_bytes", "gauge", "Filesystem space available to non-root users in bytes."),
    Metric("node_filesystem_files", "gauge", "Filesystem total file nodes."),
    Metric("node_filesystem_files_free", "gauge", "Filesystem total free file nodes."),
)
_ESCAPED: Final = re.compile(r"\\(0[0-7]{2}|1[0-7]{2})")
_UNKNOWN: Final = (None,) * 6


class Mount(NamedTuple):
    """A mounted file system: what, where and of which type, and whether nothing may be written to it."""

    device: str
    mount_point: str
    type: str
    read_only: bool


class Filesystem:
    """Raises ValueError on a file of another form. One that does not answer has ``device_error`` 1 and nothing else."""

    def __init__(self, machine: Machine) -> None:
        self._files = (f"{machine.proc}/1/mounts", f"{machine.proc}/mounts")
        self._root = machine.root.rstrip("/")
        self._mount_points_exclude = re.compile(machine.options.filesystem_mount_points_exclude)
        self._types_exclude = re.compile(machine.options.filesystem_types_exclude)
        self._read = b""
        self._mounts: list[Mount] = []
        self._remote = RemoteMounts(machine.clock, min(DEADLINE_SECONDS, machine.options.deadline_seconds / 4))
        self._table = Table(("device", "mountpoint", "fstype"), *METRICS)

    def collect(self) -> Iterable[Family]:
        """Gauges for each mount that is not excluded, in bytes and inodes."""
        data = self._data()
        if data != self._read:
            self._mounts, self._read = self._wanted(parse(data)), data
        remote = self._remote.ask([self._path(mount) for mount in self._mounts if REMOTE_TYPES.match(mount.type)])
        rows: dict[tuple[str, ...], tuple[float | None, ...]] = {}
        for mount in self._mounts:
            path = self._path(mount)
            found = remote[path] if path in remote else _statvfs(path)
            rows.setdefault(mount[:3], _row(mount, found))
        return self._table.families(rows)

    def _data(self) -> bytes:
        try:
            return read(self._files[0])
        except (NoData, PermissionError):  # processes of others are hidden from us
            return read(self._files[1])

    def _wanted(self, mounts: Iterable[Mount]) -> list[Mount]:
        placed = [mount._replace(mount_point=self._below_root(mount.mount_point)) for mount in mounts]
        return [
            mount
            for mount in placed
            if not self._mount_points_exclude.search(mount.mount_point) and not self._types_exclude.search(mount.type)
        ]

    def _below_root(self, mount_point: str) -> str:
        return mount_point.removeprefix(self._root) or "/"

    def _path(self, mount: Mount) -> str:
        return self._root + mount.mount_point


def _statvfs(path: str) -> os.statvfs_result | None:
    try:
        return os.statvfs(path)
    except OSError:
        return None


def _row(mount: Mount, found: os.statvfs_result | None) -> tuple[float | None, ...]:
    if found is None:
        return 1.0, *_UNKNOWN
    block = found.f_bsize  # as node_exporter counts, also where f_frsize differs
    return (
        0.0,
        float(mount.read_only),
        float(found.f_blocks * block),
        float(found.f_bfree * block),
        float(found.f_bavail * block),
        float(found.f_files),
        float(found.f_ffree),
    )


def parse(data: bytes) -> list[Mount]:
    """The mounts, in the order in which they were mounted. Raises ValueError on a line of another form."""
    mounts = []
    for line in os.fsdecode(data).removesuffix("\n").split("\n") if data else ():
        words = line.split(" ")
        if len(words) < 4:
            raise ValueError(f'mounts has a line "{line}"; device, mount point, type and options are expected')
        device, mount_point, kind, options = words[:4]
        mounts.append(Mount(device, _unescaped(mount_point), kind, "ro" in options.split(",")))
    return mounts


def _unescaped(path: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), path) if "\\" in path else path


COLLECTOR: Final = Filesystem
