"""This file is the agent as a user without root has it in a machine: install.sh --user, run by that user's systemd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.systemd.machine import Machine
from tests.systemd.packaged import INSTALL_SECONDS, UNIT, Installed

NAME = "ann"
HOME = f"/home/{NAME}"
COMMAND = f"{HOME}/.local/bin/telemetry-agent"
CONFIG_DIR = f"{HOME}/.config/telemetry-agent"
STATE = f"{HOME}/.local/state/telemetry-agent"


def add(machine: Machine) -> None:
    """Makes the user. Nothing runs for them yet: for that they would log in, or root says `loginctl enable-linger`."""
    machine.run("useradd", "--create-home", "--shell", "/bin/bash", NAME)


class OfAUser(Installed):
    """What :class:`Installed` is for the machine, for that user; every command is theirs."""

    def __init__(self, machine: Machine, source: Path, offline: Path) -> None:
        super().__init__(machine, source, offline)
        self.uid = int(machine.run("id", "-u", NAME))

    def run(self, *command: str, check: bool = True, **options: Any) -> str:
        """The output of a command of theirs, who are logged in."""
        return self.machine.run(*self._as_user(), *command, check=check, **options)

    def _as_user(self) -> tuple[str, ...]:
        who = f"--reuid={self.uid}", f"--regid={self.uid}", "--init-groups"
        environ = f"HOME={HOME}", f"USER={NAME}", f"XDG_RUNTIME_DIR=/run/user/{self.uid}"
        return "setpriv", *who, "env", "-C", HOME, *environ

    def sh(self, script: str) -> str:
        return self.run("/bin/bash", "-ec", script)

    def install(self, *arguments: str, source: Path | None = None, **options: Any) -> str:
        script = str((source or self.source) / "install.sh")
        given = {"timeout": INSTALL_SECONDS} | options
        return self.run(script, "--user", f"--offline={self.offline}", *arguments, **given)

    def refused(self, *arguments: str) -> tuple[int, str]:
        script = str(self.source / "install.sh"), "--user", f"--offline={self.offline}", *arguments
        said, _, status = (
            self.run("/bin/sh", "-c", '"$@" 2>&1; echo "exit $?"', "refused", *script, timeout=INSTALL_SECONDS)
            .rstrip()
            .rpartition("exit ")
        )
        return int(status), said

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        return self.run("systemctl", "--user", *arguments, check=check)

    def show(self, name: str, unit: str = UNIT) -> str:
        return self.systemctl("show", "--value", f"--property={name}", unit).strip()

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run(COMMAND, "status", "--json"))
        return answer

    def said(self, lines: int = 40) -> str:
        self.machine.run("journalctl", "--sync")
        return self.run("journalctl", "--user", "-u", UNIT, "-n", str(lines), "--no-pager", "-o", "cat", check=False)
