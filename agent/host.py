"""This file says where the machine lives: /proc, /sys, state and run time are directories, so tests pass their own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket


@dataclass(frozen=True, slots=True)
class Host:
    """The machine the agent runs on, as directories, an environment and a name. ``root`` is where its mounts begin.

    ``written`` are the files this agent writes records or its own log to, links followed; what is rotated has their
    name, a dot, and a day or a number or both. Whoever reads files leaves them alone: each record would come back as
    another one, for ever. ``writers`` counts who writes to each: a reload opens the next one before it closes the last.
    ``sockets`` are those that the service manager holds for us, by name.
    """

    state_dir: Path
    run_dir: Path
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    hostname: str = field(default_factory=lambda: os.uname().nodename)
    written: set[str] = field(default_factory=set, compare=False)
    writers: Counter[str] = field(default_factory=Counter, compare=False)
    sockets: Mapping[str, tuple[socket, ...]] = field(default_factory=dict, compare=False)

    @property
    def spool_dir(self) -> Path:
        """The spool's own directory; nothing opens a file in it except through SQLite."""
        return self.state_dir / "spool"

    @property
    def control_socket(self) -> Path:
        """Where a running agent answers commands."""
        return self.run_dir / "control.sock"
