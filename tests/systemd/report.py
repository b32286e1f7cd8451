"""This file measures an installation in a machine, beside Debian's node_exporter there, and prints a table.

    python -m tests.systemd.report          as root, on what the tests of this folder need; takes four minutes

READY is from `systemctl start` on, with the check of the configuration that goes before. Memory is read a minute after
the start, with the whole default job: host, journal, files, remote_write, Loki and the endpoint. ``Memory:`` is what
`systemctl show` tells or, where the control groups of these machines count none (this machine has the controller in
version 1), what the kernel charges to a group of this machine's in which PID 1 stood when it started the unit: cold,
when nothing of the agent is in the page cache, as after a boot, and restarted, as after any start but the first.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
[export.remote_write]
url = "http://127.0.0.1:9099/api/v1/write"
[export.loki]
url = "http://127.0.0.1:9099"
"""
SINK = """
import http.server
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9099), Sink).serve_forever()
"""
CONTROLLER = Path("/sys/fs/cgroup/memory")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
MIB = 1 << 20


def took(machine: Machine, *command: str) -> float:
    """Milliseconds that a command takes."""
    began = time.monotonic()
    machine.run(*command)
    return (time.monotonic() - began) * 1000


@contextmanager
def charged(name: str) -> Iterator[Path | None]:
    """A control group of version 1 that counts memory; None where there is no such controller."""
    group = CONTROLLER / f"telemetry-agent-report-{os.getpid()}-{name}"
    if not (CONTROLLER / "memory.usage_in_bytes").exists():
        yield None
        return
    group.mkdir()
    try:
        yield group
    finally:
        for _ in range(100):
            try:
                group.rmdir()
            except OSError:  # its processes are still on their way out
                time.sleep(0.1)
            else:
                break


def started_in(machine: Machine, group: Path | None, unit: str) -> None:
    """Starts a unit so that its processes are counted in ``group``."""
    before = Path(f"/proc/{machine.pid}/cgroup").read_text()
    if group is not None:
        (group / "cgroup.procs").write_text(str(machine.pid))
    machine.run("systemctl", "start", unit)
    if group is not None:
        path = next(line.split(":", 2)[2] for line in before.splitlines() if ":memory:" in line)
        (CONTROLLER / path.strip("/") / "cgroup.procs").write_text(str(machine.pid))


def told(agent: Installed, group: Path | None, unit: str) -> str:
    """What ``Memory:`` of `systemctl status` is, in MiB."""
    shown = agent.show("MemoryCurrent", unit)
    if not shown.isdigit() and group is not None:
        shown = (group / "memory.usage_in_bytes").read_text().strip()
    return f"{int(shown) / MIB:.1f} MiB" if shown.isdigit() else "not counted here"


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
    agent.machine.write("/root/sink.py", SINK)
    sink(agent)
    ready, stop = [], []
    for _ in range(TIMES):
        stop.append(took(agent.machine, "systemctl", "stop", UNIT))
        ready.append(took(agent.machine, "systemctl", "start", UNIT))
    print(f"start to READY, fastest and slowest of {TIMES}             {min(ready):.0f} to {max(ready):.0f} ms")
    print(f"stop, the same                                       {min(stop):.0f} to {max(stop):.0f} ms")
    for start in ("cold", "restarted"):
        at_rest(agent, start)


def at_rest(agent: Installed, start: str) -> None:
    """What both units take a minute after their start."""
    agent.machine.run("systemctl", "stop", UNIT, "sink")
    if start == "cold":
        os.sync()
        DROP_CACHES.write_text("3\n")
    with charged("agent") as ours, charged("exporter") as theirs:
        groups = {UNIT: ours, EXPORTER: theirs}
        for unit, group in groups.items():
            started_in(agent.machine, group, unit)
        sink(agent)  # a Python as well: what it shares with the agent is the agent's, that came first
        time.sleep(SETTLED_SECONDS)
        agent.get("http://127.0.0.1:9100/metrics")
        for unit, group in groups.items():
            used = memory(agent, unit)
            print(f"{unit:<36} {start:<9} Memory: {told(agent, group, unit)},", end=" ")
            print(f"{used['RssAnon']:.1f} MiB anonymous, {used['VmRSS']:.1f} resident,", end=" ")
            print(f"exposure {exposure(agent, unit)}", flush=True)
        agent.machine.run("systemctl", "stop", *groups)


def sink(agent: Installed) -> None:
    agent.machine.run("systemd-run", "-q", "--unit=sink", "python3", "/root/sink.py")


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
