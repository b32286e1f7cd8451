"""This file makes a Machine out of directories, for tests of the host's collectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from agent.batch import Family
from agent.clock import Clock
from agent.collect.host.machine import Machine
from agent.collect.host.options import HostOptions
from tests.fakes import FakeClock


def machine(
    root: Path, *, proc: Path | None = None, sys: Path | None = None, clock: Clock | None = None, **options: object
) -> Machine:
    """The machine below ``root``: root/proc and root/sys, unless they are given."""
    return Machine(
        proc=str(proc or root / "proc"),
        sys=str(sys or root / "sys"),
        root=str(root),
        clock=clock or FakeClock(),
        options=HostOptions(**options),  # type: ignore[arg-type]
    )


def samples(families: Iterable[Family]) -> dict[str, float]:
    """Every series as text with its value."""
    return {
        name.decode(): value for family in families for name, value in zip(family.series, family.values, strict=True)
    }
