"""Whoever looks at the agent is answered, also while what is asked hangs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.supervise.latest import Latest


async def test_each_look_asks_anew() -> None:
    answers = iter(range(10))

    async def ask() -> int:
        return next(answers)

    latest = Latest(ask, -1)
    assert [await latest.get() for _ in range(3)] == [0, 1, 2]


async def test_while_an_answer_is_late_the_last_one_stands_and_nothing_is_asked_twice() -> None:
    asked, answer = 0, asyncio.Event()

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await answer.wait()
        return asked

    latest = Latest(ask, -1, patience_seconds=0.01)
    assert [await latest.get() for _ in range(3)] == [-1, -1, -1]
    assert asked == 1
    answer.set()
    await asyncio.sleep(0)
    assert await latest.get() == 1
    assert await latest.get() == 2


async def test_only_the_first_look_waits_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[float] = []
    wait = asyncio.wait

    async def waiting(asked: Any, timeout: float) -> Any:
        patience.append(timeout)
        return await wait(asked, timeout=0)

    answer = asyncio.Event()

    async def ask() -> int:
        await answer.wait()
        return 1

    monkeypatch.setattr("agent.supervise.latest.asyncio.wait", waiting)
    latest = Latest(ask, -1, patience_seconds=5)
    assert [await latest.get() for _ in range(3)] == [-1, -1, -1]
    assert patience == [5, 0, 0]
    answer.set()
    await asyncio.sleep(0)
    assert [await latest.get() for _ in range(2)] == [1, 1]
    assert patience == [5, 0, 0, 0, 5]
    await latest.close()


async def test_two_who_look_at_once_share_one_question() -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return asked

    latest = Latest(ask, -1)
    assert await asyncio.gather(latest.get(), latest.get()) == [1, 1]


async def test_what_asking_raises_is_raised_and_the_next_look_asks_again() -> None:
    answers: list[int | Exception] = [ValueError("x"), 5]

    async def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    latest = Latest(ask, -1)
    with pytest.raises(ValueError, match="x"):
        await latest.get()
    assert await latest.get() == 5


async def test_leaving_ends_a_question_that_hangs() -> None:
    latest = Latest(asyncio.Event().wait, True, patience_seconds=0.01)
    await latest.get()
    await latest.close()
