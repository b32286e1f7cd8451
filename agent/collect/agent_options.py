"""This file is the ``[collect.agent]`` table, and the agent's own metrics as a source, as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from agent.contract import Component
from agent.options import SourceOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context, Source


class AgentMetricsOptions(SourceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[collect.agent]`` table."""

    interval_seconds: Annotated[float, Meta(ge=1, description="Time from one look at the agent to the next.")] = 60.0


def _open(options: AgentMetricsOptions, context: Context) -> AbstractAsyncContextManager[Source]:
    from agent.collect.agent import open_agent

    return open_agent(options, context)


COMPONENT: Final = Component(
    name="agent",
    options=AgentMetricsOptions,
    open=_open,
    signals=("metrics",),
    summary="The agent's own metrics, for the destinations that take metrics.",
)
