"""This file reads the attributes of one directory of /sys: the directory is opened once, each file by its name.

Opened so, a file costs half of what its whole path does. What is not there, or what the driver refuses to say, is None.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Final

from agent.collect.host.kernelfile import ABSENT
from agent.errors import NoData

MOST_BYTES: Final = 128
"""As far as node_exporter reads an attribute: a longer text is cut there, so that its labels are the same."""

_OURS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""What says something of this process, and nothing of the attribute."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC


def attributes(directory: str, names: Iterable[str]) -> list[bytes | None]:
    """What each file holds, without white space around it, in the order of the names; None where it says nothing.

    Raises NoData where the directory does not exist, OSError where it cannot be opened.
    """
    opened = _open(directory)
    try:
        return [_attribute(name, opened) for name in names]
    finally:
        os.close(opened)


def present(directory: str, names: Iterable[str]) -> dict[str, bytes]:
    """What those files hold that exist and say something, by name. Raises as ``attributes`` does."""
    opened = _open(directory)
    try:
        there = set(os.listdir(opened))
        held = {name: _attribute(name, opened) for name in names if name in there}
    finally:
        os.close(opened)
    return {name: data for name, data in held.items() if data is not None}


def number(data: bytes | None) -> float | None:
    """A whole number, decimal or with 0x before it; None where there is none, or something else."""
    if data is None:
        return None
    try:
        return float(int(data, 16) if data[:2] == b"0x" else int(data))
    except (ValueError, OverflowError):
        return None


def text(data: bytes | None) -> str:
    """An attribute as a label: what cannot be UTF-8 is replaced; empty where there is none."""
    return "" if data is None else data.decode("utf-8", "replace")


def _open(directory: str) -> int:
    try:
        return os.open(directory, _DIRECTORY)
    except OSError as error:
        if error.errno in ABSENT:
            raise NoData(f"{directory} does not exist") from None
        raise


def _attribute(name: str, directory: int) -> bytes | None:
    try:
        opened = os.open(name, _FILE, dir_fd=directory)
        try:
            return os.read(opened, MOST_BYTES).strip()
        finally:
            os.close(opened)
    except OSError as error:  # drivers answer all kinds of errors for what their hardware does not have
        if error.errno in _OURS:
            raise
        return None
