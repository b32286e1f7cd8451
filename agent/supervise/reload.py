"""This file reads the configuration again, on SIGHUP or when a command asks, and changes the agent to it.

    read ─▶ faults: the old one goes on, everybody is told why
         └▶ what can change while it runs, changes (agent/supervise/swap.py); what cannot is named

A configuration of which something cannot be opened is refused like one with faults, and nothing has changed. A reload
that is under way when the agent stops is given up.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.errors import AgentError, ConfigError
from agent.supervise import audited
from agent.supervise.settle import forget_reading
from agent.supervise.swap import swap, swap_of
from agent.worker import Worker

if TYPE_CHECKING:
    from agent.config.model import Config
    from agent.secrets import Secrets
    from agent.supervise.pipeline import Pipeline
    from agent.supervise.run import Agent

log = logging.getLogger("telemetry_agent.supervise")

WHILE_RUNNING: Final = frozenset({"labels", "log_level", "log_format"})
"""The options of ``[agent]`` that take effect without a restart."""

REFUSED: Final = "the configuration was not reloaded; the old one goes on"

READ_SECONDS: Final = 20.0
"""How long reading the files may take: they may lie on a mount that hangs."""
AUDIT_SECONDS: Final = 5.0
GIVE_UP_SECONDS: Final = 2.0


class Reloading:
    """Reads and changes, one after the other. ``outside`` changes what people and probes look through, returns whether
    that was needed, and may refuse as well; then nothing has changed. ``worker`` may hang with the files."""

    def __init__(
        self, agent: Agent, pipeline: Pipeline, worker: Worker, outside: Callable[[Config], Awaitable[bool]]
    ) -> None:
        self._agent = agent
        self._pipeline = pipeline
        self._worker = worker
        self._outside = outside
        self._at_start = agent.config
        self._one_by_one = asyncio.Lock()
        self._under_way: asyncio.Task[list[str]] | None = None
        self._closed = False

    async def serve(self, wanted: asyncio.Event) -> None:
        """Reloads each time ``wanted`` is set, until cancelled; what is wrong stands in the log."""
        while True:
            await wanted.wait()
            wanted.clear()
            with self._agent.notify.reloading(self._agent.clock):
                try:
                    await self.reload()
                except (AgentError, OSError) as error:
                    log.debug("the reload was refused: %s", error)

    async def reload(self) -> list[str]:
        """Changes to the configuration as it is written now; returns what was done, a sentence each.

        Raises ConfigError, AgentError or OSError where it is refused; then everything goes on as before.
        """
        async with self._one_by_one:
            if self._closed:
                raise AgentError("the agent is stopping")
            self._under_way = asyncio.create_task(self._tried(), name="reloading")
            try:
                return await self._under_way
            except asyncio.CancelledError:
                if self._closed and self._under_way.done():
                    raise AgentError("the agent is stopping; the reload was given up") from None
                self._under_way.cancel()
                raise
            finally:
                self._under_way, self._agent.reloading = None, None

    async def close(self) -> None:
        """Gives up the reload that is under way, and every other from now on."""
        self._closed = True
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait((self._under_way,), timeout=GIVE_UP_SECONDS)

    async def _tried(self) -> list[str]:
        try:
            return await self._reload()
        except (AgentError, OSError) as error:
            text = f"{REFUSED}:\n%s" if isinstance(error, ConfigError) else f"{REFUSED}: %s"
            log.error(text, error)
            self._agent.load_fault = audited.refused(self._agent, error)
            raise
        except Exception as error:  # a fault of the agent's own is told like a refusal, and ends nothing
            log.exception(REFUSED)
            refusal = AgentError(f"{type(error).__name__}: {error}; the agent's own log says more")
            self._agent.load_fault = audited.refused(self._agent, refusal)
            raise refusal from error
        finally:
            _forget()
            for drain in self._pipeline.drains.values():
                drain.nudge()  # also where the configuration is wrong: a secret in a file of its own may be right

    async def compared(self) -> list[str]:
        """What a reload would change, a line for each difference, and what it would do. Raises as ``reload`` does."""
        agent = self._agent
        async with self._one_by_one:
            try:
                config = await self._read()
                changes = await self._worker.run(_changes, agent.config, config)
            finally:
                _forget()
        contexts = self._pipeline.contexts
        plan = swap_of(agent.config, config, contexts, contexts.after(config)).sentence()
        waiting = self._waiting(config)
        if not changes and not plan and not waiting:
            return []
        return [*changes, *_sentences([f"a reload: {plan}"] if plan else [], waiting)]

    async def _read(self) -> Config:
        """The configuration as it is written now. Raises ConfigError, AgentError or OSError."""
        agent = self._agent
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._worker.run(_load, agent.config_path, agent.host.environ, agent.config.secrets)
        except TimeoutError:
            raise AgentError(
                f"{agent.config_path} and what belongs to it could not be read within {READ_SECONDS:g} s; "
                "see whether the disk or mount they are on answers, and reload again"
            ) from None

    def _waiting(self, new: Config) -> list[str]:
        """What is configured differently than at the start and cannot be changed while the agent runs."""
        old = self._at_start
        names = [name for name in type(old.agent).__struct_fields__ if name not in WHILE_RUNNING]
        return [f"[agent] {name}" for name in names if getattr(old.agent, name) != getattr(new.agent, name)]

    async def _reload(self) -> list[str]:
        agent = self._agent
        self._at("reading the configuration")
        config = await self._read()
        before = agent.config
        self._at("changing the endpoint")
        changed = await self._outside(config)
        self._at("changing the components")
        try:
            plan = (await swap(self._pipeline, config)).sentence()
        except Exception:  # whatever it was, the endpoint goes back with the rest
            await self._outside_again(before)
            raise
        read_again = ["[serve] secrets read again"] if changed and before.serve == config.serve else []
        done = [*_of_the_agent(before, config), *read_again, *([plan] if plan else [])]
        agent.logs.set_level(config.agent.log_level)
        agent.logs.set_format(config.agent.log_format)
        await self._note(config)
        agent.config, agent.load_fault = config, None
        sentences = _sentences(done, self._waiting(config))
        log.info("reloaded: %s", "; ".join(sentences) or "nothing is configured differently")
        return sentences

    def _at(self, step: str) -> None:
        self._agent.reloading = step, self._agent.clock.monotonic_seconds()

    async def _outside_again(self, before: Config) -> None:
        try:
            await self._outside(before)
        except (AgentError, OSError) as error:
            log.error("the endpoint could not be opened again as it was: %s", error)

    async def _note(self, config: Config) -> None:
        """Writes what has changed to the audit log, and keeps it, where the disk answers."""
        try:
            async with asyncio.timeout(AUDIT_SECONDS):
                await self._worker.run(audited.reloaded, self._agent, config)
        except TimeoutError:
            log.warning("what the reload changed could not be kept in %s within %g s",
                        self._agent.host.state_dir, AUDIT_SECONDS)  # fmt: skip


def _of_the_agent(old: Config, new: Config) -> list[str]:
    """What takes effect at once and is no component's."""
    was, now = old.agent, new.agent
    return [
        *(["labels changed"] if was.labels != now.labels else []),
        *([f"log level {now.log_level}"] if was.log_level != now.log_level else []),
        *([f"log format {now.log_format}"] if was.log_format != now.log_format else []),
        *(["[spool] bounds changed"] if old.spool != new.spool else []),
        *(["[serve] changed"] if old.serve != new.serve else []),
    ]


def _forget() -> None:
    """Lets go of what only reading takes. Modules are cycles, and the collector would not come by for many reloads."""
    forget_reading()
    gc.collect()


def _sentences(done: Sequence[str], waiting: Sequence[str]) -> list[str]:
    return [*done, *([f"takes effect at the next start: {', '.join(waiting)}"] if waiting else [])]


def _changes(old: Config, new: Config) -> list[str]:
    from agent.config.difference import changes

    return changes(old, new)


def _load(path: Path, environ: Mapping[str, str], secrets: Secrets) -> Config:
    """Reads it; what that takes is not kept in memory between two times."""
    from agent.config.load import load

    return load(path, environ, secrets)
