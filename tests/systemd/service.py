"""This file is the agent as a service inside a machine, and what arrives at its destination there."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.systemd.machine import Machine, MachineError

WITHIN_SECONDS = 180.0
LOOK_SECONDS = 0.1
COMMAND = str(Path(sys.prefix) / "bin" / "telemetry-agent")
CONFIG = "/etc/telemetry-agent/config.toml"
ARRIVED = "/var/lib/arrived/logs.jsonl"
UNIT = """
[Service]
Type=notify
ExecStart={command} run --config {config}
StateDirectory=telemetry-agent arrived
RuntimeDirectory=telemetry-agent
Environment=PYTHONDONTWRITEBYTECODE=1
{more}
[Install]
WantedBy=multi-user.target
"""
TABLES = """
[agent]
log_level = "debug"
[serve]
listen = "127.0.0.1:9465"
[process.redact]
enabled = false
[export.file]
path = "{arrived}"
from = ["journal"]
"""


def records(machine: Machine, path: str) -> list[dict[str, Any]]:
    """The records in a file that may be written just now: a line without its end is not there yet."""
    whole, _, _ = machine.read(path).rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line]


class Service:
    """``telemetry-agent.service`` in a machine, sending to a file there."""

    def __init__(self, machine: Machine, name: str = "telemetry-agent.service") -> None:
        self.machine = machine
        self.name = name

    def install(self, tables: str, more: str = "") -> None:
        """Writes configuration and unit; the unit is started at boot from now on, and not yet now."""
        self.machine.write(CONFIG, TABLES.format(arrived=ARRIVED) + tables)
        place = f"/etc/systemd/system/{self.name.replace('@web', '@')}"
        self.machine.write(place, UNIT.format(command=COMMAND, config=CONFIG, more=more))
        self.machine.run("systemctl", "enable", self.name)

    def start(self) -> None:
        """Returns when it has said that it is ready."""
        self.machine.run("systemctl", "start", self.name)

    def stop(self) -> None:
        """Returns when it has ended."""
        self.machine.run("systemctl", "stop", self.name)

    def kill(self) -> None:
        """Kills the agent and nothing else, without a chance to put anything in order; returns when it is gone."""
        self.machine.run("kill", "-KILL", str(self.pid()))
        self.until(lambda: self.show("ActiveState") in ("failed", "inactive"), "it to be gone")

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.machine.run("systemctl", "show", "--value", f"--property={name}", self.name).strip()

    def pid(self) -> int:
        return int(self.show("MainPID"))

    def status(self) -> dict[str, Any]:
        """Its status document."""
        answer = self.machine.run(COMMAND, "status", "--json", "--config", CONFIG)
        status: dict[str, Any] = json.loads(answer)
        return status

    def source(self, name: str) -> dict[str, Any]:
        """What its status says of one source."""
        return next(source for source in self.status()["sources"] if source["name"] == name)

    def metric(self, name: str, **labels: str) -> float:
        """One of its own series, 0 where it has none."""
        script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9465/metrics').read().decode())"
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        for line in self.machine.run("python3", "-c", script).splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and wanted <= set(series.rstrip("}").partition("{")[2].split(",")):
                return float(value)
        return 0.0

    def arrived(self) -> list[dict[str, Any]]:
        """Every record that has arrived, in the order of its arrival."""
        return records(self.machine, ARRIVED)

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Looks again and again. Raises MachineError when it does not come to be."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                said = self.machine.run("journalctl", "-u", self.name, "-n", "20", "-o", "cat", check=False)
                raise MachineError(f"waited in vain for {what}; the agent says:\n{said}")
            time.sleep(LOOK_SECONDS)

    def wait_for_line(self, line: str) -> None:
        """Returns when a record with exactly this line has arrived."""
        self.until(lambda: any(record["line"] == line for record in self.arrived()), f"{line!r} to arrive")
