"""This file reads all sockets of syslog through one epoll, each in its turn, and only when it is asked to.

    listening ──▶ accepted ──▶ connections ─┐
    datagrams ─────────────────────────────┴──take──▶ messages by sender

A source that ends leaves first: nobody is let in any more, senders are told, and what they had sent is read.

Nothing reads ahead: what is not asked for stays with the kernel, whose buffers are bounded and make senders wait, or
with UDP drop, which is counted. What is held here are messages that have begun and not ended.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any, Final, Literal

from agent.collect.syslog.connection import Connection, Refused
from agent.collect.syslog.datagrams import Datagrams
from agent.collect.syslog.listening import BACKLOG
from agent.ownlogs.lines import Repeating

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from agent.collect.syslog.batches import Sent
    from agent.collect.syslog.listening import Listening
    from agent.collect.syslog.options import SyslogOptions
    from agent.contract import Context
    from agent.wire.syslogframes import Framed

log = logging.getLogger("telemetry_agent.collect")

CONNECTIONS: Final = "telemetry_agent_syslog_connections"
REFUSED: Final = "telemetry_agent_syslog_refused_total"
UNFINISHED: Final = "telemetry_agent_syslog_unfinished_total"
LINES_CUT: Final = "telemetry_agent_lines_cut_total"
LOST: Final = "telemetry_agent_source_lost_total"
ENDED: Final = "ended"

READ_BYTES: Final = 256 << 10
"""Most that is read from one socket before others have their turn."""
MOST_EVENTS: Final = 256
MOST_POLLS: Final = 4
MOST_ACCEPTED: Final = 64
LOOK_SECONDS: Final = 2.0
HANDSHAKE_SECONDS: Final = 10.0
ON_ITS_WAY_SECONDS: Final = 0.05
"""How long, when we leave, something more is waited for of senders that have said something, or come, just now."""
LIVELY_SECONDS: Final = 1.0
LEAVING_SECONDS: Final = 0.25
"""How long senders that send on and on are read when we leave."""
_V4_IN_V6: Final = "::ffff:"
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Sockets:
    """The sockets of one ``[collect.syslog]``. ``take`` never waits; ``fileno`` is readable when it would find some."""

    def __init__(
        self, options: SyslogOptions, context: Context, listening: Sequence[Listening], tls: ssl.SSLContext | None
    ) -> None:
        self._options = options
        self._clock = context.clock
        self._meter = context.meter
        self._name = context.name
        self._tls = tls
        self._listening = listening
        self._datagrams: dict[int, tuple[Listening, Datagrams]] = {}
        self._accepting: dict[int, Listening] = {}
        self._connections: dict[int, Connection] = {}
        self._senders: Counter[str] = Counter()
        self._held_bytes = 0
        self._accepted = self._messages = 0
        self._refused: Counter[str] = Counter()
        self._resting: set[int] = set()
        self._ready: deque[int] = deque()
        self._looked_at = self._clock.monotonic_seconds()
        self._leave_by = 0.0
        self._troubles = defaultdict[str, Repeating](lambda: Repeating(log, self._clock.monotonic_seconds))
        self._view = memoryview(bytearray(max(READ_BYTES, options.max_message_bytes)))
        self._epoll = select.epoll()
        for each in listening:
            number = each.socket.fileno()
            if each.option in ("udp_listen", "unix_path"):
                self._datagrams[number] = each, Datagrams(each.socket, options.max_message_bytes)
            else:
                self._accepting[number] = each
            self._epoll.register(number, select.EPOLLIN)

    def fileno(self) -> int:
        """What to wait for."""
        return self._epoll.fileno()

    @property
    def waiting(self) -> bool:
        """Whether there is something left to read of which the descriptor may not tell."""
        return bool(self._ready)

    def take(self, most_bytes: int) -> list[Sent]:
        """What there is, about ``most_bytes`` of it; sockets that did not have their turn have it next time."""
        sent: list[Sent] = []
        size_bytes = polls = 0
        now = self._clock.monotonic_seconds()
        while size_bytes < most_bytes:
            if not self._ready:
                polls += 1
                events = self._epoll.poll(0, MOST_EVENTS) if polls <= MOST_POLLS else ()
                self._ready.extend(number for number, _ in events)
            if not self._ready:
                break
            size_bytes += self._turn(self._ready.popleft(), now, sent)
        if now - self._looked_at >= LOOK_SECONDS:
            self._look(now, sent)
        return sent

    def leave(self) -> None:
        """Lets nobody in any more, and tells those who are in. Who waits at a socket that the service manager holds
        waits there for whoever comes next; who waits at one of ours has been let in before."""
        now = self._clock.monotonic_seconds()
        self._leave_by = now + LEAVING_SECONDS
        for number, listening in self._accepting.items():
            for _ in range(BACKLOG // MOST_ACCEPTED):
                if listening.handed or not self._accept(listening, now):
                    break
            if number not in self._resting:
                self._epoll.unregister(number)
        for number, (listening, _) in [*self._datagrams.items()]:
            if listening.handed:
                self._epoll.unregister(number)
        self._accepting.clear()
        self._resting.clear()
        for connection in self._connections.values():
            connection.leave()

    def take_last(self, most_bytes: int) -> tuple[list[Sent], bool]:
        """What is left once we leave, about ``most_bytes`` of it, and whether there may be more. It waits a moment for
        what is on its way; then the connections are closed."""
        sent = self.take(most_bytes)
        now = self._clock.monotonic_seconds()
        if not sent and any(now - each.seen_seconds < LIVELY_SECONDS for each in self._connections.values()):
            self._epoll.poll(ON_ITS_WAY_SECONDS, 1)
            sent = self.take(most_bytes)
        more = bool(sent) and now < self._leave_by
        if not more:
            for connection in [*self._connections.values()]:
                self.count_lost(connection.unread_bytes())
                self._end(connection, sent)
        return sent, more

    def close(self) -> None:
        """Closes everything and removes what was made; what has not been read by then is lost, and counted."""
        for connection in [*self._connections.values()]:
            self.count_lost(connection.unread_bytes() + connection.framer.held_bytes)
            self._forget(connection)
        for each in self._listening:
            each.close()
        self._epoll.close()

    def count_lost(self, size_bytes: int) -> None:
        """Counts what had come and could not be taken in before the source ended."""
        if size_bytes:
            self._meter.add(LOST, size_bytes, (self._name, ENDED))

    def status(self) -> dict[str, Any]:
        """What /status shows."""
        return {
            "listening": {each.option: each.shown for each in self._listening if each.socket.fileno() >= 0},
            "messages": self._messages,
            "connections": len(self._connections),
            "accepted": self._accepted,
            "refused": dict(self._refused),
            "unfinished_bytes": self._held_bytes,
            "receive_buffer_bytes": {
                listening.option: listening.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
                for listening, _ in self._datagrams.values()
            },
        }

    def _turn(self, number: int, now: float, sent: list[Sent]) -> int:
        """Reads what is at one descriptor. Returns how many bytes."""
        if (connection := self._connections.get(number)) is not None:
            return self._read(connection, now, sent)
        if (datagrams := self._datagrams.get(number)) is not None:
            return self._receive(*datagrams, sent)
        if (listening := self._accepting.get(number)) is not None:
            self._accept(listening, now)
        return 0

    # Datagrams

    def _receive(self, listening: Listening, datagrams: Datagrams, sent: list[Sent]) -> int:
        size_bytes = 0
        for peer, framed in datagrams.read(self._view).items():
            size_bytes += self._took(_shown(peer), framed, sent)
        self._count_dropped(listening, datagrams)
        return size_bytes

    def _count_dropped(self, listening: Listening, datagrams: Datagrams) -> None:
        if dropped := datagrams.newly_dropped():
            self._meter.add(LOST, dropped, (self._name, "udp_buffer_full"))
            self._troubles[listening.option].failed(
                "dropped",
                f"{self._name}: the kernel dropped {dropped} datagrams at {listening.shown}: they came faster than "
                "they were taken in; raise receive_buffer_bytes (and net.core.rmem_max), or let senders use TCP",
                source=self._name,
            )

    # Connections

    def _accept(self, listening: Listening, now: float) -> bool:
        """Lets in who waits, some at once; whether more may be waiting that can be let in."""
        for _ in range(MOST_ACCEPTED):
            try:
                made, address = listening.socket.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._rest(listening, error)
                    return False
                continue  # gone before it was accepted
            self._open(listening, made, _shown(address[0]), now)
        return True

    def _rest(self, listening: Listening, error: OSError) -> None:
        """Without room the kernel would tell of who waits again and again: a while without it."""
        self._refuse("no_descriptors", f"no connection can be accepted: {error.strerror}; raise LimitNOFILE")
        number = listening.socket.fileno()
        if number not in self._resting:
            self._resting.add(number)
            self._epoll.unregister(number)

    def _open(self, listening: Listening, made: socket.socket, peer: str, now: float) -> None:
        options = self._options
        self._accepted += 1
        if len(self._connections) >= options.max_connections:
            self._turn_away(made, "max_connections", f"{options.max_connections} connections are open")
            return
        if self._senders[peer] >= options.max_connections_per_sender:
            most = options.max_connections_per_sender
            self._turn_away(made, "max_connections_per_sender", f"{peer} has {most} connections")
            return
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if listening.option == "tls_listen" and self._tls is not None:
                made = self._tls.wrap_socket(made, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError):  # gone already
            made.close()
            return
        connection = Connection(made, peer, options.max_message_bytes, now)
        self._connections[made.fileno()] = connection
        self._senders[peer] += 1
        self._epoll.register(made.fileno(), select.EPOLLIN)
        self._meter.set(CONNECTIONS, len(self._connections), (self._name,))

    def _turn_away(self, made: socket.socket, reason: str, why: str) -> None:
        made.close()
        self._refuse(reason, f"a connection was closed at once: {why}, which {reason} bounds")

    def _refuse(self, reason: str, message: str) -> None:
        self._refused[reason] += 1
        self._meter.add(REFUSED, 1, (self._name, reason))
        self._troubles[reason].failed(reason, f"{self._name}: {message}", source=self._name)

    def _read(self, connection: Connection, now: float, sent: list[Sent]) -> int:
        if connection.shaking and not self._shaken(connection):
            return 0
        before = connection.framer.held_bytes
        framed, ended = connection.read(self._view)
        size_bytes = 0
        if framed is not None:
            connection.seen_seconds = now
            size_bytes = self._took(connection.peer, framed, sent)
        self._held_bytes += connection.framer.held_bytes - before
        if self._held_bytes > self._options.max_unfinished_bytes and connection.framer.held_bytes:
            self._held_bytes -= connection.framer.held_bytes
            size_bytes += self._took(connection.peer, connection.framer.give_up(), sent)
        if ended:
            size_bytes += self._end(connection, sent)
        return size_bytes

    def _shaken(self, connection: Connection) -> bool:
        """Whether hands have been shaken."""
        try:
            waits_for: Literal["read", "write", "done"] = connection.shake()
        except Refused as refused:
            self._forget(connection)
            self._refuse("tls", f"no TLS connection with {connection.peer}: {refused}")
            return False
        wanted = select.EPOLLOUT if waits_for == "write" else select.EPOLLIN
        self._epoll.modify(connection.socket.fileno(), wanted)
        return waits_for == "done"

    def _end(self, connection: Connection, sent: list[Sent]) -> int:
        """Takes what is there of a message that has not ended, and lets the connection go."""
        self._held_bytes -= connection.framer.held_bytes
        framed = connection.framer.finish()
        self._forget(connection)
        return self._took(connection.peer, framed, sent)

    def _forget(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        del self._connections[number]
        self._senders[connection.peer] -= 1
        if not self._senders[connection.peer]:
            del self._senders[connection.peer]
        self._epoll.unregister(number)
        connection.close()
        self._meter.set(CONNECTIONS, len(self._connections), (self._name,))

    def _took(self, peer: str, framed: Framed, sent: list[Sent]) -> int:
        """Counts what became of messages and hands them on. Returns how many bytes they are."""
        if framed.cut:
            self._meter.add(LINES_CUT, framed.cut, (self._name,))
        if framed.cut_bytes:
            self._meter.add(LOST, framed.cut_bytes, (self._name, "cut"))
        if framed.unfinished:
            self._meter.add(UNFINISHED, framed.unfinished, (self._name,))
        size_bytes = framed.cut_bytes
        for piece in framed.pieces:
            sent.append((peer, piece))
            size_bytes += len(piece.block)
            self._messages += piece.count
        return size_bytes

    # Now and then

    def _look(self, now: float, sent: list[Sent]) -> None:
        """Lets go of connections that are silent, accepts again, and counts what was dropped meanwhile."""
        self._looked_at = now
        for number in self._resting:
            self._epoll.register(number, select.EPOLLIN)
        self._resting.clear()
        for listening, datagrams in self._datagrams.values():
            self._count_dropped(listening, datagrams)
        for connection in [*self._connections.values()]:
            patience = HANDSHAKE_SECONDS if connection.shaking else self._options.idle_seconds
            if now - connection.seen_seconds >= patience:
                self._let_go(connection, now, sent)

    def _let_go(self, connection: Connection, now: float, sent: list[Sent]) -> None:
        """Closes a silent connection, unless something has come just now."""
        if connection.shaking:
            self._forget(connection)
            self._refuse("tls", f"{connection.peer} did not finish its TLS handshake in {HANDSHAKE_SECONDS:g} s")
            return
        self._read(connection, now, sent)
        if connection.seen_seconds < now and connection.socket.fileno() in self._connections:
            self._end(connection, sent)


def _shown(peer: str) -> str:
    """An address as people write it: one of IPv4 is one, also on a socket of IPv6."""
    return peer.removeprefix(_V4_IN_V6) if peer.startswith(_V4_IN_V6) and "." in peer else peer
