"""This file keeps the local endpoint open through changes of ``[serve]``: the new one answers before the old one ends.

same address       the new one listens on the same sockets, so that a connection that comes meanwhile waits for it
another address    the new one is opened first; where that fails, the old one goes on
"""

from __future__ import annotations

import logging
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config.model import Config
    from agent.serve.endpoint import Endpoint
    from agent.serve.options import ServeOptions
    from agent.serve.routes import Routes
    from agent.supervise.run import Agent

log = logging.getLogger("telemetry_agent.supervise")

HANDED: str = "metrics"
"""What the service manager calls the sockets it holds for the endpoint; they take the place of ``listen``."""


class ServedEndpoint:
    """The endpoint that answers now, if any; ``bound`` holds its URL while there is one."""

    def __init__(self, agent: Agent, bound: list[str], routes: Routes) -> None:
        self._agent = agent
        self._bound = bound
        self._routes = routes
        self._options: ServeOptions | None = None
        self._endpoint: Endpoint | None = None
        self._closing = AsyncExitStack()

    async def change(self, config: Config) -> None:
        """Answers as ``config`` says from here on. Raises AgentError where it cannot; then nothing has changed."""
        options = config.serve
        if options == self._options:
            return
        closing = AsyncExitStack()
        endpoint = await self._opened(config, closing) if options.enabled else None
        before, self._closing = self._closing, closing
        self._options, self._endpoint = options, endpoint
        self._bound[:] = [endpoint.url] if endpoint is not None else []
        await before.aclose()
        if endpoint is not None:
            log.info("answering on %s", endpoint.url)

    async def close(self) -> None:
        """Ends it; answers under way have a moment to be taken."""
        await self._closing.aclose()

    async def _opened(self, config: Config, closing: AsyncExitStack) -> Endpoint:
        from agent.serve.endpoint import open_endpoint

        agent = self._agent
        return await closing.enter_async_context(
            open_endpoint(
                config.serve,
                self._routes,
                clock=agent.clock,
                meter=agent.meter,
                token=_token(config, agent),
                environ=agent.host.environ,
                sockets=self._sockets(config.serve),
            )
        )

    def _sockets(self, options: ServeOptions) -> Sequence[socket.socket]:
        """Sockets that listen already: handed over, or those of the endpoint that answers on this address now."""
        handed = self._agent.host.sockets.get(HANDED, ())
        if handed:
            return [each.dup() for each in handed]
        if self._endpoint is not None and self._options is not None and self._options.listen == options.listen:
            return [socket.socket(fileno=each.dup().detach()) for each in self._endpoint.sockets]
        return ()


def _token(config: Config, agent: Agent) -> str | None:
    file = config.serve.token_file
    if not file:
        return None
    try:
        return config.secrets.read_file(file, agent.host.environ)
    except (OSError, ValueError) as error:
        raise AgentError(f"[serve] token_file: {error}") from None
