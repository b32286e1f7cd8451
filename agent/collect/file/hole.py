"""This file passes over holes: long runs of NUL bytes that nobody wrote as text.

A writer that keeps its offset while its file is truncated (copytruncate without O_APPEND), or a machine that lost its
power, leaves a hole of any size before the next line. A file that its writer enlarged in advance ends in one, and it
is waited there until something takes its place.
"""

from __future__ import annotations

import errno
import os

from agent.wire.encoding import HOLE_BYTES

_CHUNK_BYTES = 256 << 10
_HOLE = bytes(HOLE_BYTES)


def is_hole(data: bytes, start: int) -> bool:
    """Whether ``data[start:]`` begins with a hole, or is all NUL bytes as far as it goes."""
    return data[start : start + 1] == b"\0" and not data[start : start + HOLE_BYTES].strip(b"\0")


def ends_in_hole(data: bytes) -> bool:
    """Whether the last bytes are as many NULs as make a hole."""
    return data.endswith(_HOLE)


def past_hole(fd: int, start: int, most_bytes: int) -> int:
    """The offset of the first byte behind ``start`` that is not NUL; less where more than ``most_bytes`` had to be
    read to find it. What a file system keeps no blocks for takes no reading. Raises OSError."""
    at = start = _data_from(fd, start)
    while at - start < most_bytes:
        data = os.pread(fd, _CHUNK_BYTES, at)
        text = data.lstrip(b"\0")
        at += len(data) - len(text)
        if text or not data:
            break
    return at


def _data_from(fd: int, offset: int) -> int:
    """Where the next block with anything in it begins: lseek(2), SEEK_DATA; ``offset`` where nobody can tell."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return os.fstat(fd).st_size
        return offset
