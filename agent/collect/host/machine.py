"""This file is what the collectors of the host are given: where the machine's files are, its clock, their options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.collect.host.options import HostOptions

if TYPE_CHECKING:
    from agent.clock import Clock


class Machine(msgspec.Struct, frozen=True):
    """One machine: its directories as text (/proc, /sys, and where its mounts begin), its clock and the options."""

    proc: str
    sys: str
    root: str
    clock: Clock
    options: HostOptions = HostOptions()
