"""This file is the checks that ask the machine: memory, state directory, disk, load, kernel files, the loop itself.

Each is one question with one answer in one sentence. What asks components of the agent is handed in beside these.
``failed`` in the live group asks for a restart, so it is kept for what a restart can mend.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from agent.serve.health import Check, Finding, Group, Status
from agent.serve.ownprocess import limit, memory_limit_bytes, usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.host import Host
    from agent.worker import Worker

MOST_OWN_MEMORY: Final = 0.9
LEAST_FREE: Final = 0.1
MOST_LOAD_PER_CPU: Final = 4.0
MOST_STANDSTILL_SECONDS: Final = 5.0
KERNEL_FILES: Final = ("stat", "meminfo", "loadavg", "self/stat")
_PROBE: Final = ".health-check"


def machine_checks(host: Host, worker: Worker, clock: Clock) -> tuple[Check, ...]:
    """The checks that need nothing but the machine. ``worker`` is a thread that a dead disk may block."""

    def beside(name: str, group: Group, ask: Callable[[Host], Finding], when_late: Status = "degraded") -> Check:
        return Check(name, (group,), lambda: ask(host), when_late, worker)

    return (
        Check("loop_turns", ("live",), LoopTurns(clock).run),
        beside("own_memory", "live", own_memory),
        beside("kernel_files", "live", kernel_files),
        beside("load", "live", load),
        beside("memory", "ready", memory),
        beside("disk_space", "ready", disk_space),
        beside("state_directory", "live", state_directory, "failed"),
    )


class LoopTurns:
    """Asks a short sleep of the loop, and tells how much longer than asked it took."""

    def __init__(self, clock: Clock, sleep_seconds: float = 0.01) -> None:
        self._clock = clock
        self._sleep_seconds = sleep_seconds

    async def run(self) -> Finding:
        began = self._clock.monotonic_seconds()
        await self._clock.sleep(self._sleep_seconds)
        late = max(0.0, self._clock.monotonic_seconds() - began - self._sleep_seconds)
        if late > MOST_STANDSTILL_SECONDS:
            return Finding(
                "failed", f"the loop stood still for {late:.1f} s; at most {MOST_STANDSTILL_SECONDS:g} s pass"
            )
        return Finding("ok", f"the loop turns, {late * 1000:.0f} ms late")


def own_memory(host: Host) -> Finding:
    """Failed from 90 % of the limit of the control group, or of RLIMIT_AS, on."""
    used = usage(host)
    limits = (
        (used.resident_bytes, memory_limit_bytes(host), "its control group (MemoryMax)"),
        (used.virtual_bytes, limit(host, "Max address space"), "RLIMIT_AS (LimitAS)"),
    )
    for taken, most, whose in limits:
        if most and taken >= MOST_OWN_MEMORY * most:
            return Finding("failed", f"uses {_mib(taken)} of the {_mib(most)} that {whose} allows")
    return Finding("ok", f"uses {_mib(used.resident_bytes)}")


def state_directory(host: Host) -> Finding:
    """Writes a small file and reads it back. A full disk is degraded: the spool lives with it."""
    directory, probe = host.state_dir, host.state_dir / _PROBE
    text = str(os.getpid())
    try:
        probe.write_text(text)
        same = probe.read_text() == text
        probe.unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Finding("degraded", f"{directory} is full; free space on its disk")
        return Finding("failed", f"{directory}: {error.strerror}; the agent's user must be able to write there")
    return (
        Finding("ok", f"{directory} is writable")
        if same
        else Finding("failed", f"{directory} does not keep what is written")
    )


def disk_space(host: Host) -> Finding:
    """Degraded while a tenth or less of the disk under the state directory is free."""
    disk = os.statvfs(host.state_dir)
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    return _share(free, whole, f"of the disk under {host.state_dir} is free")


def memory(host: Host) -> Finding:
    """Degraded while a tenth or less of the machine's memory is available."""
    lines = (host.proc / "meminfo").read_text().splitlines()
    kilobytes = {
        name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest.strip()
    }
    return _share(
        kilobytes["MemAvailable"] * 1024, kilobytes["MemTotal"] * 1024, "of the machine's memory is available"
    )


def load(host: Host) -> Finding:
    """Degraded while more than four tasks for each CPU want to run, on average over five minutes."""
    average, cpus = float((host.proc / "loadavg").read_text().split()[1]), os.cpu_count() or 1
    status: Status = "degraded" if average > MOST_LOAD_PER_CPU * cpus else "ok"
    return Finding(status, f"load {average:g} on {cpus} CPUs; more than {MOST_LOAD_PER_CPU * cpus:g} is a warning")


def kernel_files(host: Host) -> Finding:
    """Degraded where a file that host metrics come from cannot be read: a sandbox that hides it outlives a restart."""
    hidden = [name for name in KERNEL_FILES if not os.access(host.proc / name, os.R_OK)]
    if hidden:
        return Finding("degraded", f"cannot read {', '.join(hidden)} under {host.proc}; see ProcSubset= of the unit")
    return Finding("ok", f"{len(KERNEL_FILES)} files under {host.proc} are readable")


def _share(free: int, whole: int, of_what: str) -> Finding:
    status: Status = "ok" if whole == 0 or free > LEAST_FREE * whole else "degraded"
    return Finding(status, f"{100 * free / whole if whole else 100:.0f} % {of_what} ({_mib(free)})")


def _mib(count: int) -> str:
    mebibytes = count / (1 << 20)
    return f"{mebibytes:.1f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"
