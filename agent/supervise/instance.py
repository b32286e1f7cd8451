"""This file lets one agent at a time hold a state directory: a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.errors import AgentError, StateHeld


@contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Holds ``state_dir`` until it is left. Raises StateHeld, naming the process that has it, or AgentError."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AgentError(
            f"[agent] state_dir {state_dir}: {error.strerror}; create it for this user, or name another"
        ) from error
    try:
        _lock(descriptor, state_dir)
        with suppress(OSError):  # on a full disk the lock holds all the same, and only does not say by whom
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(state_dir: Path) -> bool:
    """Whether some process holds ``state_dir`` now."""
    try:
        with held(state_dir):
            return False
    except StateHeld:
        return True


def seems_free(state_dir: Path) -> bool:
    """Whether nobody holds ``state_dir``, asked without writing to it; False also where that cannot be found out."""
    try:
        descriptor = os.open(state_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def other_holder(state_dir: Path) -> int | None:
    """The process, other than this one, whose number stands in the lock; None where there is none."""
    try:
        found = (state_dir / "lock").read_text("ascii", "replace").strip()
    except OSError:
        return None
    return int(found) if found.isdigit() and int(found) != os.getpid() else None


def _lock(descriptor: int, state_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        raise StateHeld(
            f"{state_dir} is held by process {holder or '?'}: one agent at a time; stop it, or give this one "
            "a state_dir of its own"
        ) from None
