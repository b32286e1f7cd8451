"""This file reads one connection: plain or TLS, a part at a time, cut into messages.

accepted ──▶ shaking hands (TLS) ──▶ read ──▶ ended · reset · idle · closed by us, once what had come is read
"""

from __future__ import annotations

import socket
import ssl
import sys
from contextlib import suppress
from typing import Final, Literal

from agent.wire.syslogframes import Framed, Framer

_WAITS: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError)
SMALLEST_READ_BYTES: Final = 16 << 10
"""What one record of TLS holds: a part of it would be left where epoll does not see it."""


class Refused(Exception):
    """The handshake failed, or nothing came of it in time."""


class Connection:
    """One sender's connection, not blocking. ``seen_seconds`` is when anything came last."""

    __slots__ = ("framer", "peer", "seen_seconds", "shaking", "socket")

    def __init__(self, made: socket.socket, peer: str, most_bytes: int, now_seconds: float) -> None:
        self.socket = made
        self.peer = peer
        self.framer = Framer(most_bytes)
        self.seen_seconds = now_seconds
        self.shaking = isinstance(made, ssl.SSLSocket)

    def shake(self) -> Literal["read", "write", "done"]:
        """Goes on with the handshake: done, or what it waits for. Raises Refused."""
        try:
            self.socket.do_handshake()  # type: ignore[attr-defined]  # it is an SSLSocket while it shakes hands
        except ssl.SSLWantReadError:
            return "read"
        except ssl.SSLWantWriteError:
            return "write"
        except (OSError, ValueError) as error:
            raise Refused(getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)) from error
        self.shaking = False
        return "done"

    def read(self, view: memoryview) -> tuple[Framed | None, bool]:
        """What came, through ``view``; None for nothing. True where the connection has ended."""
        at, ended = 0, False
        try:
            while len(view) - at >= SMALLEST_READ_BYTES:
                size = self.socket.recv_into(view[at:])
                at += size
                ended = not size
                if ended or not isinstance(self.socket, ssl.SSLSocket):
                    break
        except (*_WAITS, ssl.SSLWantWriteError):
            pass
        except OSError:  # reset, or no TLS any more; what came before is whole
            ended = True
        return (self.framer.feed(bytes(view[:at])) if at else None), ended

    def leave(self) -> None:
        """Tells the sender that we end, and goes on reading: one that looks before it sends (as rsyslog does) connects
        again with what it has. TLS knows no such half."""
        if not isinstance(self.socket, ssl.SSLSocket):
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def unread_bytes(self) -> int:
        """What the kernel holds of it that nobody has read; a handshake is nothing to read."""
        import fcntl
        import termios

        if self.shaking:
            return 0
        try:
            return int.from_bytes(fcntl.ioctl(self.socket.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    def close(self) -> None:
        """Closes it; a TLS sender is told, if that can be done at once."""
        if isinstance(self.socket, ssl.SSLSocket) and not self.shaking:
            with suppress(OSError, ValueError):
                self.socket.unwrap()
        self.socket.close()
