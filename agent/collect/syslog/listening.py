"""This file opens the sockets that syslog comes in by, and removes what it made when they are closed.

    option        socket                      what waits when nothing is taken in
    udp_listen    datagrams, IPv4 or IPv6     nobody: the kernel drops, and counts
    tcp_listen    connections                 the sender, once both kernels' buffers are full
    tls_listen    connections with TLS        the same
    unix_path     datagrams of this machine   the sender

Where the service manager holds sockets for an option, those are taken in its place; ours are copies, so that theirs go
on listening while the source is opened again.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.collect.syslog.options import split_listen
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.collect.syslog.options import SyslogOptions

BACKLOG: Final = 1024
SO_RCVBUFFORCE: Final = 33
"""socket(7); Python has no name for it."""

HANDED: Final = {
    "udp_listen": "syslog-udp",
    "tcp_listen": "syslog-tcp",
    "tls_listen": "syslog-tls",
    "unix_path": "syslog",
}
"""What the service manager calls the sockets it holds for an option."""

_NEXT_STEPS: Final = {
    errno.EADDRINUSE: "another program listens there; stop it or choose another",
    errno.EACCES: "this user may not; below port 1024 the unit needs AmbientCapabilities=CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address (ip addr lists them)",
    errno.ENOENT: "there is no such directory; make it or choose another path",
}


class Listening(Struct, frozen=True):
    """One socket and the option it is for; ``made`` is the device and inode of the path made for it, and ``handed``
    says that the service manager holds it too: what waits there waits for whoever comes next."""

    option: str
    socket: socket.socket
    path: str = ""
    made: tuple[int, int] = (0, 0)
    handed: bool = False

    @property
    def shown(self) -> str:
        """Where it listens, for people."""
        if isinstance(name := self.socket.getsockname(), str):
            return name
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Closes the socket and removes its path, if that still is the one made for it."""
        self.socket.close()
        if self.path:
            with suppress(OSError):
                if _identity(self.path) == self.made:
                    os.unlink(self.path)


def listening(options: SyslogOptions, handed: Mapping[str, Sequence[socket.socket]] | None = None) -> list[Listening]:
    """Every socket that the options name, bound and not blocking. Raises AgentError, all of them closed again.

    ``handed`` are sockets that the service manager holds, by name.
    """
    opened: list[Listening] = []
    try:
        for option, where in options.listening.items():
            try:
                held = (handed or {}).get(HANDED[option], ())
                opened += [Listening(option, each.dup(), handed=True) for each in held] or [
                    _opened(option, where, options)
                ]
            except OSError as error:
                step = _NEXT_STEPS.get(error.errno or 0, error.strerror or str(error))
                raise AgentError(f'{option} = "{where}": {step}') from error
        for each in opened:
            each.socket.setblocking(False)
    except BaseException:  # interrupted as well: they have no other owner yet
        for each in opened:
            each.close()
        raise
    return opened


def _opened(option: str, where: str, options: SyslogOptions) -> Listening:
    if option == "unix_path":
        return _unix(where, int(options.unix_mode, 8))
    host, port = split_listen(where)
    kind = socket.SOCK_DGRAM if option == "udp_listen" else socket.SOCK_STREAM
    family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
    made = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_DGRAM:
            _enlarge(made, options.receive_buffer_bytes)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What is accepted inherits it. Left out, the kernel would let each grow to net.ipv4.tcp_rmem, 6 MB.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.connection_buffer_bytes // 2)
        made.bind(address)
        if kind == socket.SOCK_STREAM:
            made.listen(BACKLOG)
    except BaseException:  # interrupted as well
        made.close()
        raise
    return Listening(option, made)


def _enlarge(made: socket.socket, size_bytes: int) -> None:
    """The kernel doubles what it is asked for, to have room for its own (socket(7), SO_RCVBUF)."""
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size_bytes // 2)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes // 2)


def _unix(path: str, mode: int) -> Listening:
    """A socket at ``path``, in the place of one that nobody listens at any more."""
    if _answers(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        made.bind(path)
        os.chmod(path, mode)
        return Listening("unix_path", made, path, _identity(path))
    except BaseException:  # interrupted as well
        made.close()
        raise


def _answers(path: str) -> bool:
    """Whether somebody listens there. Raises OSError where it is something else than a socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, f"{path} is there and is no socket; remove it or choose another path")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as error:
            return error.errno == errno.EPROTOTYPE
    return True


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
