"""This file reads what the kernel says about the agent's own process: CPU, memory, descriptors, and the limits on them.

Sources: proc(5) for /proc/self/stat and /proc/self/limits; the kernel's cgroup-v2.rst (memory.max) and
cgroup-v1/memory.rst (memory.limit_in_bytes) for the limit of the control group.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.host import Host
    from agent.ownmetrics import Readings

# Control group version 1 writes "no limit" as the largest number of whole pages.
_NO_LIMIT_BYTES = 1 << 62


class Usage(Struct, frozen=True):
    """What the process uses: CPU time since it started, memory now."""

    cpu_seconds: float
    virtual_bytes: int
    resident_bytes: int


def parse_stat(text: str, ticks_per_second: int, page_bytes: int) -> Usage:
    """Fields 14, 15, 23 and 24 of ``/proc/PID/stat``. Raises ValueError where they are not there.

    The second field is the name in parentheses and may hold anything, so fields are counted from its end.
    """
    fields = text.rpartition(")")[2].split()
    if len(fields) < 22:
        raise ValueError(f"/proc/self/stat has {len(fields) + 2} fields; 24 are needed")
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / ticks_per_second, int(fields[20]), int(fields[21]) * page_bytes)


def parse_limit(text: str, name: str) -> int | None:
    """The soft limit ``name`` of ``/proc/PID/limits``; None where it is unlimited or not listed."""
    for line in text.splitlines():
        if line.startswith(name):
            soft = line.removeprefix(name).split()[0]
            return int(soft) if soft.isdigit() else None
    return None


def usage(host: Host) -> Usage:
    """What this process uses now. Raises OSError or ValueError where the kernel does not say."""
    text = (host.proc / "self" / "stat").read_text("utf-8", "replace")
    return parse_stat(text, os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE"))


def limit(host: Host, name: str) -> int | None:
    """The soft limit of this process as ``/proc/self/limits`` names it; None where there is none."""
    try:
        return parse_limit((host.proc / "self" / "limits").read_text(), name)
    except OSError:
        return None


def memory_limit_bytes(host: Host) -> int | None:
    """The smallest limit of the control groups this process is in; None where no group limits it."""
    try:
        groups = (host.proc / "self" / "cgroup").read_text()
    except OSError:
        return None
    return min((found for file in _limit_files(groups, host.sys) if (found := _bytes(file)) is not None), default=None)


def process_readings(host: Host, started_at_seconds: float) -> Readings:
    """The ``process_*`` series and when the agent started (Unix epoch); what the kernel does not tell is left out."""
    found: dict[str, float | None] = {
        "process_start_time_seconds": started_at_seconds,
        "telemetry_agent_start_time_seconds": started_at_seconds,
        "process_open_fds": _open_files(host),
        "process_max_fds": limit(host, "Max open files"),
    }
    try:
        used = usage(host)
    except (OSError, ValueError):
        pass
    else:
        found["process_cpu_seconds_total"] = used.cpu_seconds
        found["process_virtual_memory_bytes"] = used.virtual_bytes
        found["process_resident_memory_bytes"] = used.resident_bytes
    return {name: {(): float(value)} for name, value in found.items() if value is not None}


def _open_files(host: Host) -> int | None:
    try:
        return len(os.listdir(host.proc / "self" / "fd")) - 1  # the listing itself holds one
    except OSError:
        return None


def _limit_files(groups: str, sys: Path) -> Iterator[Path]:
    """The files that limit the groups of ``/proc/PID/cgroup`` (lines ``ID:CONTROLLERS:/PATH``) and those above."""
    for line in groups.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        parts = [part for part in path.split("/") if part]
        if ".." in parts or (controllers and "memory" not in controllers.split(",")):
            continue
        root, name = (
            (sys / "fs/cgroup/memory", "memory.limit_in_bytes") if controllers else (sys / "fs/cgroup", "memory.max")
        )
        for depth in range(len(parts), -1, -1):
            yield root.joinpath(*parts[:depth], name)


def _bytes(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT_BYTES else None
