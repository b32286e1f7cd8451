"""This file reads software RAID: /proc/mdstat (md(4)).

::

    md6 : active raid1 sdb2[2](F) sdc[1](S) sda2[0]
          195310144 blocks [2/1] [U_]
          [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.collect.host.kernelfile import read
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

Rows = dict[tuple[str, ...], tuple[float, ...]]

STATES: Final = ("active", "inactive", "recovering", "resync", "check")
_SYNCING: Final = {"recovery": "recovering", "check": "check", "resync": "resync"}
"""Word of the line below an array: what the array does; the first one that is found there counts."""

_BLOCKS: Final = re.compile(r"\s*(\d{1,19})(?!\S)")
_WORKING: Final = re.compile(r"\[(\d{1,9})/(\d{1,9})\] \[[U_]+\]")
_SYNCED: Final = re.compile(r"\((\d{1,19})/\d+\)")
_STRIPED: Final = ("raid0", "linear")
"""Levels that work whole or not at all, and do not say how many disks they have."""


class Array(NamedTuple):
    """One array: what it does, its disks, and its blocks of 1024 bytes."""

    name: str
    state: str
    active: int
    required: int
    failed: int
    spare: int
    blocks: int
    synced: int


class Mdadm:
    """Raises NoData where the kernel has no arrays, ValueError on a file of another form."""

    def __init__(self, machine: Machine) -> None:
        self._path = f"{machine.proc}/mdstat"
        self._arrays = Table(
            ("device",),
            Metric("node_md_blocks", "gauge", "Total number of blocks on device."),
            Metric("node_md_blocks_synced", "gauge", "Number of blocks synced on device."),
            Metric("node_md_disks_required", "gauge", "Total number of disks of device."),
        )
        self._disks = Table(
            ("device", "state"),
            Metric("node_md_disks", "gauge", "Number of active/failed/spare disks of device."),
        )
        self._states = Table(
            ("device", "state"),
            Metric("node_md_state", "gauge", "Indicates the state of md-device."),
        )

    def collect(self) -> Iterable[Family]:
        """Rows for each array; of its states, the one it is in is 1."""
        arrays = parse(read(self._path))
        sizes: Rows = {(array.name,): (array.blocks, array.synced, array.required) for array in arrays}
        disks: Rows = {
            (array.name, state): (number,)
            for array in arrays
            for state, number in (("active", array.active), ("failed", array.failed), ("spare", array.spare))
        }
        states: Rows = {(array.name, state): (float(state == array.state),) for array in arrays for state in STATES}
        return [*self._arrays.families(sizes), *self._disks.families(disks), *self._states.families(states)]


def parse(data: bytes) -> list[Array]:
    """The arrays of the file. Raises ValueError on a file of another form."""
    lines = data.decode("utf-8", "replace").split("\n")
    return [_array(lines[at : at + 4]) for at, line in enumerate(lines) if _begins(line)]


def _begins(line: str) -> bool:
    return not (line.isspace() or line.startswith((" ", "Personalities", "unused"))) if line else False


def _array(lines: list[str]) -> Array:
    head, *below = lines
    words = head.split()
    if len(words) < 3 or len(below) < 2:
        raise ValueError(f'mdstat: "{head[:80]}" is not an array with its lines')
    blocks = _BLOCKS.match(below[0])
    if blocks is None:
        raise ValueError(f'mdstat: {words[0]}: "{below[0][:80]}" tells no blocks')
    size = int(blocks[1])
    required, active = _disks(head, below[0])
    sync = below[2] if "bitmap" in below[1] and len(below) > 2 else below[1]
    state, synced = _progress(words[2], size, sync)
    return Array(words[0], state, active, required, head.count("(F)"), head.count("(S)"), size, synced)


def _disks(head: str, status: str) -> tuple[int, int]:
    """How many disks an array should have, and how many work."""
    if any(level in head for level in _STRIPED):
        disks = head.count("[")
        return disks, disks
    if "inactive" in head:
        return 0, 0
    working = _WORKING.search(status)
    if working is None:
        raise ValueError(f'mdstat: "{status[:80]}" tells no disks')
    return int(working[1]), int(working[2])


def _progress(state: str, size: int, line: str) -> tuple[str, int]:
    """What an array does, and how many of its blocks are in step; all of them when it does nothing."""
    syncing = next((state for word, state in _SYNCING.items() if word in line), None)
    if syncing is None:
        return state, size
    if "PENDING" in line or "DELAYED" in line:
        return syncing, 0
    synced = _SYNCED.search(line)
    if synced is None:
        raise ValueError(f'mdstat: "{line[:80]}" tells no progress')
    return syncing, int(synced[1])


COLLECTOR: Final = Mdadm
