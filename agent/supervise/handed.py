"""This file takes the sockets that the service manager holds for us, so that nobody is refused while we restart.

Source: sd_listen_fds(3). ``LISTEN_FDS`` sockets from descriptor 3 on, for the process ``LISTEN_PID``, named
``LISTEN_FDNAMES`` with colons between (FileDescriptorName= of the socket units):

    metrics       a listening socket: the local endpoint, in the place of [serve] listen
    syslog-tcp    a listening socket       syslog-udp    datagrams       syslog    a unix datagram socket
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Final

log = logging.getLogger("telemetry_agent.supervise")

FIRST_DESCRIPTOR: Final = 3
MOST_SOCKETS: Final = 64
VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def handed_over(environ: Mapping[str, str], pid: int | None = None) -> dict[str, tuple[socket.socket, ...]]:
    """The sockets by name, those of one name in their order; none where there are none, or they are for another
    process. No child of ours inherits them."""
    for_pid, count = environ.get("LISTEN_PID", ""), environ.get("LISTEN_FDS", "")
    if for_pid != str(os.getpid() if pid is None else pid) or not (count.isascii() and count.isdigit()):
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, tuple[socket.socket, ...]] = {}
    for place in range(min(int(count), MOST_SOCKETS)):
        name = names[place] if place < len(names) else "unknown"
        taken = _taken(FIRST_DESCRIPTOR + place, name)
        if taken is not None:
            found[name] = (*found.get(name, ()), taken)
    return found


def _taken(descriptor: int, name: str) -> socket.socket | None:
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
        taken.setblocking(False)
    except OSError as error:
        log.warning("descriptor %d (%s) that the service manager handed over is no socket: %s", descriptor, name, error)
        return None
    return taken
