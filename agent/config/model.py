"""This file is a configuration without faults, as the rest of the agent is handed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.secrets import Secrets

if TYPE_CHECKING:
    from agent.config.faults import Place
    from agent.contract import Component
    from agent.options import AgentOptions, ComponentOptions
    from agent.serve.options import ServeOptions
    from agent.spool.schema import SpoolOptions


@dataclass(frozen=True)
class Configured:
    """One component of the configuration: ``[stage.type]`` or ``[stage.type.NAME]``.

    ``name`` is ``type`` or ``type.NAME`` and unique in its stage. ``given`` tells where each option that was given
    was written; the rest are defaults. Two are equal when they are configured alike, wherever that was written.
    """

    stage: str
    name: str
    type: str
    component: Component[Any, Any] = field(compare=False, repr=False)
    options: ComponentOptions
    given: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Config:
    """Every option of the agent, and its components in the order in which the configuration names them.

    ``disabled`` components are valid and do not take part. ``files`` are what was read, the main file first.
    ``given`` tells where each option of the sections ``agent``, ``spool`` and ``serve`` was written.
    """

    agent: AgentOptions
    spool: SpoolOptions
    serve: ServeOptions
    collect: tuple[Configured, ...] = ()
    process: tuple[Configured, ...] = ()
    export: tuple[Configured, ...] = ()
    disabled: tuple[Configured, ...] = ()
    files: tuple[Path, ...] = field(default=(), compare=False)
    given: Mapping[str, Mapping[str, Place]] = field(default_factory=dict, compare=False, repr=False)
    secrets: Secrets = field(default_factory=Secrets, compare=False, repr=False)

    def components(self) -> Iterator[Configured]:
        """Every component that takes part, in the order of the data's journey."""
        yield from self.collect
        yield from self.process
        yield from self.export

    def idle(self) -> str:
        """Why an agent with this configuration moves nothing, and what to add; empty where it moves something."""
        made = {signal for each in self.collect for signal in each.component.signals}
        taken = {signal for each in self.export for signal in each.component.signals}
        if made & taken or (made == {"metrics"} and not taken and self.serve.enabled):
            return ""
        if not taken:
            return "no destination is configured: what is read is passed over; add [export.loki] or [export.file]"
        what = "nothing is collected" if not made else "no destination takes what is collected"
        return f"{what}: add [collect.file] with paths" + (", or [export.remote_write]" if "metrics" in made else "")
