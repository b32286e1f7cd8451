"""This file is the syslog source: it listens, and takes in what others send while the spool has room for it.

The loop waits for the sockets; a thread of its own reads them, cuts and understands. What has come is handed on whole,
and only then more is read: while nobody asks, senders with a connection wait. When the source ends, what they had sent
is taken in: they hold it for arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from agent.batch import Batch, Logs
from agent.collect.syslog.batches import Batches
from agent.collect.syslog.listening import listening
from agent.collect.syslog.sockets import LOOK_SECONDS, Sockets
from agent.errors import AgentError
from agent.secrets import resolve
from agent.worker import Worker

if TYPE_CHECKING:
    import ssl

    from agent.collect.syslog.batches import Sent
    from agent.collect.syslog.options import SyslogOptions
    from agent.contract import Context

log = logging.getLogger("telemetry_agent.collect")

GATHER_SECONDS: Final = 0.02
"""How long messages are let come together after the first of them; a UDP buffer has to hold what comes meanwhile."""
BUSY_BYTES: Final = 64 << 10
"""What came together without waiting is handed on without waiting."""
CLOSE_SECONDS: Final = 2.0


class SyslogSource:
    """Takes in what is sent to one ``[collect.syslog]`` table."""

    def __init__(self, options: SyslogOptions, context: Context, worker: Worker, sockets: Sockets) -> None:
        self._options = options
        self._clock = context.clock
        self._worker = worker
        self._sockets = sockets
        self._batches = Batches(options, context)
        self._sent: list[Sent] = []
        """What was read and no batch made of yet: only the thread of the source looks at it."""
        self._made: deque[Logs] = deque()

    async def batches(self) -> AsyncGenerator[Batch, None]:
        while True:
            if not self._sockets.waiting:
                await self._readable()
            size_bytes = await self._worker.run(self._take)
            if 0 < size_bytes < BUSY_BYTES:
                await self._clock.sleep(GATHER_SECONDS)
            await self._worker.run(self._make)
            while self._made:
                yield self._made.popleft()

    async def rest(self) -> AsyncGenerator[Batch, None]:
        """What had been sent when the source was ended and was not given yet; then all connections are closed."""
        await self._worker.run(self._sockets.leave)
        more = True
        while more:
            more = await self._worker.run(self._take_last)
            while self._made:
                yield self._made.popleft()

    def close(self) -> None:
        """Closes the sockets; what was read and not given is lost, and counted."""
        self._sockets.count_lost(_size_bytes(self._sent) + sum(batch.size_bytes for batch in self._made))
        self._sockets.close()

    def status(self) -> dict[str, Any]:
        """What /status shows: where it listens, who is connected, what was refused."""
        return {**self._sockets.status(), "label_sets": len(self._batches.streams)}

    def _take(self) -> int:
        self._sent += self._sockets.take(self._options.block_bytes)
        return _size_bytes(self._sent)

    def _make(self) -> None:
        """Makes batches of what has come, and of what has come since."""
        if self._sent:
            self._sent += self._sockets.take(self._options.block_bytes - _size_bytes(self._sent))
        self._made += self._batches.of(self._sent)
        self._sent = []

    def _take_last(self) -> bool:
        sent, more = self._sockets.take_last(self._options.block_bytes)
        self._made += self._batches.of(self._sent + sent)
        self._sent = []
        return more

    async def _readable(self) -> None:
        """Returns once there is something to read, or to look after."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._sockets.fileno(), ready.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await ready.wait()
        finally:
            loop.remove_reader(self._sockets.fileno())


def _size_bytes(sent: list[Sent]) -> int:
    return sum(len(piece.block) for _, piece in sent)


def _tls(options: SyslogOptions, context: Context) -> ssl.SSLContext | None:
    """What connections with TLS are made by. Raises AgentError where a file cannot be read or is none."""
    if options.tls_listen is None:
        return None
    import ssl

    given = (options.cert_file, options.key_file, options.client_ca_file)
    try:
        cert, key, client_ca = (str(resolve(file, context.host.environ)) if file else None for file in given)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.load_cert_chain(cert or "", key)
        if client_ca:
            made.load_verify_locations(client_ca)
            made.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = ", ".join(filter(None, given))
        why = getattr(error, "strerror", None) or error
        raise AgentError(f"{named}: {why}; give PEM files that this user may read") from error
    if options.key_file:
        context.secrets.was_read(options.key_file)
    return made


def _opened(options: SyslogOptions, context: Context) -> Sockets:
    tls = _tls(options, context)
    return Sockets(options, context, listening(options, context.host.sockets), tls)


@asynccontextmanager
async def open_syslog(options: SyslogOptions, context: Context) -> AsyncIterator[SyslogSource]:
    """Listens from here on; leaving it closes every connection."""
    with Worker(f"collect.{context.name}") as worker:
        sockets = await worker.run(_opened, options, context)
        closes = sockets.close
        try:
            source = await worker.run(SyslogSource, options, context, worker, sockets)
            closes = source.close
            log.info("%s listens at %s", context.name, ", ".join(source.status()["listening"].values()))
            yield source
        finally:
            await worker.finish(closes, CLOSE_SECONDS)
