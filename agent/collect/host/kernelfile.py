"""This file reads what the kernel shows as files: whole, in few calls, and missing ones as NoData."""

from __future__ import annotations

import errno
import os
from typing import Final

from agent.errors import NoData

_CHUNK_BYTES: Final = 1 << 16
ABSENT: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO))
UNSUPPORTED: Final = frozenset((errno.EINVAL, errno.EIO, errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM))
"""What drivers answer for an attribute that their hardware does not have, or that only root may read."""


def read(path: str) -> bytes:
    """The whole file. Raises NoData where it does not exist, OSError where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in ABSENT:
            raise NoData(f"{path} does not exist") from None
        raise
    try:
        data = os.read(descriptor, _CHUNK_BYTES)
        if not data:
            return data
        parts = [data]
        while more := os.read(descriptor, _CHUNK_BYTES):
            parts.append(more)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def attribute(path: str) -> str | None:
    """A file of /sys that holds one value, without white space around it; None where there is none."""
    try:
        return read(path).decode("utf-8", "replace").strip()
    except NoData:
        return None
    except OSError as error:
        if error.errno in ABSENT or error.errno in UNSUPPORTED:
            return None
        raise


def number(path: str) -> float | None:
    """A file of /sys that holds one number; None where there is none, or something else."""
    text = attribute(path)
    try:
        return None if text is None else float(int(text, 16) if text.startswith("0x") else int(text))
    except ValueError:
        return None


def entries(path: str) -> list[str]:
    """Names in a directory, sorted. Raises NoData where there is none, OSError where it cannot be read."""
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        if error.errno in ABSENT:
            raise NoData(f"{path} does not exist") from None
        raise
