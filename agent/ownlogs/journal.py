"""This file hands entries to systemd's journal, each in one datagram, and never waits for it.

    entry ──▶ datagram ──▶ journald
      └── too large for one ──▶ sealed memory, whose descriptor goes in the datagram's place

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. The address is looked up for each: journald may have been started
again, and in a unit with LogNamespace= it is that namespace's.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Final

ADDRESS: Final = "/run/systemd/journal/socket"
_TOO_LARGE: Final = (errno.EMSGSIZE, errno.ENOBUFS)


class Journal:
    """A socket to journald; ``address`` is a path."""

    def __init__(self, address: str = ADDRESS) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def send(self, entry: bytes) -> bool:
        """Whether the journal has it: False where nobody is there, or journald is behind and would have to be waited
        for."""
        try:
            self._socket.sendto(entry, self._address)
        except OSError as error:
            return error.errno in _TOO_LARGE and self._sent_as_memory(entry)
        return True

    def close(self) -> None:
        self._socket.close()

    def _sent_as_memory(self, entry: bytes) -> bool:
        import fcntl

        try:
            memory = os.memfd_create("telemetry-agent-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return False
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        try:
            os.write(memory, entry)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
            held = memory.to_bytes(4, sys.byteorder)
            self._socket.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)], 0, self._address)
        except OSError:
            return False
        finally:
            os.close(memory)
        return True
