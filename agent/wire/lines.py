"""This file cuts blocks at line ends, without a look at single lines."""

from __future__ import annotations

NEWLINE = b"\n"
UNCOUNTED = -1
"""How many lines there are, where whoever reads them finds out by reading."""


def whole_lines(data: bytes, start: int, max_line_bytes: int) -> tuple[int, bool]:
    """Where the whole lines at ``data[start:]`` end, and whether the line that begins there is too long.

    ``data[start:end]`` are whole lines, newlines included, none with more than ``max_line_bytes`` before its newline.
    The work does not grow with the number of lines: it takes one step for each ``max_line_bytes`` of data, because
    only a stretch of that length without a newline can hold a line that is too long.
    """
    at, size = start, len(data)
    while size - at > max_line_bytes:
        newline = data.rfind(NEWLINE, at, at + max_line_bytes + 1)
        if newline < 0:
            return at, True
        at = newline + 1
    newline = data.rfind(NEWLINE, at)
    return (at if newline < 0 else newline + 1), False


def line_start(data: bytes) -> int:
    """Where the unfinished line at the end of ``data`` begins; 0 when ``data`` holds no newline."""
    return data.rfind(NEWLINE) + 1


def ended(data: bytes) -> bytes:
    """``data`` with the newline that its last line lacks."""
    return data if not data or data.endswith(NEWLINE) else data + NEWLINE
