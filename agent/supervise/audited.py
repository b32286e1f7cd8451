"""This file writes to the audit log what happens to the agent as a whole: its start, its configuration, its end.

What the configuration was is kept in the state directory, without secrets and defaults, so that the next start can say
what is different.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent import __version__
from agent.ownlogs import audit

if TYPE_CHECKING:
    from agent.config.difference import Shown
    from agent.config.model import Config
    from agent.errors import AgentError
    from agent.supervise.run import Agent

log = logging.getLogger("telemetry_agent.supervise")

KEPT: Final = "configuration.last"
MOST_CHANGES: Final = 50


@contextmanager
def audited(agent: Agent) -> Iterator[None]:
    """Writes the start and what was loaded, and at the end how it ended."""
    secrets = agent.config.secrets
    secrets.heard = audit.credential
    audit.record("start", f"telemetry-agent {__version__} starts", pid=os.getpid(), uid=os.getuid(),
                 state_dir=str(agent.host.state_dir))  # fmt: skip
    _loaded(agent)
    try:
        yield
    except BaseException as error:  # the end is written whatever it was, KeyboardInterrupt and SystemExit among it
        audit.record("stop", f"stopped by {type(error).__name__}: {error}", failed=True)
        raise
    else:
        audit.record("stop", f"stopped: {agent.stop_reason or 'asked to'}", failed=agent.stop_failed)


def reloaded(agent: Agent, config: Config) -> None:
    """Writes what a good configuration changes against the one that was loaded last, and keeps it."""
    from agent.config.difference import changes, shown

    found = changes(agent.config, config)
    _record("configuration_changed", "reloaded", config, found)
    _keep(agent.host.state_dir / KEPT, shown(config))


def refused(agent: Agent, error: AgentError | OSError) -> str:
    """Writes that a configuration was not taken, and why; returns the first fault and how many more there are."""
    faults = [str(fault) for fault in getattr(error, "faults", ())] or [str(error)]
    audit.record(
        "configuration_refused",
        f"a configuration with {len(faults)} fault{'s' * (len(faults) > 1)} was not taken; the old one goes on",
        files=[str(path) for path in agent.config.files],
        faults=_cut(faults),
    )
    return faults[0] + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")


def _loaded(agent: Agent) -> None:
    path = agent.host.state_dir / KEPT
    from agent.config.difference import differences, shown

    now, before = shown(agent.config), _kept(path)
    _record("configuration_loaded", "loaded", agent.config, None if before is None else differences(before, now))
    if now != before:
        _keep(path, now)


def _record(event: audit.Event, verb: str, config: Config, found: list[str] | None) -> None:
    how = "no earlier one is known" if found is None else f"{len(found)} change{'s' * (len(found) != 1)}"
    audit.record(
        event,
        f"configuration {verb}: {how}",
        files=[str(path) for path in config.files],
        changes=_cut(found or []),
    )


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_CHANGES
    return lines if more <= 0 else [*lines[:MOST_CHANGES], f"and {more} more"]


def _kept(path: Path) -> Shown | None:
    """What was kept; None where there is nothing, or nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, str]])
    except (OSError, msgspec.MsgspecError):
        return None


def _keep(path: Path, what: Shown) -> None:
    """Keeps it where that is possible: a full disk costs a difference at the next start, and nothing else."""
    new = path.with_suffix(".new")
    try:
        with open(new, "wb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, 0o600)) as file:
            file.write(msgspec.json.encode(what))
        new.replace(path)
    except OSError as error:
        log.debug("%s could not be written: %s", path, error)
        with suppress(OSError):
            new.unlink()
