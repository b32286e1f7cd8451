"""This file finds the addresses of a name on a worker, and connects to the first of them that answers.

The loop's own way of resolving uses threads that the interpreter waits for when it exits, and a resolver that does
not answer takes up to half a minute.
"""

from __future__ import annotations

import asyncio
import socket
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.worker import Worker

NEXT_SECONDS: Final = 0.25
"""How long an address has to itself before the next one is tried beside it (RFC 8305, section 5)."""

Address = tuple[int, int, tuple[Any, ...]]
"""Family, protocol, and what ``connect`` takes, with a numeric host."""


class Resolver:
    """Names to addresses, on one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._under_way: dict[tuple[str, int], asyncio.Future[list[Address]]] = {}

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of ``host``, in the order in which to try them; raises socket.gaierror where there is none.

        A second question while the first is under way waits for the same answer.
        """
        known = _numeric(host, port)
        if known is not None:
            return [known]
        asked = self._under_way.get((host, port))
        if asked is None:
            asked = asyncio.ensure_future(self._worker.run(_addresses, host, port))
            self._under_way[host, port] = asked
            asked.add_done_callback(lambda done: self._forget((host, port), done))
        return await asyncio.shield(asked)

    def _forget(self, key: tuple[str, int], done: asyncio.Future[list[Address]]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # whoever still waits sees it; nobody else need hear of it

    def close(self) -> None:
        """Stops waiting for what is under way."""
        for asked in list(self._under_way.values()):
            asked.cancel()


async def connected(addresses: Sequence[Address]) -> socket.socket:
    """A socket connected to one of ``addresses``: each is tried when those before it failed, or have had their time.

    Raises the OSError of the attempt that failed last.
    """
    if len(addresses) == 1:
        return await _attempt(addresses[0])
    untried, attempts, failure = list(addresses), set[asyncio.Task[socket.socket]](), OSError("no address")
    try:
        while untried or attempts:
            if untried:
                attempts.add(asyncio.create_task(_attempt(untried.pop(0))))
            patience = NEXT_SECONDS if untried else None
            done, _ = await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                attempts.discard(attempt)
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_let_go)
            attempt.cancel()


async def _attempt(address: Address) -> socket.socket:
    family, protocol, where = address
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:  # cancelled as well: another attempt was faster
        made.close()
        raise
    return made


def _let_go(attempt: asyncio.Task[socket.socket]) -> None:
    """Closes the connection of an attempt that came second."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _numeric(host: str, port: int) -> Address | None:
    if "%" in host:  # the scope of a link-local address: the system knows its number
        return None
    family, where = (socket.AF_INET6, (host, port, 0, 0)) if ":" in host else (socket.AF_INET, (host, port))
    try:
        socket.inet_pton(family, host)
    except OSError:
        return None
    return family, socket.IPPROTO_TCP, where


def _addresses(host: str, port: int) -> list[Address]:
    # As bytes a name is taken as it is; as text it would load the tables of international names.
    found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return _alternating([(family, protocol, _plain(where)) for family, _, protocol, _, where in found])


def _plain(where: tuple[Any, ...]) -> tuple[Any, ...]:
    """Without the name of an interface behind the address: its number is there too, and asyncio would look it up."""
    return (where[0].partition("%")[0], *where[1:])


def _alternating(addresses: list[Address]) -> list[Address]:
    """The system's order, families taking turns: the one it prefers may be the one that leads nowhere."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]
