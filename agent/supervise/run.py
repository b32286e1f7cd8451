"""This file runs the agent: opens downstream first, says READY, and drains upstream first.

lock · signals · spool · destinations · processors · lanes · control socket · endpoint · sources · READY
stop:  sources off · processors idle · spool committed · one last try per lane · everything closed in reverse
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from agent.clock import Clock, SystemClock
from agent.config.model import Config
from agent.errors import AgentError, ConfigError, SpoolDamaged, SpoolFull
from agent.host import Host
from agent.ownlogs.lines import OwnLogs, open_logs
from agent.ownmetrics import Meter
from agent.secrets import Secrets
from agent.serve.health import Health
from agent.serve.routes import Request, Response, Routes, json_response
from agent.spool.spool import Spool, open_spool
from agent.supervise import instance
from agent.supervise.audited import audited
from agent.supervise.checks import checks
from agent.supervise.commands import Command, commands
from agent.supervise.control import serve_control
from agent.supervise.drainout import drain_out
from agent.supervise.endpoint import ServedEndpoint
from agent.supervise.handed import handed_over
from agent.supervise.notify import Notify, feed_watchdog, notifying
from agent.supervise.pipeline import Pipeline, end, open_pipeline, start_sources
from agent.supervise.progress import Progress
from agent.supervise.reload import Reloading
from agent.supervise.settle import freeze, one_heap, settle
from agent.supervise.status import Status, looking, masked_in, status_line
from agent.supervise.stop import Stop, stopping
from agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.ownlogs.writer import Writer

log = logging.getLogger("telemetry_agent.supervise")

SWITCH_SECONDS = 0.0005
"""How long a busy thread may keep the interpreter from the loop."""

MOST_FILES = 65536
STATUS_SECONDS = 30.0
EXTEND_SECONDS = 10.0
FIRST_ROUND_SECONDS = 0.2
"""How long READY waits for the first round of health checks."""


class Agent(Struct):
    """What one run is made of."""

    config_path: Path
    config: Config
    host: Host
    clock: Clock
    meter: Meter
    logs: OwnLogs
    notify: Notify
    state: str = "starting"
    load_fault: str | None = None
    """Why the configuration could not be read the last time it was."""
    reloading: tuple[str, float] | None = None
    """What a reload is about just now, and since when on the monotonic clock."""
    stop_reason: str = ""
    stop_failed: bool = False
    log_files: Writer | None = None


def run(config_path: Path, environ: dict[str, str]) -> int:
    """Runs until a signal or a failure; returns the exit status. Raises ConfigError, StateHeld or AgentError."""
    secrets = Secrets()
    config = _load(config_path, environ, secrets)
    troubles: list[str] = []
    host = Host(
        Path(config.agent.state_dir).absolute(),
        Path(config.agent.run_dir).absolute(),
        environ=environ,
        sockets=handed_over(environ, troubles=troubles),
    )
    meter = Meter()
    sys.setswitchinterval(SWITCH_SECONDS)
    one_heap()
    _raise_file_limit()
    options = config.agent
    with (
        open_logs(
            meter, level=options.log_level, chosen=options.log_format, mask=secrets.mask, environ=environ
        ) as logs,
        instance.held(host.state_dir),
        notifying(environ) as notify,
    ):
        for each in troubles:
            log.warning("%s", each)
        agent = Agent(config_path, config, host, SystemClock(), meter, logs, notify)
        with _log_files(agent), audited(agent):
            return asyncio.run(_run(agent, notify))


@contextmanager
def _log_files(agent: Agent) -> Iterator[None]:
    """Writes the own log to files as well where that is configured; what does so is imported only there."""
    options = agent.config.agent
    if not options.log_files:
        yield
        return
    from agent.ownlogs.files import log_directory
    from agent.ownlogs.writer import writing

    directory = log_directory(options.log_dir, agent.host.environ)
    if directory.resolve().is_relative_to(agent.host.spool_dir.resolve()):
        raise AgentError(f"[agent] log_dir {directory}: nothing but the spool may be written there; name another")
    with writing(agent.logs, directory, options, agent.host, agent.clock, agent.meter) as agent.log_files:
        yield


def _load(path: Path, environ: dict[str, str], secrets: Secrets) -> Config:
    from agent.config.load import load  # not kept: see agent.supervise.settle

    return load(path, environ, secrets)


class _Opened(Struct, frozen=True):
    """What one run has open; the stack it was opened on closes it."""

    pipeline: Pipeline
    progress: Progress
    status: Status
    reloading: Reloading
    worker: Worker
    """Reads what is slow for those who ask; ``reader`` reads files of the configuration, which may lie on a mount that
    hangs."""
    reader: Worker


async def _run(agent: Agent, notify: Notify) -> int:
    """Opens everything, runs until it is asked to stop or something fails, and drains. Returns the exit status."""
    reload_wanted = asyncio.Event()
    feeding: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stopping(reload_wanted.set))
        stack.push_async_callback(end, feeding)  # until everything else is closed: systemd watches a stop too
        opened = await _open(agent, stack)
        looking_on = _look_on(agent, opened, reload_wanted)
        stack.push_async_callback(end, looking_on)
        await _say_ready(agent, notify, opened.status)
        telling = asyncio.create_task(_tell(agent, notify, opened.status), name="status line")
        looking_on.append(asyncio.create_task(settle(agent.host.proc, agent.clock, opened.worker), name="settle"))
        if notify.watchdog_seconds:
            watchdog = feed_watchdog(notify, agent.clock, opened.progress.stuck)
            feeding.append(asyncio.create_task(watchdog, name="watchdog"))
        _mind_all(stop, opened.pipeline, (*looking_on, telling, *feeding))
        freeze()
        agent.stop_reason = await stop.wait()
        agent.state = "stopping"
        notify.stopping()
        log.info("stopping: %s", agent.stop_reason)
        await opened.reloading.close()
        await end([telling])
        feeding.append(asyncio.create_task(_extend(agent, notify), name="stop"))
        await drain_out(opened.pipeline)
    log.info("stopped")
    agent.stop_failed = stop.failed
    return 1 if stop.failed else 0


async def _open(agent: Agent, stack: AsyncExitStack) -> _Opened:
    """Opens everything, downstream first; the sources start last."""
    began_ns = agent.clock.wall_ns()
    spool = await _open_spool(agent, stack)
    pipeline = await stack.enter_async_context(open_pipeline(agent.config, agent.host, agent.clock, agent.meter, spool))
    progress = Progress(pipeline, agent.clock)
    worker, reader = stack.enter_context(Worker("serve")), stack.enter_context(Worker("reload"))
    bound: list[str] = []
    status = await _open_status(agent, pipeline, progress, bound, stack, began_ns)
    reloading = await _open_outside(agent, status, bound, (worker, reader), stack)
    start_sources(pipeline, status.readings)
    agent.state = "running"
    return _Opened(pipeline, progress, status, reloading, worker, reader)


def _look_on(agent: Agent, opened: _Opened, reload_wanted: asyncio.Event) -> list[asyncio.Task[None]]:
    """The tasks that look at what runs and at what is asked of it."""
    return [
        asyncio.create_task(opened.status.health.turn(), name="health"),
        asyncio.create_task(opened.reloading.serve(reload_wanted), name="reload"),
        *_noting(agent, opened.status),
        *_watching(agent, reload_wanted, opened.reader),
    ]


async def _say_ready(agent: Agent, notify: Notify, status: Status) -> None:
    """Says READY, with the first findings of the health checks where they do not take long."""
    await status.health.wait_for_round(FIRST_ROUND_SECONDS)
    log.info("running", extra={"context": {"config": [str(path) for path in agent.config.files]}})
    document = await status.document()
    _warn_of(agent.config, document)
    notify.ready(status_line(document))


def _mind_all(stop: Stop, pipeline: Pipeline, others: Iterable[asyncio.Task[Any]]) -> None:
    """Minds every task there is, and those that the pipeline starts later."""
    pipeline.mind = partial(_mind, stop)
    for task in (*pipeline.draining, *pipeline.collecting, pipeline.spool.committing, *others):
        pipeline.mind(task)


def _watching(agent: Agent, wanted: asyncio.Event, worker: Worker) -> list[asyncio.Task[None]]:
    """The task that asks for a reload when a file has changed, where there is one."""
    if not agent.config.agent.reload_on_change:
        return []
    from agent.supervise.changed import ask_when_changed

    asking = ask_when_changed(agent.config_path, wanted, agent.clock, worker)
    return [asyncio.create_task(asking, name="changed files")]


def _noting(agent: Agent, status: Status) -> list[asyncio.Task[None]]:
    """The task that writes the performance log, where there is one."""
    if agent.log_files is None:
        return []
    from agent.supervise.performance import Performance, note_performance

    performance = Performance(agent.meter, agent.clock, agent.config.secrets.mask)
    interval = agent.config.agent.log_performance_interval_seconds
    noting = note_performance(performance, agent.clock, interval, status.readings_of_process.get, agent.log_files.take)
    return [asyncio.create_task(noting, name="performance log")]


def _warn_of(config: Config, document: Mapping[str, Any]) -> None:
    """What is allowed and rarely meant: nothing to do, and records that wait for nobody."""
    if config.idle():
        log.warning("%s", config.idle())
    for lane in document["lanes"]:
        if lane["state"] == "orphaned" and lane["waiting_records"]:
            log.warning(
                "%s is no longer configured and holds %s records: configure it again, or see 'telemetry-agent spool "
                "export --lane %s'; after [spool] retire_after_seconds = %g they are let go",
                lane["name"], f"{lane['waiting_records']:,}", lane["name"], config.spool.retire_after_seconds,
            )  # fmt: skip


async def _open_spool(agent: Agent, stack: AsyncExitStack) -> Spool:
    try:
        return await stack.enter_async_context(open_spool(agent.host, agent.config.spool, agent.clock, agent.meter))
    except (SpoolDamaged, SpoolFull, OSError) as error:
        raise AgentError(
            f"[agent] state_dir {agent.host.state_dir}: the spool {error}; this user must own everything in it, and "
            "its disk must have room"
        ) from error


async def _open_status(
    agent: Agent, pipeline: Pipeline, progress: Progress, bound: list[str], stack: AsyncExitStack, began_ns: int
) -> Status:
    """Opens what knows how the agent is doing. ``bound`` holds where the endpoint answers, once it does."""
    disk = stack.enter_context(Worker("health"))
    health = Health(checks(agent, pipeline, progress, disk, bound), agent.clock)
    return await stack.enter_async_context(
        looking(
            agent.config,
            agent.host,
            agent.clock,
            pipeline,
            health,
            started_at_ns=began_ns,
            state=lambda: agent.state,
            endpoint=bound,
            worker=disk,
        )
    )


async def _open_outside(
    agent: Agent, status: Status, bound: list[str], workers: tuple[Worker, Worker], stack: AsyncExitStack
) -> Reloading:
    """Opens what people and probes look through: endpoint and control socket. The second of the ``workers`` is the one
    that reads files of the configuration."""
    worker, reader = workers
    endpoint = ServedEndpoint(agent, bound, _routes(status, agent.meter, worker), reader)

    async def taken(config: Config) -> bool:
        changed = await endpoint.change(config)
        status.config = config
        return changed

    reloading = Reloading(agent, status.pipeline, reader, taken)
    answers = _masked(commands(status, status.pipeline, reloading), agent.config.secrets)
    await stack.enter_async_context(serve_control(agent.host.control_socket, answers, clock=agent.clock))
    stack.push_async_callback(endpoint.close)
    await endpoint.change(agent.config)
    return reloading


def _routes(status: Status, meter: Meter, worker: Worker) -> Routes:
    from agent.serve.exposition import Exposition

    async def document(_request: Request) -> Response:
        return json_response(await status.asked_for())

    exposition = Exposition(meter, status.pipeline.views, status.readings, worker, status.clock)
    return {**exposition.routes(), "/status": document, **status.health.routes()}


def _masked(answers: Mapping[str, Command], secrets: Secrets) -> dict[str, Command]:
    """The commands, their answers and refusals without secrets."""

    def masked(command: Command) -> Command:
        async def answer(request: dict[str, Any]) -> dict[str, Any]:
            try:
                document: dict[str, Any] = masked_in(await command(request), secrets.mask)
            except ConfigError as error:
                raise ConfigError([secrets.mask(str(fault)) for fault in error.faults]) from error
            except AgentError as error:
                raise AgentError(secrets.mask(str(error))) from error
            return document

        return answer

    return {name: masked(command) for name, command in answers.items()}


def _mind(stop: Stop, minded: asyncio.Task[Any]) -> None:
    """A task of the agent's own that ends in an error ends the agent, in good order."""

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
            stop.ask(f"{task.get_name()} failed: {type(error).__name__}", failed=True)

    minded.add_done_callback(ended)


def _raise_file_limit() -> None:
    """Takes as many descriptors as this user may have: connections must not starve files, spool and destinations."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _extend(agent: Agent, notify: Notify) -> None:
    """Asks the service manager for time while what is held is committed; the hard stop bounds it."""
    while notify.heard:
        notify.extend(EXTEND_SECONDS)
        await agent.clock.sleep(EXTEND_SECONDS / 2)


async def _tell(agent: Agent, notify: Notify, status: Status) -> None:
    while notify.heard:
        await agent.clock.sleep(STATUS_SECONDS)
        notify.status(status_line(await status.document()))
