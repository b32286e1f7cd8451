"""This file is the health checks that ask the agent's own parts; those that ask the machine are in serve/checks.py.

live      loop_turns · own_memory · state_directory · kernel_files · load · progress
ready     components_built · spool · host_cycle · configuration · instance_and_schema · disk_space · memory ·
          destinations · sources
startup   pipeline · destinations_opened · signals_and_notify · spool_opened · endpoint
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from agent.serve.checks import machine_checks
from agent.serve.health import Check, Finding
from agent.spool.schema import SCHEMA_VERSION
from agent.supervise import instance
from agent.supervise.pipeline import Pipeline
from agent.supervise.progress import Progress
from agent.supervise.routing import lane_name
from agent.supervise.stop import unheard
from agent.worker import Worker

if TYPE_CHECKING:
    from agent.batch import Signal
    from agent.clock import Clock
    from agent.config.model import Config
    from agent.host import Host
    from agent.supervise.intake import SourceState
    from agent.supervise.notify import Notify
    from agent.supervise.run import Agent

MOST_RELOAD_SECONDS: Final = 30.0
"""How long one step of a reload may take before it is shown."""
MOST_INTERVALS: Final = 2.0
"""How old the last cycle of host metrics may be."""


def checks(
    agent: Agent, pipeline: Pipeline, progress: Progress, worker: Worker, endpoint_bound: Sequence[str]
) -> tuple[Check, ...]:
    """Every check of this agent."""
    cycle, asked = HostCycle(pipeline, agent.clock), partial(_masked, agent)
    return (
        *machine_checks(agent.host, worker, agent.clock),
        Check("progress", ("live",), asked(lambda: progress_finding(progress))),
        Check("components_built", ("ready",), asked(lambda: components_finding(agent.config, pipeline))),
        Check("spool", ("ready",), asked(lambda: spool_finding(pipeline))),
        Check("host_cycle", ("ready",), asked(cycle.finding), when_late="degraded"),
        Check("configuration", ("ready",), asked(lambda: configuration_finding(agent)), when_late="degraded"),
        Check(
            "instance_and_schema",
            ("ready",),
            lambda: instance_finding(agent.host, pipeline, worker),
            when_late="degraded",
        ),
        Check("destinations", ("ready",), asked(lambda: destinations_finding(pipeline))),
        Check("sources", ("ready",), asked(lambda: sources_finding(pipeline))),
        Check("pipeline", ("startup",), asked(lambda: pipeline_finding(agent.state, pipeline))),
        Check("destinations_opened", ("startup",), asked(lambda: opened_finding(agent.config, pipeline))),
        Check("signals_and_notify", ("startup",), asked(lambda: signals_finding(agent.notify))),
        Check("spool_opened", ("startup",), asked(lambda: spool_opened_finding(pipeline)), beside=worker),
        Check("endpoint", ("startup",), asked(lambda: endpoint_finding(agent.config, endpoint_bound))),
    )


def _masked(agent: Agent, ask: Callable[[], Finding]) -> Callable[[], Finding]:
    """A question whose answer quotes no secret."""

    def asked() -> Finding:
        found = ask()
        return Finding(found.status, agent.config.secrets.mask(found.message))

    return asked


# live


def progress_finding(progress: Progress) -> Finding:
    """Failed while something stands still that nothing keeps: a restart is what may mend it."""
    stuck = progress.stuck()
    return Finding("failed", "; ".join(stuck)) if stuck else Finding("ok", "everything that should move does")


# ready


def components_finding(config: Config, pipeline: Pipeline) -> Finding:
    """Failed while a component that is configured has not been built."""
    built = {
        "collect": {state.name for state in pipeline.sources},
        "process": {link.name for link in pipeline.chain.links},
        "export": {each.name for each in config.export if not _unopened(each.name, each.component.signals, pipeline)},
    }
    missing = [f"{each.stage}.{each.name}" for each in config.components() if each.name not in built[each.stage]]
    if missing:
        return Finding("failed", f"not built yet: {', '.join(missing)}")
    count = sum(1 for _ in config.components())
    return Finding("ok", f"{count} component{'' if count == 1 else 's'}, all built")


def spool_finding(pipeline: Pipeline) -> Finding:
    """Failed exactly while what comes in cannot be made durable."""
    spool = pipeline.spool
    if spool.trouble is not None:
        return Finding("failed", f"the spool cannot commit: {spool.trouble}; free space at {spool.store.directory}")
    if spool.replacing:
        return Finding("failed", f"the spool in {spool.store.directory} was damaged and is being replaced")
    return Finding("ok", f"{spool.store.used_bytes:,} of {spool.options.max_bytes:,} bytes")


class HostCycle:
    """Whether host metrics are as young as they should be; a source gets two intervals for its first cycle."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._since: dict[str, float] = {}

    def finding(self) -> Finding:
        """Degraded, and never failed: what else comes in is made durable all the same."""
        hosts = [state for state in self._pipeline.sources if state.type == "host"]
        if not hosts:
            return Finding("ok", "no host metrics are configured")
        found = [self._of(state) for state in hosts]
        worst = next((each for each in found if each.status != "ok"), found[0])
        return Finding(worst.status, "; ".join(each.message for each in found if each.status == worst.status))

    def _of(self, state: SourceState) -> Finding:
        detail = state.detail()
        if state.state == "unrouted" or detail.get("on_request") is True:
            return Finding("ok", f"{state.name} is collected on request: no destination takes its metrics")
        interval = detail.get("interval_seconds")
        if not isinstance(interval, int | float):  # it is not open; what keeps it, the check of sources says
            return self._without(state)
        now = self._clock.monotonic_seconds()
        ago = detail.get("last_cycle_seconds_ago")
        age = ago if isinstance(ago, int | float) else now - self._since.setdefault(state.name, now)
        most = MOST_INTERVALS * interval
        if age > most:
            return Finding("degraded", f"the last cycle of {state.name} was {age:.0f} s ago; at most {most:g} s pass")
        if ago is None:
            return Finding("ok", f"{state.name} has {most:g} s for its first cycle")
        return Finding("ok", f"the last cycle of {state.name} was {age:.0f} s ago")

    def _without(self, state: SourceState) -> Finding:
        self._since.pop(state.name, None)
        if state.state == "failed":
            return Finding("degraded", f"{state.name} failed: {state.last_error}")
        return Finding("ok", f"{state.name} is being opened")


