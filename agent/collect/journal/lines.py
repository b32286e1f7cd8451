"""This file puts what came through the pipe together to whole lines, and bounds what is kept of an unfinished one."""

from __future__ import annotations

NEWLINE = b"\n"


class Lines:
    """The unfinished end of what was read. A line of more than ``most_bytes`` is passed over and counted."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False
        self.too_long = 0
        """How many lines were passed over."""

    def feed(self, data: bytes) -> bytes:
        """The whole lines there are now, newlines included."""
        end = data.rfind(NEWLINE) + 1
        if not end:
            self._keep(data)
            return b""
        if self._skipping:
            start = data.index(NEWLINE) + 1
            self._skipping, whole = False, data[start:end]
        else:
            whole = b"".join((*self._parts, data[:end])) if self._parts else data[:end]
        self._parts, self._size = [], 0
        self._keep(data[end:])
        return whole

    def _keep(self, rest: bytes) -> None:
        if self._skipping or not rest:
            return
        self._parts.append(rest)
        self._size += len(rest)
        if self._size > self.most_bytes:
            self._parts, self._size, self._skipping = [], 0, True
            self.too_long += 1
