"""This file is the agent as install.sh installs it in a machine without a network: checkout, wheels, what to look at.

<cache>/wheels/<python>/      every dependency as a wheel, downloaded once by this machine's pip
<cache>/checkouts/…           copies of this repository, one of them with a later version number
the machine                   sees both, read-only, where they are here
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.systemd.machine import Machine, MachineError

REPOSITORY = Path(__file__).parents[2]
PARTS = ("agent", "packaging", "install.sh", "pyproject.toml", "README.md", "LICENSE")
BUILDING = ("pip", "setuptools", "wheel")
"""What installing takes beside the dependencies, where a distribution's venv comes without it."""
ONLY_AS_SOURCE = ("sdnotify",)
UNIT = "telemetry-agent.service"
COMMAND = "/usr/local/bin/telemetry-agent"
CONFIG = "/etc/telemetry-agent/config.toml"
EVERYTHING = "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /dev \\) -prune -o -print"
"""Lists what is on the disk."""
PROMETHEUS = shutil.which("prometheus")
NODE_EXPORTER = shutil.which("prometheus-node-exporter")
WITHIN_SECONDS = 180.0
INSTALL_SECONDS = 600.0
LOOK_SECONDS = 0.1


def checkout(place: Path, version: str = "") -> Path:
    """A copy of what install.sh needs of this repository, under another version number where one is given."""
    place.mkdir(parents=True)
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / part)
    if version:
        module = place / "agent/__init__.py"
        text, changed = re.subn(r'__version__ = "[^"]+"', f'__version__ = "{version}"', module.read_text())
        assert changed == 1
        module.write_text(text)
    return place


def python_of(root: Path) -> str:
    """The version of Python in a root file system, such as 3.11; empty where it is too old for the agent."""
    ran = subprocess.run(["chroot", str(root), "python3", "-V"], capture_output=True, text=True, check=True)
    major, minor = map(int, ran.stdout.split()[1].split(".")[:2])
    return f"{major}.{minor}" if (major, minor) >= (3, 11) else ""


def wheels(cache: Path, python: str) -> Path:
    """Wheels of all that the agent needs, for that Python. Raises RuntimeError with what pip said where it fails."""
    needed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    place = cache / "wheels" / f"{python}-{hashlib.sha256(repr(needed).encode()).hexdigest()[:12]}"
    if not (place / ".complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        source = [name for name in needed if re.split(r"\W", name)[0] in ONLY_AS_SOURCE]
        platforms = [f"--platform={kind}_x86_64" for kind in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
        binary = [*(set(needed) - set(source)), *BUILDING]
        _pip("download", "--only-binary=:all:", f"--python-version={python}", *platforms, "-d", str(place), *binary)
        _pip("wheel", "--no-deps", "-w", str(place), *source)
        (place / ".complete").touch()
    return place


def _pip(*arguments: str) -> None:
    ran = subprocess.run([sys.executable, "-m", "pip", *arguments, "-q"], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"pip {arguments[0]} failed: " + "\n".join(ran.stderr.splitlines()[-5:]))


class Installed:
    """A machine, the checkout that it is installed from, and the service in it."""

    def __init__(self, machine: Machine, source: Path, offline: Path) -> None:
        self.machine = machine
        self.source = source
        self.offline = offline

    def install(self, *arguments: str, source: Path | None = None, **options: Any) -> str:
        """Runs install.sh without a network; returns what it printed. Raises MachineError where it fails."""
        script = str((source or self.source) / "install.sh")
        return self.machine.run(
            script, f"--offline={self.offline}", *arguments, **({"timeout": INSTALL_SECONDS} | options)
        )

    def refused(self, *arguments: str) -> tuple[int, str]:
        """The exit status of install.sh where it does not succeed, and all that it printed."""
        script = ["/bin/sh", "-c", '"$@" 2>&1; echo "exit $?"', "refused", str(self.source / "install.sh"), *arguments]
        said, _, status = self.machine.run(*script, timeout=INSTALL_SECONDS).rstrip().rpartition("exit ")
        return int(status), said

    def show(self, name: str, unit: str = UNIT) -> str:
        """A property of the unit."""
        return self.machine.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def pid(self) -> int:
        return int(self.show("MainPID"))

    def status(self) -> dict[str, Any]:
        """Its status document."""
        answer: dict[str, Any] = json.loads(self.machine.run(COMMAND, "status", "--json"))
        return answer

    def said(self, lines: int = 40) -> str:
        """The end of what it wrote to the journal, all that it has said by now."""
        self.machine.run("journalctl", "--sync")
        return self.machine.run("journalctl", "-u", UNIT, "-n", str(lines), "--no-pager", "-o", "cat", check=False)

    def get(self, url: str) -> str:
        """What a URL inside the machine answers."""
        script = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=20).read().decode())"
        return self.machine.run("python3", "-c", script, url)

    def metrics(self) -> str:
        """Its exposition."""
        return self.get("http://127.0.0.1:9465/metrics")

    def until(self, reached: Callable[[], Any], what: str) -> None:
        """Looks again and again. Raises MachineError when it does not come to be."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                raise MachineError(f"waited in vain for {what}; the agent says:\n{self.said()}")
            time.sleep(LOOK_SECONDS)
