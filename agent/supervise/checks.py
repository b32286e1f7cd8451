"""This file is the health checks that ask the agent's own parts; those that ask the machine are in serve/checks.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from agent.serve.checks import machine_checks
from agent.serve.health import Check, Finding
from agent.supervise.pipeline import Pipeline
from agent.supervise.progress import Progress
from agent.worker import Worker

if TYPE_CHECKING:
    from agent.supervise.run import Agent


def checks(
    agent: Agent, pipeline: Pipeline, progress: Progress, worker: Worker, endpoint_bound: Sequence[str]
) -> tuple[Check, ...]:
    """Every check of this agent."""
    serve = agent.config.serve

    def started() -> Finding:
        if agent.state == "starting":
            return Finding("failed", "the pipeline is still being started")
        return Finding("ok", f"{len(pipeline.sources)} sources, {len(pipeline.drains)} lanes")

    def bound() -> Finding:
        if not serve.enabled:
            return Finding("ok", "no endpoint is configured")
        return (
            Finding("ok", endpoint_bound[0]) if endpoint_bound else Finding("failed", "the endpoint is not bound yet")
        )

    def asked(ask: Callable[[], Finding]) -> Callable[[], Awaitable[Finding]]:
        async def run() -> Finding:
            found = ask()
            return Finding(found.status, agent.config.secrets.mask(found.message))

        return run

    return (
        *machine_checks(agent.host, worker, agent.clock),
        Check("progress", ("live",), asked(lambda: progress_finding(progress))),
        Check("spool", ("ready", "startup"), asked(lambda: spool_finding(pipeline))),
        Check("destinations", ("ready",), asked(lambda: destinations_finding(pipeline))),
        Check("sources", ("ready",), asked(lambda: sources_finding(pipeline))),
        Check("pipeline", ("startup",), asked(started)),
        Check("endpoint", ("startup",), asked(bound)),
    )


def progress_finding(progress: Progress) -> Finding:
    """Failed while something stands still that nothing keeps: a restart is what may mend it."""
    stuck = progress.stuck()
    return Finding("failed", "; ".join(stuck)) if stuck else Finding("ok", "everything that should move does")


def spool_finding(pipeline: Pipeline) -> Finding:
    """Failed exactly while what comes in cannot be made durable."""
    spool = pipeline.spool
    if spool.trouble is not None:
        return Finding("failed", f"the spool cannot commit: {spool.trouble}; free space at {spool.store.directory}")
    return Finding("ok", f"{spool.store.used_bytes:,} of {spool.options.max_bytes:,} bytes")


def destinations_finding(pipeline: Pipeline) -> Finding:
    """A dead or held backend is a warning: nothing is lost while the spool has room."""
    troubled = [
        f"{name} is {drain.state.doing}: {drain.state.hold_reason or drain.state.last_error}"
        for name, drain in pipeline.drains.items()
        if drain.state.doing in ("held", "open", "backoff")
    ]
    if troubled:
        return Finding("degraded", "; ".join(troubled))
    lanes = len(pipeline.drains)
    return Finding("ok", "1 lane delivers" if lanes == 1 else f"{lanes} lanes deliver")


def sources_finding(pipeline: Pipeline) -> Finding:
    """A source that fails or waits for room is a warning."""
    troubled = [
        f"{state.name} is {state.state}" + (f": {state.last_error}" if state.last_error else "")
        for state in pipeline.sources
        if state.state in ("failed", "blocked")
    ]
    if troubled:
        return Finding("degraded", "; ".join(troubled))
    return Finding("ok", f"{len(pipeline.sources)} source{'' if len(pipeline.sources) == 1 else 's'}")