def configuration_finding(agent: Agent) -> Finding:
    """Degraded after a reload that was refused: the old configuration goes on and nothing is lost, but the files do not
    say what the agent does, and it would not start with them. Degraded as well while a reload hangs."""
    if agent.reloading is not None:
        step, since = agent.reloading
        seconds = agent.clock.monotonic_seconds() - since
        if seconds > MOST_RELOAD_SECONDS:
            return Finding("degraded", f"a reload has been {step} for {seconds:.0f} s")
    if agent.load_fault is not None:
        return Finding("degraded", f"the last reload was refused, the old configuration goes on: {agent.load_fault}")
    return Finding("ok", f"loaded from {', '.join(str(path) for path in agent.config.files)}")


async def instance_finding(host: Host, pipeline: Pipeline, worker: Worker) -> Finding:
    """Failed where another agent holds the state directory, or the spool is of no schema that this one knows."""
    alone = await worker.run(alone_finding, host)
    if alone.status != "ok":
        return alone
    version = await pipeline.spool.schema_version()
    if version < SCHEMA_VERSION:
        return Finding("failed", f"the spool says it has schema {version}; this agent knows {SCHEMA_VERSION}")
    newer = f", made by a newer agent; this one uses what it knows of it ({SCHEMA_VERSION})"
    return Finding("ok", f"{alone.message}; schema {version}{newer if version > SCHEMA_VERSION else ''}")


def alone_finding(host: Host) -> Finding:
    """Whether the lock of the state directory is still the one that this process holds."""
    if (other := instance.other_holder(host.state_dir)) is not None:
        return Finding("failed", f"{host.state_dir} is held by process {other} as well; stop one of the two agents")
    if instance.seems_free(host.state_dir):
        return Finding("degraded", f"{host.state_dir}/lock is gone: a second agent could start; restart this one")
    return Finding("ok", "the only agent on its state directory")


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


# startup


def pipeline_finding(state: str, pipeline: Pipeline) -> Finding:
    """Failed until the sources have been started."""
    if state == "starting":
        return Finding("failed", "the pipeline is still being started")
    return Finding("ok", f"{len(pipeline.sources)} sources, {len(pipeline.drains)} lanes")


def opened_finding(config: Config, pipeline: Pipeline) -> Finding:
    """Failed until each destination is open and its lanes run."""
    waiting = [name for each in config.export for name in _unopened(each.name, each.component.signals, pipeline)]
    if waiting:
        return Finding("failed", f"not open yet: {', '.join(waiting)}")
    ended = [task.get_name() for task in pipeline.draining if task.done()]
    if ended:
        return Finding("failed", f"ended: {', '.join(ended)}")
    return Finding("ok", f"{len(config.export)} destination{'' if len(config.export) == 1 else 's'} open")


def signals_finding(notify: Notify) -> Finding:
    """Failed where a signal would not be heard, or the service manager that wants to be told could not be."""
    deaf = unheard()
    if deaf:
        return Finding("failed", f"nobody hears {', '.join(deaf)}")
    if trouble := notify.trouble():
        return Finding("failed", f"the service manager cannot be told anything: {trouble}")
    return Finding("ok", "SIGTERM, SIGINT and SIGHUP are heard")


def spool_opened_finding(pipeline: Pipeline) -> Finding:
    """Failed until the spool is open and commits; also where its file was taken away since."""
    path = pipeline.spool.store.path
    if pipeline.spool.committing.done():
        return Finding("failed", f"nothing commits to {path} any more")
    if not path.exists():
        return Finding("failed", f"{path} is gone; restart the agent, which saves what can be")
    return Finding("ok", f"{path} is open")


def endpoint_finding(config: Config, bound: Sequence[str]) -> Finding:
    """Failed until the local endpoint listens."""
    if not config.serve.enabled:
        return Finding("ok", "no endpoint is configured")
    return Finding("ok", bound[0]) if bound else Finding("failed", "the endpoint is not bound yet")


def _unopened(name: str, signals: Sequence[Signal], pipeline: Pipeline) -> list[str]:
    """The lanes of a destination that are not there."""
    return [lane for signal in signals if (lane := lane_name(name, signal)) not in pipeline.drains]
