"""This file tells which records of the journal the agent wrote itself: shipping them would make more of them, for ever.

journald names the unit of a process by its control group (systemd, src/basic/cgroup-util.c, cg_path_get_unit): slices
are passed over, what comes next is the unit; below ``user@UID.service`` stands the user's own unit.

    /system.slice/system-agent.slice/telemetry-agent@web.service             telemetry-agent@web.service
    /user.slice/user-1000.slice/user@1000.service/app.slice/agent.service    agent.service of user@1000.service
    /user.slice/user-0.slice/session-4.scope                                 shared with others: by process number
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from agent.collect.journal.command import boot_id_of
from agent.wire.journaljson import member

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.host import Host

NANOSECONDS = 1_000_000_000


class Own(Struct, frozen=True):
    """What a record of the agent's own holds: all ``members``, and a time that is not before ``since_us``.

    ``fields`` are the names in ``members``, ``shown`` is what they say in words.
    """

    fields: tuple[str, ...]
    members: tuple[bytes, ...]
    shown: str
    since_us: int = 0


def own_records(host: Host, clock: Clock) -> Own:
    """What tells this process's records from those of every other unit and process."""
    lines = _read(host.proc / "self/cgroup").splitlines()
    unit, user_unit = units_of(group_of(lines))
    if user_unit.endswith(".service"):
        return _by(unit, {"_SYSTEMD_UNIT": unit, "_SYSTEMD_USER_UNIT": user_unit})
    if unit.endswith(".service") and not unit.startswith("user@"):
        return _by(unit, {"_SYSTEMD_UNIT": unit})
    return _by_process(host, clock)


def group_of(lines: list[str]) -> str:
    """The control group in which systemd manages the process, of the lines of /proc/self/cgroup; it may manage them
    in a hierarchy of its own or in that of version 2, and the other one then has the process at its root."""
    paths = dict(line.split(":", 2)[1:] for line in lines if line.count(":") >= 2)
    return next((path for path in (paths.get("name=systemd", ""), paths.get("", "")) if units_of(path)[0]), "")


def units_of(group: str) -> tuple[str, str]:
    """The unit of a control group and, where it belongs to a user's own manager, the unit there; each may be empty."""
    parts = [part for part in group.split("/") if part and not part.endswith(".slice")]
    unit = _unescaped(parts[0]) if parts else ""
    inner = _unescaped(parts[1]) if len(parts) > 1 and unit.startswith("user@") else ""
    return unit, inner


def _unescaped(part: str) -> str:
    """systemd puts an underscore before a name that the kernel would take for one of its own files."""
    return part.removeprefix("_")


def _by(unit: str, values: dict[str, str]) -> Own:
    return Own(tuple(values), tuple(member(name, value) for name, value in values.items()), f"unit {unit}")


def _by_process(host: Host, clock: Clock) -> Own:
    """The number of a process is given again to others, and in a container it is another one: only this boot counts,
    from when this process was there, and only what has its name too."""
    pid = str(os.getpid())
    values = {"_PID": pid, "_COMM": _read(host.proc / "self/comm"), "_BOOT_ID": boot_id_of(host)}
    members = tuple(member(name, value) for name, value in values.items() if value)
    return Own(("_PID", "_COMM"), members, f"process {pid}", _started_us(host.proc, clock))


def _read(path: Path) -> str:
    """A file of the kernel without its last newline, empty where there is none."""
    try:
        return path.read_text().rstrip("\n")
    except OSError:
        return ""


def _started_us(proc: Path, clock: Clock) -> int:
    """When this process was started, in microseconds of the wall clock; where the kernel does not tell, now."""
    now_us = clock.wall_ns() // 1000
    try:
        ticks = int((proc / "self/stat").read_text().rsplit(")", 1)[1].split()[19])
        uptime = float((proc / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return now_us
    age_seconds = uptime - ticks / os.sysconf("SC_CLK_TCK")
    return now_us - round(max(0.0, age_seconds) * 1e6)
