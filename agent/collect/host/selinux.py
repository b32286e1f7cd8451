"""This file reads whether SELinux is on and how strict it is: /sys/fs/selinux and /etc/selinux/config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import attribute
from agent.wire.series import single

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

MODES: Final = {"enforcing": 1.0, "permissive": 0.0, "disabled": -1.0}


class Selinux:
    """It always has something to say: 0 on a machine without SELinux."""

    def __init__(self, machine: Machine) -> None:
        self._enforce = f"{machine.sys}/fs/selinux/enforce"
        self._label = f"{machine.proc}/self/attr/current"
        self._config = f"{machine.root.rstrip('/')}/etc/selinux/config"

    def collect(self) -> Iterable[Family]:
        """Whether it is on; where it is, the configured and the present mode: 1 enforcing, 0 permissive, -1 neither."""
        enforce = attribute(self._enforce)
        on = enforce is not None and (attribute(self._label) or "").rstrip("\0") != "kernel"
        families = [single("node_selinux_enabled", "gauge", "SELinux is enabled, 1 is true, 0 is false", float(on))]
        if on:
            configured = configured_mode(attribute(self._config) or "")
            now = 1.0 if enforce == "1" else 0.0 if enforce == "0" else -1.0
            families += [
                single("node_selinux_config_mode", "gauge", "Configured SELinux enforcement mode", configured),
                single("node_selinux_current_mode", "gauge", "Current SELinux enforcement mode", now),
            ]
        return families


def configured_mode(text: str) -> float:
    """The mode that ``SELINUX=`` names in the configuration; -1 where none does."""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "SELINUX":
            return MODES.get(value.strip().strip('"').lower(), -1.0)
    return -1.0


COLLECTOR: Final = Selinux
