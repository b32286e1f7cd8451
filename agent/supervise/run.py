"""This file runs the agent: opens downstream first, says READY, and drains upstream first.

lock · spool · destinations · processors · lanes · endpoint · control socket · sources · READY
stop:  sources off · processors idle · spool committed · one last try per lane · everything closed in reverse
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.clock import Clock, SystemClock
from agent.config.load import load
from agent.config.model import Config
from agent.errors import ConfigError
from agent.host import Host
from agent.ownlogs import OwnLogs, open_logs
from agent.ownmetrics import Meter
from agent.secrets import Secrets
from agent.serve.exposition import CONTENT_TYPE, render
from agent.serve.health import Health
from agent.serve.routes import Request, Response, Routes, json_response
from agent.spool.spool import open_spool
from agent.supervise import instance
from agent.supervise.checks import checks
from agent.supervise.commands import commands
from agent.supervise.control import serve_control
from agent.supervise.notify import Notify, feed_watchdog
from agent.supervise.pipeline import Pipeline, end, open_pipeline, start_sources
from agent.supervise.status import Status, status_line
from agent.supervise.stop import Stop, signals
from agent.worker import Worker

log = logging.getLogger("telemetry_agent.supervise")

SWITCH_SECONDS = 0.0005
"""How long a busy thread may keep the interpreter from the loop."""

LAST_TRY_SECONDS = 1.0
STUCK_SECONDS = 60.0
STATUS_SECONDS = 10.0
COMMIT_PATIENCE_SECONDS = 0.5
"""A commit that takes longer than that at the end is not waited for: its positions are not moved, so that what it held
is read again, and what it acknowledged is sent again."""


@dataclass(slots=True)
class Agent:
    """What one run is made of."""

    config_path: Path
    config: Config
    host: Host
    clock: Clock
    meter: Meter
    logs: OwnLogs
    state: str = "starting"


def run(config_path: Path, environ: dict[str, str]) -> int:
    """Runs until a signal or a failure; returns the exit status. Raises ConfigError, StateHeld or AgentError."""
    secrets = Secrets()
    config = load(config_path, environ, secrets)
    host = Host(Path(config.agent.state_dir).absolute(), Path(config.agent.run_dir).absolute(), environ=environ)
    meter = Meter()
    sys.setswitchinterval(SWITCH_SECONDS)
    options = config.agent
    with (
        open_logs(
            meter, level=options.log_level, chosen=options.log_format, mask=secrets.mask, environ=environ
        ) as logs,
        instance.held(host.state_dir),
    ):
        return asyncio.run(_run(Agent(config_path, config, host, SystemClock(), meter, logs)))


async def _run(agent: Agent) -> int:
    stop = Stop()
    notify = Notify(agent.host.environ)
    began = agent.clock.wall_ns()
    async with AsyncExitStack() as stack:
        spool = await stack.enter_async_context(open_spool(agent.host, agent.config.spool, agent.clock, agent.meter))
        pipeline = await stack.enter_async_context(
            open_pipeline(agent.config, agent.host, agent.clock, agent.meter, spool)
        )
        stack.enter_context(signals(stop, lambda: reload(agent, pipeline)))
        status = await _open_outside(agent, pipeline, stack, began)
        start_sources(pipeline, agent.config, agent.host, agent.clock, agent.meter)
        _mind([*pipeline.draining, *pipeline.collecting, spool.committing, *status.tasks], stop)
        stack.push_async_callback(end, status.tasks)
        _settle_memory()
        agent.state = "running"
        await status.health.round()
        log.info("running", extra={"context": {"config": [str(path) for path in agent.config.files]}})
        notify.ready(status_line(await status.document()))
        telling = asyncio.create_task(_tell(agent, notify, status), name="status line")
        feeding = _feed(agent, notify, pipeline, stop)
        reason = await stop.wait()
        agent.state = "stopping"
        notify.stopping()
        log.info("stopping: %s", reason)
        await end([telling, *feeding])
        await _drain_out(pipeline)
    log.info("stopped")
    return 1 if stop.failed else 0


async def _open_outside(agent: Agent, pipeline: Pipeline, stack: AsyncExitStack, began_ns: int) -> Status:
    """Opens what people and probes look through: health, endpoint, control socket."""
    worker = stack.enter_context(Worker("health"))
    endpoint_bound: list[str] = []
    health = Health(checks(agent, pipeline, worker, endpoint_bound), agent.clock)
    status = Status(
        agent.config, agent.host, agent.clock, pipeline, health, began_ns, lambda: agent.state, endpoint=endpoint_bound
    )
    await stack.enter_async_context(serve_control(agent.host.control_socket, commands(status, pipeline)))
    serve = agent.config.serve
    if serve.enabled:
        from agent.serve.endpoint import open_endpoint

        token = None
        if serve.token_file:
            token = agent.config.secrets.read_file(serve.token_file, agent.host.environ)
        endpoint = await stack.enter_async_context(
            open_endpoint(
                serve,
                _routes(status, agent.meter),
                clock=agent.clock,
                meter=agent.meter,
                token=token,
                environ=agent.host.environ,
            )
        )
        endpoint_bound.append(endpoint.url)
        log.info("answering on %s", endpoint.url)
    status.tasks.append(asyncio.create_task(health.turn(), name="health"))
    return status


def _routes(status: Status, meter: Meter) -> Routes:
    async def metrics(_request: Request) -> Response:
        return Response(200, render(meter, await status.readings()), CONTENT_TYPE)

    async def document(_request: Request) -> Response:
        return json_response(await status.document())

    return {"/metrics": metrics, "/status": document, **status.health.routes()}


def _mind(tasks: Sequence[asyncio.Task[Any]], stop: Stop) -> None:
    """A task of the agent's own that ends in an error ends the agent, in good order."""

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
            stop.ask(f"{task.get_name()} failed: {type(error).__name__}", failed=True)

    for task in tasks:
        task.add_done_callback(ended)


