"""This file asks mounted Btrfs file systems for their devices: sizes, and the errors that each had.

The kernel tells this through ioctl(2) on any directory of the file system (include/uapi/linux/btrfs.h); some tell it
only to root::

    FS_INFO         max_id u64, num_devices u64, fsid 16 bytes, …
    DEV_INFO        devid u64 (asked), uuid 16 bytes, bytes_used u64, total_bytes u64, …, path 1024 bytes at the end
    GET_DEV_STATS   devid u64 (asked), nr_items u64 (asked), flags u64, errors 5 × u64, …
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_FS_INFO: Final = (0x8400941F, 1024)
_DEV_INFO: Final = (0xD000941E, 4096)
_GET_DEV_STATS: Final = (0xC4089434, 1032)
"""Number of the request, and bytes of its argument."""

_PATH_BYTES: Final = 1024
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
_OCTAL: Final = re.compile(r"\\([0-7]{3})")

ERRORS: Final = ("write", "read", "flush", "corruption", "generation")
"""Kinds of errors in the order in which the kernel tells them."""

MOST_DEVICES: Final = 1024
"""Device numbers that are asked for, of one file system."""


class Device(NamedTuple):
    """One device: its number as text, its name, bytes in all and unused, and errors in the order of ERRORS."""

    uuid: str
    name: str
    size_bytes: float
    unused_bytes: float
    errors: tuple[float, ...]


def mount_points(mounts: bytes) -> dict[str, str]:
    """One place where each Btrfs device is mounted, out of /proc/1/mounts (fstab(5))."""
    found: dict[str, str] = {}
    for line in mounts.decode("utf-8", "surrogateescape").splitlines():
        device, place, kind, *_ = (*line.split(" "), "", "", "")
        if kind == "btrfs":
            found.setdefault(device, _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), place))
    return found


def devices(directory: str) -> tuple[str, list[Device]]:
    """The file system's identity, as its directory in /sys is named, and its devices.

    Raises PermissionError where only root may ask, another OSError where this is no such file system.
    """
    opened = os.open(directory, _DIRECTORY)
    try:
        answer = _ask(opened, _FS_INFO, b"")
        most, number = struct.unpack_from("=QQ", answer)
        found = _devices(opened, min(most, MOST_DEVICES), number)
        return _dashed(answer[16:32]), list(found)
    finally:
        os.close(opened)


def _devices(opened: int, most: int, number: int) -> Iterator[Device]:
    """Numbers do not begin at 1 and have gaps: those that are not there are left out."""
    found = 0
    for devid in range(most + 1):
        try:
            device = _device(opened, devid)
        except OSError as error:
            if error.errno == errno.ENODEV:
                continue
            raise
        yield device
        found += 1
        if found == number:
            return


def _device(opened: int, devid: int) -> Device:
    info = _ask(opened, _DEV_INFO, struct.pack("=Q", devid))
    used, size = struct.unpack_from("=QQ", info, 24)
    path = info[-_PATH_BYTES:].split(b"\0", 1)[0].decode("utf-8", "replace")
    stats = _ask(opened, _GET_DEV_STATS, struct.pack("=QQ", devid, len(ERRORS)))
    errors = struct.unpack_from(f"={len(ERRORS)}Q", stats, 24)
    return Device(_dashed(info[8:24]), path.rpartition("/")[2], size, size - used, errors)


def _ask(opened: int, request: tuple[int, int], question: bytes) -> bytes:
    number, size = request
    argument = bytearray(question.ljust(size, b"\0"))
    fcntl.ioctl(opened, number, argument)
    return bytes(argument)


def _dashed(identity: bytes) -> str:
    """A UUID of 16 bytes as text."""
    text = identity.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
