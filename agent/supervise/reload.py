"""This file reads the configuration again on SIGHUP: the log level and format change, and lanes that wait try again.

A configuration with faults changes nothing, and every fault is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import AgentError, ConfigError
from agent.supervise import audited
from agent.supervise.settle import forget_reading
from agent.worker import Worker

if TYPE_CHECKING:
    from agent.config.model import Config
    from agent.secrets import Secrets
    from agent.supervise.run import Agent

log = logging.getLogger("telemetry_agent.supervise")


async def reload_when(wanted: asyncio.Event, agent: Agent, worker: Worker, nudge: Callable[[], object]) -> None:
    """Reads it again each time ``wanted`` is set, until cancelled; ``nudge`` makes lanes that wait try at once."""
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            config = await worker.run(_load, agent.config_path, agent.host.environ, agent.config.secrets)
        except ConfigError as error:
            log.error("the configuration was not reloaded; the old one goes on:\n%s", error)
            agent.load_fault = audited.refused(agent, error)
        except (AgentError, OSError) as error:
            log.error("the configuration was not reloaded; the old one goes on: %s", error)
            agent.load_fault = audited.refused(agent, error)
        else:
            apply(agent, config)
            await worker.run(audited.reloaded, agent, config)
            agent.loaded, agent.load_fault = config, None
        forget_reading()
        nudge()  # also where the configuration is wrong: a secret in a file of its own may be right now


def apply(agent: Agent, config: Config) -> None:
    """Changes what can be changed while it runs, and says what cannot."""
    agent.logs.set_level(config.agent.log_level)
    agent.logs.set_format(config.agent.log_format)
    waiting = _left_for_the_next_start(agent.config, config)
    log.info(
        "reloaded: log level %s, log format %s%s",
        config.agent.log_level,
        config.agent.log_format,
        f"; takes effect at the next start: {', '.join(waiting)}" if waiting else "",
    )


def _left_for_the_next_start(old: Config, new: Config) -> list[str]:
    """The tables that are not as they were when the agent started, beside the log's options."""
    before = {f"{each.stage}.{each.name}": each for each in old.components()}
    after = {f"{each.stage}.{each.name}": each for each in new.components()}
    changing = {"log_level", "log_format"}
    names = [name for name in type(old.agent).__struct_fields__ if name not in changing]
    return [
        *(f"[agent] {name}" for name in names if getattr(old.agent, name) != getattr(new.agent, name)),
        *(f"[{name}]" for name in ("spool", "serve") if getattr(old, name) != getattr(new, name)),
        *(f"[{name}]" for name in {**before, **after} if before.get(name) != after.get(name)),
    ]


def _load(path: Path, environ: Mapping[str, str], secrets: Secrets) -> Config:
    """Reads it; what that takes is not kept in memory between two times."""
    from agent.config.load import load

    return load(path, environ, secrets)
