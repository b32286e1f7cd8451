"""This file finds where an agent keeps its state and its socket, without reading the rest of its configuration.

A command that asks a running agent, or looks at what one left, must work and be quick also while the files have
faults or cannot be read by this user.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.host import Host

Key = Literal["state_dir", "run_dir"]


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
    found = environ.get(f"TELEMETRY_AGENT__AGENT__{key.upper()}") or _written(config, key) or default
    if "${" in found:
        from agent.config.load import load

        found = getattr(load(config, environ).agent, key)
    return Path(found)


def _written(config: Path, key: Key) -> str | None:
    """The last ``[agent]`` value of the file and of those in ``config.d`` beside it; None where there is none."""
    import tomli

    found = None
    dropped_in = (path for path in config.parent.glob("config.d/*.toml") if not path.name.startswith("."))
    for path in (config, *sorted(dropped_in)):
        try:
            tables = tomli.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError):
            continue
        agent = tables.get("agent")
        value = agent.get(key) if isinstance(agent, dict) else None
        found = value if isinstance(value, str) else found
    return found
