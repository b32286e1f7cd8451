"""This file asks a running agent over its control socket: one line out, one line back, no event loop."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_ANSWER_BYTES: Final = 64 << 20
_READ_BYTES: Final = 1 << 16


class NotRunning(AgentError):
    """No agent answers; the message says what was tried and what to do."""


def ask(path: Path, request: Mapping[str, Any], timeout_seconds: float = 10.0) -> dict[str, Any]:
    """What the agent at ``path`` answers: ``{"ok": true, …}`` or ``{"ok": false, "error": "…"}``.

    Raises NotRunning where nobody listens, and AgentError where somebody does and does not answer as agreed.
    """
    deadline = time.monotonic() + timeout_seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        _connect(asking, path, timeout_seconds)
        try:
            with suppress(BrokenPipeError):  # an agent that is too busy answers first, and closes without listening
                asking.sendall(msgspec.json.encode(request) + b"\n")
            line = _line(asking, deadline)
        except TimeoutError:
            raise AgentError(f"the agent at {path} did not answer within {timeout_seconds:g} s") from None
        except ConnectionError as error:
            raise NotRunning(f"the agent at {path} went away while it was asked; is it stopping?") from error
    if not line.endswith(b"\n"):
        raise NotRunning(f"the agent at {path} went away before it had answered; is it stopping?")
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise AgentError(
            f"what answers at {path} is no telemetry-agent ({error}); is [agent] run_dir the agent's own?"
        ) from None


def _connect(asking: socket.socket, path: Path, timeout_seconds: float) -> None:
    asking.settimeout(timeout_seconds)
    try:
        asking.connect(os.fspath(path))
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NotRunning(f"no agent answers at {path}") from None
    except PermissionError:
        raise AgentError(f"{path}: permission denied; ask as root or as the user the agent runs as") from None
    except OSError as error:  # a path too long for a socket has no number
        raise AgentError(f"{path}: {error.strerror or error}") from None


def _line(asking: socket.socket, deadline: float) -> bytes:
    """Bytes up to and with a newline, or those that came before the other side closed."""
    parts: list[bytes] = []
    size = 0
    while not parts or not parts[-1].endswith(b"\n"):
        asking.settimeout(max(0.001, deadline - time.monotonic()))
        data = asking.recv(_READ_BYTES)
        if not data:
            break
        parts.append(data)
        size += len(data)
        if size > MOST_ANSWER_BYTES:
            raise AgentError(f"an answer of more than {MOST_ANSWER_BYTES} bytes was cut off")
    return b"".join(parts)


def socket_path(config: Path, environ: Mapping[str, str]) -> Path:
    """Where the agent that runs with ``config`` listens."""
    from agent.cli.directories import directory
    from agent.host import Host

    return Host(Path(), directory(config, environ, "run_dir"), environ={}, hostname="").control_socket
