"""This file changes a spool on an operator's behalf: through the agent where one runs, else under the agent's own lock.

Nobody but the process that holds the lock ever writes to a spool.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from agent.errors import AgentError, SpoolDamaged, SpoolFull, StateHeld

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.clock import RecordTimes
    from agent.host import Host
    from agent.spool.store import Store

ASK_SECONDS: Final = 60.0


class Unanswered(AgentError):
    """The agent was asked and gave no answer; it may have done it all the same."""


def told(host: Host, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the running agent answers. Raises AgentError with its reason where it refuses, and Unanswered."""
    from agent.cli.control import ask

    try:
        answer = ask(host.control_socket, request, ASK_SECONDS)
    except AgentError as error:
        raise Unanswered(str(error)) from error
    if answer.get("ok") is not True:
        raise AgentError(str(answer.get("error", "the agent gave no reason")))
    return answer


def is_running(host: Host) -> bool:
    """Whether an agent answers. Raises AgentError where one does that this user may not ask."""
    from agent.cli.control import NotRunning, ask

    try:
        ask(host.control_socket, {"command": "bounds"}, ASK_SECONDS)
    except NotRunning:
        return False
    return True


@contextmanager
def stopped(host: Host, max_bytes: int) -> Iterator[tuple[Store, RecordTimes]]:
    """The spool of an agent that does not run, which cannot be started meanwhile.

    Raises StateHeld where it runs after all, SpoolUnreadable where there is no spool, and AgentError where it cannot
    be written to.
    """
    from agent.clock import RecordTimes, SystemClock
    from agent.spool import keeping, replay
    from agent.spool.inspection import must_be_there
    from agent.spool.schema import SpoolOptions
    from agent.spool.store import Store
    from agent.supervise import instance

    must_be_there(host.spool_dir / "spool.db")
    with _as_owner_of(host.state_dir), _free(host, instance.held(host.state_dir)):
        try:
            store = Store(host.spool_dir, SpoolOptions(max_bytes=max_bytes))
            store.router = replay.by_name(store)
            try:
                yield store, RecordTimes(SystemClock(), store.last_time_ns)
            finally:
                keeping.close(store, host)
        except SpoolDamaged as error:
            raise AgentError(
                f"{host.spool_dir} is damaged: {error}; start the agent, which takes over what can be read, then ask"
            ) from error
        except SpoolFull as error:
            raise AgentError(
                f"{host.spool_dir} cannot be written to: {error}; free space there and try again"
            ) from error


@contextmanager
def _free(host: Host, holding: AbstractContextManager[None]) -> Iterator[None]:
    """The lock, with a reason of our own where somebody else has it."""
    try:
        holding.__enter__()
    except StateHeld as error:
        raise StateHeld(
            f"{str(error).partition(':')[0]}, which does not answer at {host.control_socket}: it is starting or "
            "stopping, or another [agent] run_dir is its own; nothing was changed, try again"
        ) from None
    try:
        yield
    finally:
        holding.__exit__(None, None, None)


@contextmanager
def _as_owner_of(directory: Path) -> Iterator[None]:
    """Root acts as the agent's user, so that every file it makes is one the agent may use afterwards.

    Nothing is imported meanwhile: that user need not be able to read where root keeps this program.
    """
    owner = directory.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