def _settle_memory() -> None:
    """What start-up made stays for good: the collector need not look at it again."""
    gc.collect()
    gc.freeze()


async def _tell(agent: Agent, notify: Notify, status: Status) -> None:
    while True:
        await agent.clock.sleep(STATUS_SECONDS)
        notify.status(status_line(await status.document()))


def _feed(agent: Agent, notify: Notify, pipeline: Pipeline, stop: Stop) -> list[asyncio.Task[None]]:
    if not notify.watchdog_seconds:
        return []

    def stuck() -> str | None:
        return stuck_lane(pipeline, agent.clock.monotonic_seconds())

    async def feed() -> None:
        reason = await feed_watchdog(notify, agent.clock, stuck)
        log.error("%s; the watchdog is no longer fed", reason)

    return [asyncio.create_task(feed(), name="watchdog")]


def stuck_lane(pipeline: Pipeline, now_seconds: float) -> str | None:
    """The lane that has been sending for STUCK_SECONDS without an end; a dead backend is no such case."""
    for name, drain in pipeline.drains.items():
        state = drain.state
        if state.doing == "sending" and now_seconds - state.progress_seconds > STUCK_SECONDS:
            return f"{name} has been sending for {now_seconds - state.progress_seconds:.0f} s without an end"
    return None


def reload(agent: Agent, pipeline: Pipeline) -> None:
    """Reads the configuration again: the log level and format change at once, and lanes that wait try again."""
    try:
        config = load(agent.config_path, agent.host.environ, agent.config.secrets)
    except ConfigError as error:
        log.error("the configuration was not reloaded; the old one goes on:\n%s", error)
        return
    agent.logs.set_level(config.agent.log_level)
    agent.logs.set_format(config.agent.log_format)
    for drain in pipeline.drains.values():
        drain.nudge()
    log.info("reloaded: log level %s; other changes take effect at the next start", config.agent.log_level)


async def _drain_out(pipeline: Pipeline) -> None:
    """Sources off, processors idle, spool committed, one last try per lane."""
    await end(pipeline.collecting)
    with suppress(TimeoutError):
        async with asyncio.timeout(COMMIT_PATIENCE_SECONDS):
            await pipeline.intake.due()
            await pipeline.spool.flush()
    for drain in pipeline.drains.values():
        drain.last_try = True
        drain.nudge()
    pipeline.spool.announce()
    _, late = await asyncio.wait(pipeline.draining, timeout=LAST_TRY_SECONDS) if pipeline.draining else ((), ())
    await end(list(late))
    with suppress(TimeoutError):
        async with asyncio.timeout(COMMIT_PATIENCE_SECONDS):
            await pipeline.spool.flush()
