"""This file is the agent with components that misbehave on purpose, and with its patience scaled down.

    python odd_agent.py '{"agent.supervise.stop.HARD_STOP_SECONDS": 2}' COMMAND run --config FILE

``[collect.odd]`` and ``[export.odd]`` do what their ``does`` says once their ``trigger`` exists. What the run left
behind is written to ``left.json`` beside the configuration.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from agent.batch import Batch, Logs, Position
from agent.cli.main import main
from agent.collect import COLLECTORS
from agent.contract import Component, Context, Receipt
from agent.errors import Hold
from agent.export import DESTINATIONS
from agent.options import DestinationOptions, SourceOptions

LOOK_SECONDS = 0.02
FOR_EVER_SECONDS = 3600.0
ENDING_SECONDS = 10.0


class OddSourceOptions(SourceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    does: Annotated[str, Meta(description="What it does.")] = "nothing"
    trigger: Annotated[str, Meta(description="File that makes it do that.")] = ""
    ended: Annotated[str, Meta(description="File that it makes when it has been closed.")] = ""
    closing_seconds: Annotated[float, Meta(description="How long closing takes.")] = 0.0


class OddSource:
    """A source that gives one record at first, and then does what it is told to."""

    def __init__(self, options: OddSourceOptions, ctx: Context) -> None:
        self._options = options
        self._ctx = ctx
        self._background: set[asyncio.Task[None]] = set()

    async def batches(self) -> AsyncIterator[Batch]:
        opened = int(self._ctx.positions.get("opened", "0")) + 1
        labels = (("job", "odd"),)
        record = f"opened {opened}\n".encode()
        yield Logs(self._ctx.name, labels, record, 1, positions=(Position("opened", str(opened)),))
        while not self._options.trigger or not Path(self._options.trigger).exists():
            await asyncio.sleep(LOOK_SECONDS)
        DEEDS[self._options.does]()
        await asyncio.sleep(FOR_EVER_SECONDS)


@asynccontextmanager
async def open_source(options: OddSourceOptions, ctx: Context) -> AsyncIterator[OddSource]:
    try:
        yield OddSource(options, ctx)
    finally:
        if options.does == "block at the end":
            time.sleep(FOR_EVER_SECONDS)
        await asyncio.sleep(options.closing_seconds)
        if options.ended:
            Path(options.ended).write_text("ended")


async def _boom() -> None:
    raise RuntimeError("a task of nobody")


def _fail_in_a_task() -> None:
    asyncio.create_task(_boom())  # noqa: RUF006 - forgotten on purpose


def _fail_in_a_thread() -> None:
    def boom() -> None:
        raise RuntimeError("a thread of nobody")

    threading.Thread(target=boom, name="odd").start()


def _fail() -> None:
    raise RuntimeError("the source failed")


def _block() -> None:
    print("the loop is blocked", file=sys.stderr, flush=True)
    time.sleep(FOR_EVER_SECONDS)


def _nothing() -> None:
    pass


DEEDS: dict[str, Callable[[], None]] = {
    "nothing": _nothing,
    "block at the end": _nothing,
    "fail": _fail,
    "fail in a task": _fail_in_a_task,
    "fail in a thread": _fail_in_a_thread,
    "block the loop": _block,
}


class OddDestinationOptions(DestinationOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    does: Annotated[str, Meta(description="What it does.")] = "nothing"
    trigger: Annotated[str, Meta(description="File that makes it do that.")] = ""
    token_file: Annotated[str | None, Meta(description="A secret, which it tells.")] = None


class OddDestination:
    """A destination that accepts until it is told otherwise."""

    def __init__(self, options: OddDestinationOptions, ctx: Context) -> None:
        self._options = options
        self._ctx = ctx

    async def send(self, batches: Sequence[Batch]) -> Receipt:
        if self._options.trigger and not Path(self._options.trigger).exists():
            return Receipt()
        if self._options.does == "hang":
            await asyncio.sleep(FOR_EVER_SECONDS)
        if self._options.does == "tell":
            assert self._options.token_file is not None
            token = self._ctx.secrets.read_file(self._options.token_file, self._ctx.host.environ)
            raise Hold("unauthorized", f"the server did not like {token}")
        return Receipt()


@asynccontextmanager
async def open_destination(options: OddDestinationOptions, ctx: Context) -> AsyncIterator[OddDestination]:
    yield OddDestination(options, ctx)


def _register() -> None:
    collectors: dict[str, Any] = COLLECTORS  # type: ignore[assignment]
    destinations: dict[str, Any] = DESTINATIONS  # type: ignore[assignment]
    collectors["odd"] = Component("odd", OddSourceOptions, open_source, ("logs",), "Misbehaves.")
    destinations["odd"] = Component("odd", OddDestinationOptions, open_destination, ("logs",), "Misbehaves.")


def _patch(changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)


def _held() -> dict[str, list[str]]:
    """Open files, threads and children of this process."""
    files = {}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            files[descriptor] = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the listing itself
            continue
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "files": sorted(f"{descriptor} {name}" for descriptor, name in files.items()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": children,
    }


def _left(before: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is held now and was not before; threads are given the time to end that they may take."""
    deadline = time.monotonic() + ENDING_SECONDS
    while threading.active_count() > len(before["threads"]) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return {kind: [each for each in now if each not in before[kind]] for kind, now in _held().items()}


if __name__ == "__main__":
    _register()
    _patch(json.loads(sys.argv[1]))
    held = _held()
    status = main(sys.argv[3:])
    Path(sys.argv[-1]).with_name("left.json").write_text(json.dumps(_left(held)))
    sys.exit(status)
