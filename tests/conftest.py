"""This file makes the suite say no: to a leaked task or thread, a blocked loop, and anything left unclosed.

Warnings are errors by configuration; what warns while it is being collected (an unclosed file, a coroutine nobody
awaited) is collected here, after the test that left it, so that this test fails and not a later one.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import loopwatch

AsyncTest = Callable[..., Coroutine[Any, Any, None]]
SETTLING_TURNS = 25
THREAD_SECONDS = 5.0

loopwatch.install()

# What is started in the background ignores Ctrl-C, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says something about the machine, and nothing about the code.
settings.register_profile("agent", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("agent")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Wraps every asynchronous test, hypothesis ones by what they wrap themselves."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        inner = getattr(getattr(item.obj, "hypothesis", None), "inner_test", None)
        if inspect.iscoroutinefunction(inner) and not hasattr(inner, "ends_tidy"):
            item.obj.hypothesis.inner_test = tidy(inner)
        elif inspect.iscoroutinefunction(item.obj):
            item.obj = tidy(item.obj)


def pytest_collection_finish() -> None:
    """What has been imported stays; collecting after each test then costs next to nothing."""
    gc.collect()
    gc.freeze()


def tidy(test: AsyncTest) -> AsyncTest:
    """The test, failing when it leaves a task behind or the agent blocked the loop meanwhile."""

    @functools.wraps(test)
    async def ends_tidy(*args: Any, **kwargs: Any) -> None:
        before = asyncio.all_tasks()
        with loopwatch.watched() as findings:
            await test(*args, **kwargs)
            leaked = await unfinished(before)
        if leaked:
            pytest.fail("tasks left running: " + "; ".join(map(repr, leaked)), pytrace=False)
        if findings.sentences:
            pytest.fail("\n".join(findings.sentences), pytrace=False)

    ends_tidy.ends_tidy = True  # type: ignore[attr-defined]
    return ends_tidy


async def unfinished(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """The tasks that are not in ``before`` and do not end within a few turns of the loop; they are cancelled."""
    leaked: set[asyncio.Task[Any]] = set()
    for _ in range(SETTLING_TURNS):
        leaked = asyncio.all_tasks() - before
        if not leaked:
            return leaked
        await asyncio.sleep(0)
    for task in leaked:
        task.cancel()
    return leaked


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """Fails a test that leaves a thread which would delay the exit, and collects what it left unclosed."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(THREAD_SECONDS)
            assert not thread.is_alive(), f"thread left running: {thread.name}"
    gc.collect()
