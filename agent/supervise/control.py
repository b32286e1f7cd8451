"""This file is the control socket: how the commands ask a running agent, one JSON object a line each way.

    → {"command": "status"}\\n
    ← {"ok": true, "version": "…", …}\\n      or      {"ok": false, "error": "a sentence"}\\n

A connection may ask several times, one after the other. The socket is a file that only its owner (and root) may open.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.clock import SystemClock
from agent.errors import AgentError, ConfigError, StateHeld
from agent.ownlogs.audit import Refusals

if TYPE_CHECKING:
    from agent.clock import Clock

log = logging.getLogger("telemetry_agent.control")

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

MOST_PATH_BYTES: Final = 107
MOST_REQUEST_BYTES: Final = 1 << 20
MOST_CLIENTS: Final = 8
IDLE_SECONDS: Final = 10.0


class ControlError(AgentError):
    """The control socket cannot be opened; the message says why and what to do."""


@asynccontextmanager
async def serve_control(
    path: Path,
    commands: Mapping[str, Command],
    *,
    idle_seconds: float = IDLE_SECONDS,
    most_clients: int = MOST_CLIENTS,
    clock: Clock | None = None,
) -> AsyncIterator[None]:
    """Answers ``commands`` on a socket at ``path`` until it is left; each is given its request and returns a document.
    What is no command is refused, and stands in the audit log.

    What a command raises on purpose (AgentError) is told to the client. Raises ControlError where the socket
    cannot be made and StateHeld where another agent answers on it.
    """
    refusals = Refusals(clock or SystemClock())
    clients = _Clients(commands, idle_seconds, most_clients, refusals)
    listening = _bound(path)
    identity = _identity(path)
    server = await asyncio.start_unix_server(clients.answer, sock=listening, limit=MOST_REQUEST_BYTES)
    counting = asyncio.create_task(refusals.turn(), name="refused commands")
    try:
        yield
    finally:
        server.close()
        await clients.close()
        await server.wait_closed()
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        refusals.flush()
        _remove(path, identity)


class _Clients:
    """Answers everybody who is connected."""

    def __init__(
        self, commands: Mapping[str, Command], idle_seconds: float, most_clients: int, refusals: Refusals
    ) -> None:
        self._commands = commands
        self._refusals = refusals
        self._idle_seconds = idle_seconds
        self._most_clients = most_clients
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this as a task"
        crowded = len(self._tasks) >= self._most_clients
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, TimeoutError):
                if crowded:
                    self._refusals.note("too_many_commands")
                    await self._say(writer, _no(f"{self._most_clients} commands are being answered; try again"))
                else:
                    await self._talk(reader, writer)
        finally:
            await self._leave(writer)
            self._tasks.discard(task)

    async def close(self) -> None:
        """Ends every conversation."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _leave(self, writer: asyncio.StreamWriter) -> None:
        """Closes, giving the client the time that is left to take what was said."""
        writer.close()
        try:
            async with asyncio.timeout(self._idle_seconds):
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                self._refusals.note("command_too_long")
                await self._say(writer, _no(f"the request is longer than {MOST_REQUEST_BYTES} bytes"))
                return
            await self._say(writer, await self._done(line))

    async def _done(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._refusals.note("unreadable_command")
            return _no(f'expected one JSON object a line, such as {{"command": "status"}}: {error}')
        name = request.get("command")
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            self._refusals.note("unknown_command", command=f"{name!r:.60}")
            return _no(f"{name!r:.60} is no command; there are {', '.join(sorted(self._commands))}")
        try:
            return {"ok": True, **await command(request)}
        except ConfigError as error:
            return _no(str(error)) | {"faults": [str(fault) for fault in error.faults]}
        except AgentError as error:
            return _no(str(error))
        except Exception as error:  # any fault of a command; the socket goes on answering others
            log.exception("the command %s failed", name)
            return _no(f"{type(error).__name__}: {error}; the agent's own log says more")

    async def _say(self, writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
        writer.write(msgspec.json.encode(answer, enc_hook=str) + b"\n")
        async with asyncio.timeout(self._idle_seconds):
            await writer.drain()


def _bound(path: Path) -> socket.socket:
    """A socket bound to ``path``, which only its owner may open; one that nobody answers on is replaced."""
    length = len(os.fsencode(path))
    if length > MOST_PATH_BYTES:
        raise ControlError(
            f"{path} has {length} bytes and a unix socket takes {MOST_PATH_BYTES}; choose a shorter [agent] run_dir"
        )
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_way(path)
        # On Linux the file gets the mode that the socket has when it is bound, so there is no moment of a wider one.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(os.fspath(path))
        listening.listen(MOST_CLIENTS)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ControlError(
            f"{path}: {error.strerror or error}; the agent's user must be able to write [agent] run_dir: "
            "give it that directory, or name another there"
        ) from error
    except AgentError:
        listening.close()
        raise
    return listening


def _make_way(path: Path) -> None:
    """Removes what a killed agent left at ``path``. Raises StateHeld where somebody answers there."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ControlError(f"{path} exists and is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its queue is full: somebody lives there, and is busy
    raise StateHeld(f"another agent answers on {path}; stop it, or give this one an [agent] run_dir of its own")


def _remove(path: Path, identity: tuple[int, int] | None) -> None:
    """Removes the socket file, unless another agent has put its own there meanwhile."""
    if identity is not None and _identity(path) == identity:
        with suppress(OSError):
            path.unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _no(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error}
