"""This file keeps the local endpoint open through changes of ``[serve]``: the new one answers before the old one ends.

same address       the new one listens on the same sockets, so that a connection that comes meanwhile waits for it
another address    the new one is opened first; where that fails, the old one goes on
a token or a certificate is read at each reload, and one that is another counts as a change
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from agent.errors import AgentError
from agent.secrets import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.config.model import Config
    from agent.serve.endpoint import Endpoint
    from agent.serve.options import ServeOptions
    from agent.serve.routes import Routes
    from agent.supervise.run import Agent
    from agent.worker import Worker

log = logging.getLogger("telemetry_agent.supervise")

READ_SECONDS: Final = 20.0
HANDED: Final = "metrics"
"""What the service manager calls the sockets it holds for the endpoint; they take the place of ``listen``."""


Served = tuple["ServeOptions", str | None, tuple[object, ...]]
"""What makes an endpoint another one: its options, its token, and what its certificate was read from."""


class ServedEndpoint:
    """The endpoint that answers now, if any; ``bound`` holds its URL while there is one. ``worker`` reads its files."""

    def __init__(self, agent: Agent, bound: list[str], routes: Routes, worker: Worker) -> None:
        self._agent = agent
        self._bound = bound
        self._routes = routes
        self._worker = worker
        self._served: Served | None = None
        self._endpoint: Endpoint | None = None
        self._closing = AsyncExitStack()

    async def change(self, config: Config) -> bool:
        """Answers as ``config`` says from here on; returns whether that is another way than before. Raises AgentError
        where it cannot; then nothing has changed."""
        wanted = await self._wanted(config)
        if wanted == self._served:
            return False
        closing = AsyncExitStack()
        endpoint = await self._opened(config, wanted[1], closing) if config.serve.enabled else None
        before, self._closing = self._closing, closing
        self._served, self._endpoint = wanted, endpoint
        self._bound[:] = [endpoint.url] if endpoint is not None else []
        await before.aclose()
        if endpoint is not None:
            log.info("answering on %s", endpoint.url)
        return True

    async def close(self) -> None:
        """Ends it; answers under way have a moment to be taken."""
        await self._closing.aclose()

    async def _wanted(self, config: Config) -> Served:
        if not config.serve.enabled:
            return config.serve, None, ()
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._worker.run(_read, config, self._agent.host.environ)
        except TimeoutError:
            raise AgentError(
                f"[serve] token_file, cert_file: not read within {READ_SECONDS:g} s; see whether the disk or "
                "mount they are on answers"
            ) from None

    async def _opened(self, config: Config, token: str | None, closing: AsyncExitStack) -> Endpoint:
        from agent.serve.endpoint import open_endpoint

        agent = self._agent
        sockets = self._sockets(config.serve)
        try:
            return await closing.enter_async_context(
                open_endpoint(
                    config.serve,
                    self._routes,
                    clock=agent.clock,
                    meter=agent.meter,
                    token=token,
                    environ=agent.host.environ,
                    sockets=sockets,
                )
            )
        except BaseException:  # cancelled as well: they are nobody's yet
            for each in sockets:
                each.close()
            raise

    def _sockets(self, options: ServeOptions) -> Sequence[socket.socket]:
        """Sockets that listen already: handed over, or those of the endpoint that answers on this address now."""
        handed = self._agent.host.sockets.get(HANDED, ())
        if handed:
            return [each.dup() for each in handed]
        if self._endpoint is not None and self._served is not None and self._served[0].listen == options.listen:
            return [socket.socket(fileno=each.dup().detach()) for each in self._endpoint.sockets]
        return ()


def _read(config: Config, environ: Mapping[str, str]) -> Served:
    """Raises AgentError where the token cannot be read."""
    options = config.serve
    files = [resolve(file, environ) for file in (options.cert_file, options.key_file, options.client_ca_file) if file]
    return options, _token(config, environ), tuple(map(_stamp, files))


def _stamp(file: Path) -> object:
    """What tells whether a file is another one; None where it cannot be looked at, which opening it will say."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _token(config: Config, environ: Mapping[str, str]) -> str | None:
    file = config.serve.token_file
    if not file:
        return None
    try:
        return config.secrets.read_file(file, environ)
    except (OSError, ValueError) as error:
        raise AgentError(f"[serve] token_file: {error}") from None
