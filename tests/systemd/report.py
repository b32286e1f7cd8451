"""This file measures an installation in a machine, beside Debian's node_exporter there, and prints a table.

    python -m tests.systemd.report          as root, on what the tests of this folder need; takes two minutes

READY is from `systemctl start` on, with the check of the configuration that goes before; memory is read a minute after
the start, of all processes of the unit, for the control groups of these machines count none.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.systemd import rootfs
from tests.systemd.machine import Machine
from tests.systemd.packaged import NODE_EXPORTER, UNIT, Installed, checkout, python_of, wheels

EXPORTER = "prometheus-node-exporter.service"
EXPORTER_UNIT = Path("/lib/systemd/system") / EXPORTER
SETTLED_SECONDS = 65
TIMES = 5
CONFIG = """
[collect.journal]
start_at = "beginning"
[collect.file]
paths = ["/var/log/*.log"]
start_at = "beginning"
[export.file]
path = "/var/lib/telemetry-agent/arrived.jsonl"
"""


def took(machine: Machine, *command: str) -> float:
    """Milliseconds that a command takes."""
    began = time.monotonic()
    machine.run(*command)
    return (time.monotonic() - began) * 1000


def memory(agent: Installed, unit: str) -> dict[str, float]:
    """Resident and anonymous MiB of a unit's processes."""
    group = agent.show("ControlGroup", unit)
    numbers = agent.machine.read(f"/sys/fs/cgroup{group}/cgroup.procs").split()
    status = "".join(agent.machine.read(f"/proc/{number}/status") for number in numbers)
    return {name: sum(map(int, re.findall(rf"{name}:\s+(\d+)", status))) / 1024 for name in ("VmRSS", "RssAnon")}


def exposure(agent: Installed, unit: str) -> str:
    said = agent.machine.run("systemd-analyze", "security", "--no-pager", unit)
    return str(re.findall(r"exposure level .*: (\d+\.\d+)", said)[0])


def measured(agent: Installed) -> None:
    began = time.monotonic()
    agent.install("--local")
    print(f"install, from wheels, until something has arrived    {time.monotonic() - began:.1f} s")
    agent.machine.write("/etc/telemetry-agent/config.d/report.toml", CONFIG)
    agent.machine.sh(f"useradd --system prometheus; : >/etc/default/{EXPORTER.removesuffix('.service')}")
    agent.machine.run("systemctl", "start", EXPORTER)
    ready, stop = [], []
    for _ in range(TIMES):
        stop.append(took(agent.machine, "systemctl", "stop", UNIT))
        ready.append(took(agent.machine, "systemctl", "start", UNIT))
    print(f"start to READY, fastest and slowest of {TIMES}             {min(ready):.0f} to {max(ready):.0f} ms")
    print(f"stop, the same                                       {min(stop):.0f} to {max(stop):.0f} ms")
    time.sleep(SETTLED_SECONDS)
    agent.get("http://127.0.0.1:9100/metrics")
    for unit in (UNIT, EXPORTER):
        used = memory(agent, unit)
        print(f"{unit:<36} {used['RssAnon']:5.1f} MiB anonymous, {used['VmRSS']:5.1f} resident, exposure", end=" ")
        print(exposure(agent, unit))


def main() -> int:
    if reason := rootfs.missing() or ("" if NODE_EXPORTER else "needs prometheus-node-exporter"):
        print(f"nothing can be measured here: {reason}")
        return 1
    root = rootfs.built()
    offline = wheels(rootfs.CACHE.parent, python_of(root))
    with tempfile.TemporaryDirectory() as folder:
        source = checkout(Path(folder) / "source")
        place = rootfs.CACHE / "machines" / f"{os.getpid()}.report"
        place.mkdir(parents=True)
        with Machine(root, place, [source, offline, Path(str(NODE_EXPORTER)), EXPORTER_UNIT]) as machine:
            measured(Installed(machine, source, offline))
    return 0


if __name__ == "__main__":
    sys.exit(main())
