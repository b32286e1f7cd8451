"""This file takes the sockets that the service manager holds for us, so that nobody is refused while we restart.

Source: sd_listen_fds(3). ``LISTEN_FDS`` sockets from descriptor 3 on, for the process ``LISTEN_PID``, named
``LISTEN_FDNAMES`` with colons between (FileDescriptorName= of the socket units):

    metrics       a listening socket: the local endpoint, in the place of [serve] listen
    syslog-tcp    a listening socket; syslog-tls as well
    syslog-udp    datagrams
    syslog        a unix datagram socket

A socket of another kind or name is not used and said; what is configured goes on without it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

FIRST_DESCRIPTOR: Final = 3
MOST_SOCKETS: Final = 64

INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
KINDS: Final = {
    "metrics": (INTERNET, socket.SOCK_STREAM, "ListenStream= with a port"),
    "syslog-tcp": (INTERNET, socket.SOCK_STREAM, "ListenStream= with a port"),
    "syslog-tls": (INTERNET, socket.SOCK_STREAM, "ListenStream= with a port"),
    "syslog-udp": (INTERNET, socket.SOCK_DGRAM, "ListenDatagram= with a port"),
    "syslog": ((socket.AF_UNIX,), socket.SOCK_DGRAM, "ListenDatagram= with a path"),
}
"""What each of the names is, and what makes it that in a socket unit."""


def handed_over(
    environ: Mapping[str, str], pid: int | None = None, troubles: list[str] | None = None
) -> dict[str, tuple[socket.socket, ...]]:
    """The sockets by name, those of one name in their order; none where there are none, or they are for another
    process. No child of ours inherits them. What is not what its name says is closed, and put into ``troubles``."""
    for_pid, count = environ.get("LISTEN_PID", ""), environ.get("LISTEN_FDS", "")
    if for_pid != str(os.getpid() if pid is None else pid) or not (count.isascii() and count.isdigit()):
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, tuple[socket.socket, ...]] = {}
    troubles = [] if troubles is None else troubles
    for place in range(min(int(count), MOST_SOCKETS)):
        name = names[place] if place < len(names) else "unknown"
        taken = _taken(FIRST_DESCRIPTOR + place, name, troubles)
        if taken is not None:
            found[name] = (*found.get(name, ()), taken)
    if int(count) > MOST_SOCKETS:
        troubles.append(f"the service manager handed over {count} sockets; {MOST_SOCKETS} were looked at")
    return found


def _taken(descriptor: int, name: str, troubles: list[str]) -> socket.socket | None:
    what = f"descriptor {descriptor} ({name}), which the service manager handed over,"
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError as error:
        troubles.append(f"{what} is no socket and is left alone: {error.strerror}")
        return None
    if wrong := _wrong(taken, name):
        troubles.append(f"{what} is not used: {wrong}")
        taken.close()
        return None
    taken.setblocking(False)
    return taken


def _wrong(taken: socket.socket, name: str) -> str:
    """Why it cannot be what its name says; nothing where it can."""
    if name not in KINDS:
        return f"the names are {', '.join(KINDS)}; set FileDescriptorName= in the socket unit"
    families, kind, how = KINDS[name]
    listens = kind != socket.SOCK_STREAM or bool(taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    if taken.family not in families or taken.type != kind or not listens:
        return f"it is no such socket; give {how} and no Accept=yes in the socket unit"
    return ""
