"""This file tells files apart: by device, inode and birth time, and by fingerprints of what they hold.

The key of a file is ``device:inode:birth`` in hexadecimal, birth in nanoseconds and 0 where the file system does
not tell. A birth time makes a new file on a reused inode another key at once. Without one, and after a
truncation, two fingerprints tell: of the first bytes of the file, and of the bytes right before the offset.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from functools import cache
from hashlib import blake2b
from typing import Any

from msgspec import Struct

Inode = tuple[int, int]
"""Device and inode number."""

PREFIX_BYTES = 1024
BEFORE_BYTES = 256

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
STATX_BTIME = 0x800
_STATX_BYTES = 256
_BIRTH = struct.Struct("=qI")  # struct statx_timestamp of linux/stat.h, stx_btime lies at byte 80


class Replaced(OSError):
    """Another file lies at the path than the one that was asked for."""


class Fingerprint(Struct, frozen=True):
    """The first ``length`` bytes of something, as 64 bits of BLAKE2b in hexadecimal."""

    length: int
    digest: str

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        """The fingerprint of all of ``data``."""
        return cls(len(data), blake2b(data, digest_size=8).hexdigest()) if data else NOTHING

    def holds(self, data: bytes) -> bool:
        """Whether ``data`` begins with what the fingerprint was taken of."""
        return len(data) >= self.length and (not self.length or Fingerprint.of(data[: self.length]) == self)


NOTHING = Fingerprint(0, "")
"""The fingerprint of no bytes; everything begins with it."""

GONE = "gone:"
"""What stands before the key of a file that cannot come back, and may lie somewhere compressed."""


def inode_of(status: os.stat_result) -> Inode:
    """Device and inode number."""
    return status.st_dev, status.st_ino


def key_of(inode: Inode, born_ns: int) -> str:
    """What a file is known by across restarts: device, inode number and time of birth, in hexadecimal."""
    return f"{inode[0]:x}:{inode[1]:x}:{born_ns:x}"


def gone_key(key: str, prefix: Fingerprint) -> str:
    """What the position of a file is kept under that was deleted or truncated; the inode may be another one's soon."""
    return f"{GONE}{key}:{prefix.digest}"


def file_key(key: str) -> str:
    """The key of the file itself."""
    return key.removeprefix(GONE).rpartition(":")[0] if key.startswith(GONE) else key


def inode_of_key(key: str) -> Inode | None:
    """Device and inode of a key, or None where ``key`` is not one."""
    parts = file_key(key).split(":")
    try:
        device, number, _born = (int(part, 16) for part in parts)
    except ValueError:
        return None
    return device, number


def born_ns_of_key(key: str) -> int:
    """The birth time in a key, 0 where nobody knows it."""
    return int(file_key(key).split(":")[2], 16)


def key_at(path: str, inode: Inode) -> str:
    """The key of the file at ``path``; raises OSError, Replaced where it is not ``inode``."""
    born_ns = born_at_ns(AT_FDCWD, path)
    if inode_of(os.stat(path)) != inode:
        raise Replaced(errno.ESTALE, "another file took its place", path)
    return key_of(inode, born_ns)


def key_of_open(fd: int) -> str:
    """The key of an open file. Raises OSError."""
    return key_of(inode_of(os.fstat(fd)), born_at_ns(fd, ""))


def born_at_ns(fd: int, path: str) -> int:
    """When a file was made, by statx(2), in nanoseconds since the epoch; 0 where nobody knows."""
    statx = _statx()
    if statx is None:
        return 0
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    flags = AT_EMPTY_PATH if not path else 0
    if statx(fd, os.fsencode(path), flags, STATX_BTIME, buffer) != 0:
        return 0
    if not struct.unpack_from("=I", buffer, 0)[0] & STATX_BTIME:
        return 0
    seconds, nanoseconds = _BIRTH.unpack_from(buffer, 80)
    return max(0, int(seconds) * 1_000_000_000 + int(nanoseconds))


@cache
def _statx() -> Any:
    """glibc has it since 2.28, musl since 1.2.5; None elsewhere."""
    return getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


def open_regular(path: str, inode: Inode) -> int:
    """A descriptor of the regular file ``inode`` at ``path``; raises OSError, Replaced where it is not there.

    Nothing else is ever opened: it is looked at first, because opening a device may act and opening a FIFO wakes
    its writer. O_NONBLOCK covers the moment in between.
    """
    _expect(os.stat(path), inode, path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _expect(os.fstat(fd), inode, path)
    except OSError:
        os.close(fd)
        raise
    return fd


def _expect(status: os.stat_result, inode: Inode, path: str) -> None:
    if inode_of(status) != inode or not stat.S_ISREG(status.st_mode):
        raise Replaced(errno.ESTALE, "another file took its place", path)
