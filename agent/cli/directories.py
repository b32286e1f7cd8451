"""This file finds where an agent keeps its state and its socket, without reading the rest of its configuration.

A command that asks a running agent, or looks at what one left, must work and be quick also while the files have
faults or cannot be read by this user.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.host import Host

Key = Literal["state_dir", "run_dir"]
T = TypeVar("T")


def host_of(config: Path, environ: Mapping[str, str]) -> Host:
    """The directories of the agent that runs with ``config``; it is told nothing else about the machine."""
    from agent.host import Host

    state_dir, run_dir = directory(config, environ, "state_dir"), directory(config, environ, "run_dir")
    return Host(state_dir.absolute(), run_dir.absolute(), environ={}, hostname="")


def directory(config: Path, environ: Mapping[str, str], key: Key) -> Path:
    """``[agent] state_dir`` or ``run_dir`` as the agent that runs with ``config`` understands it.

    Raises ConfigError only where the value holds a ``${…}``, which takes the whole configuration to replace.
    """
    from agent.options import AgentOptions

    default: str = getattr(AgentOptions(), key)
    found = environ.get(f"TELEMETRY_AGENT__AGENT__{key.upper()}") or _written(config, "agent", key, str) or default
    if "${" in found:
        from agent.config.load import load

        found = getattr(load(config, environ).agent, key)
    return Path(found)


def log_dir(config: Path, environ: Mapping[str, str]) -> Path:
    """Where the agent that runs with ``config`` writes its own log files, where it does."""
    from agent.ownlogs.files import log_directory

    given = environ.get("TELEMETRY_AGENT__AGENT__LOG_DIR") or _written(config, "agent", "log_dir", str)
    if given and "${" in given:
        from agent.config.load import load

        given = load(config, environ).agent.log_dir
    return log_directory(given, environ)


def spool_max_bytes(config: Path, environ: Mapping[str, str]) -> int:
    """``[spool] max_bytes``, or its default where it is not written or is no number."""
    from agent.spool.schema import SpoolOptions

    given = environ.get("TELEMETRY_AGENT__SPOOL__MAX_BYTES", "")
    return int(given) if given.isdecimal() else _written(config, "spool", "max_bytes", int) or SpoolOptions().max_bytes


def _written(config: Path, section: str, key: str, kind: type[T]) -> T | None:
    """The last value of that kind in the file and in those in ``config.d`` beside it; None where there is none."""
    import tomli

    found: T | None = None
    dropped_in = (path for path in config.parent.glob("config.d/*.toml") if not path.name.startswith("."))
    for path in (config, *sorted(dropped_in)):
        try:
            tables = tomli.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError):
            continue
        table = tables.get(section)
        value = table.get(key) if isinstance(table, dict) else None
        found = value if isinstance(value, kind) else found
    return found
