"""This file reads datagrams: each is a message. What the kernel had no room for is told by its own count."""

from __future__ import annotations

import socket
import struct
from collections import defaultdict
from typing import Final

from agent.wire.syslogframes import Framed, piece_of, without_ends

MOST_DATAGRAMS: Final = 1024
"""Read in one go, before others have their turn."""
SO_MEMINFO: Final = 55
"""asm-generic/socket.h; getsockopt gives nine numbers (linux/sock_diag.h, SK_MEMINFO_VARS)."""
_MEMINFO: Final = struct.Struct("9I")
_DROPS: Final = 8
_COUNTER: Final = 1 << 32


class Datagrams:
    """One socket of datagrams. ``cut`` goes up with each that is longer than ``most_bytes``."""

    def __init__(self, bound: socket.socket, most_bytes: int) -> None:
        self.socket = bound
        self._most = most_bytes
        self._dropped = dropped_of(bound)
        self.received = 0

    def read(self, view: memoryview) -> dict[str, Framed]:
        """What is there, by the sender's address."""
        found: dict[str, list[bytes]] = defaultdict(list)
        framed: dict[str, Framed] = {}
        view = view[: self._most]
        receive, most = self.socket.recvfrom_into, self._most
        for _ in range(MOST_DATAGRAMS):
            try:
                size, address = receive(view, 0, socket.MSG_TRUNC)
            except (BlockingIOError, InterruptedError):
                break
            peer = address[0] if address and not isinstance(address, (str, bytes)) else ""
            found[peer].append(bytes(view[:size]))
            if size > most:
                each = framed.setdefault(peer, Framed([]))
                each.cut += 1
                each.cut_bytes += size - most
        for peer, messages in found.items():
            self.received += len(messages)
            if kept := without_ends(messages):
                framed.setdefault(peer, Framed([])).pieces.append(piece_of(kept))
        return framed

    def newly_dropped(self) -> int:
        """How many datagrams the kernel has dropped since the last look."""
        dropped = dropped_of(self.socket)
        new, self._dropped = (dropped - self._dropped) % _COUNTER, dropped
        return new


def dropped_of(bound: socket.socket) -> int:
    """The kernel's count of what it dropped at this socket, which wraps at 32 bits; 0 where it keeps none."""
    try:
        return int(_MEMINFO.unpack(bound.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))[_DROPS])
    except (OSError, struct.error):
        return 0
