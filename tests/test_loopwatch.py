"""This file checks the checker: what blocks a loop is seen, and what does not is left alone."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from agent.worker import Worker
from tests import loopwatch
from tests.conftest import unfinished

ELSEWHERE = "/elsewhere/agent/"


@pytest.fixture(autouse=True)
def _the_agents_folder_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what only pretends to be the agent's is not measured as such."""
    monkeypatch.setattr(loopwatch, "AGENT", ELSEWHERE)


def as_agent(call: Callable[..., Any], name: str = "pretend.py") -> Callable[..., Any]:
    """``call`` as if its code stood in the agent's folder."""
    code: CodeType = call.__code__
    call.__code__ = code.replace(co_filename=ELSEWHERE + name)
    return call


def sleeping() -> None:
    time.sleep(0)


async def sleeping_in_the_loop() -> None:
    time.sleep(0)


def test_a_call_that_waits_is_seen_when_the_loop_runs_the_agents_code() -> None:
    call = as_agent(sleeping_in_the_loop)
    with loopwatch.watched() as findings:
        asyncio.run(call())
    assert len(findings.sentences) == 1
    assert "sleep waits in the event loop: agent/pretend.py" in findings.sentences[0]


async def opening_a_database(path: str) -> None:
    sqlite3.connect(path).close()


async def flushing(descriptor: int) -> None:
    os.fsync(descriptor)


async def opening(path: str) -> None:
    open(path, "rb").close()


@pytest.mark.parametrize(
    ("call", "seen"), [(opening_a_database, "sqlite3.connect"), (flushing, "fsync"), (opening, "open")]
)
def test_waiting_for_a_disk_is_seen(call: Callable[[Any], Any], seen: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    call = as_agent(call)
    with file.open("rb") as opened, loopwatch.watched() as findings:
        asyncio.run(call(opened.fileno() if seen == "fsync" else str(file)))
    assert [sentence.split()[0] for sentence in findings.sentences] == [seen]


def test_a_callback_of_the_agent_is_seen_too() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(as_agent(sleeping))
        await asyncio.sleep(0)

    with loopwatch.watched() as findings:
        asyncio.run(main())
    assert len(findings.sentences) == 1


def test_a_worker_thread_may_wait() -> None:
    async def main() -> None:
        with Worker("waits") as worker:
            await worker.run(time.sleep, 0)

    with loopwatch.watched() as findings:
        asyncio.run(main())
    assert findings.sentences == []


def test_a_test_may_call_plain_functions_of_the_agent_itself() -> None:
    call = as_agent(sleeping)

    async def main() -> None:
        call()
        time.sleep(0)

    with loopwatch.watched() as findings:
        asyncio.run(main())
    assert findings.sentences == []


def test_a_permitted_place_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    call = as_agent(sleeping_in_the_loop, "permitted.py")
    monkeypatch.setattr(loopwatch, "PERMITTED", {("permitted.py", "sleeping_in_the_loop")})
    with loopwatch.watched() as findings:
        asyncio.run(call())
    assert findings.sentences == []


def test_work_that_keeps_the_loop_is_seen_by_its_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopwatch, "MOST_CPU_SECONDS", 0.01)

    async def main() -> None:
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass

    with loopwatch.watched() as findings:
        asyncio.run(main())
    assert len(findings.sentences) == 1
    assert "kept the loop for 0.0" in findings.sentences[0]


def test_a_task_left_running_is_found_and_ended() -> None:
    async def main() -> set[asyncio.Task[None]]:
        before = asyncio.all_tasks()
        task = asyncio.create_task(asyncio.Event().wait())
        leaked = await unfinished(before)
        assert leaked == {task}
        await asyncio.wait({task})
        assert task.cancelled()
        return await unfinished(before)

    assert asyncio.run(main()) == set()
