"""This file shows that a worker makes its calls one after the other, and that nobody waits for one that hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from agent.worker import Worker

WITHIN_SECONDS = 60


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker("test") as made:
        yield made
    assert made.join(WITHIN_SECONDS)


async def test_calls_are_made_in_their_order_on_one_thread_of_that_name(worker: Worker) -> None:
    order: list[int] = []
    calls = [worker.run(order.append, each) for each in range(20)]
    await asyncio.gather(*calls, worker.run(order.append, 20))
    assert order == list(range(21))
    assert await worker.run(lambda: threading.current_thread().name) == "test"


async def test_what_a_call_raises_is_raised_where_it_was_asked_for_and_the_next_call_is_made(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        await worker.run(exit_)
    assert await worker.run(int, "7") == 7


def exit_() -> None:
    raise SystemExit(3)


async def test_a_last_call_that_hangs_is_not_waited_for_beyond_its_time(worker: Worker) -> None:
    released, done = threading.Event(), threading.Event()

    def hang() -> None:
        released.wait(WITHIN_SECONDS)
        done.set()

    await worker.finish(hang, 0.01)
    assert not done.is_set()
    released.set()
    await worker.run(int)
    assert done.is_set()


async def test_a_last_call_that_does_not_hang_is_waited_for(worker: Worker) -> None:
    made: list[str] = []
    await worker.finish(lambda: made.append("closed"), WITHIN_SECONDS)
    assert made == ["closed"]


async def test_a_last_call_that_fails_is_said_and_keeps_nobody_from_ending(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    await worker.finish(lambda: 1 // 0, WITHIN_SECONDS)
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("telemetry_agent.worker", "test could not be ended in good order")
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
