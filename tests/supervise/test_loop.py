"""The loop asks the kernel seldom while it has something to do, and never forgets to."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from agent.supervise.loop import MOST_STEPS, SLICE_SECONDS, Selector, turn


@pytest.fixture(autouse=True)
def slices() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def selector() -> Iterator[Selector]:
    with Selector() as made:
        yield made


def test_what_arrived_is_seen_after_a_few_steps_at_the_latest(selector: Selector) -> None:
    here, there = socket.socketpair()
    with here, there:
        selector.register(here, 1)
        there.send(b"x")
        seen = [bool(selector.select(0)) for _ in range(3 * (MOST_STEPS + 1))]
    assert seen == 3 * [*[False] * MOST_STEPS, True]


def test_who_waits_is_told_at_once(selector: Selector) -> None:
    here, there = socket.socketpair()
    with here, there:
        selector.register(here, 1)
        there.send(b"x")
        assert selector.select(0) == []
        assert selector.select(5)
        assert selector.select(None)


def test_a_loop_that_always_has_something_to_do_still_hears_the_others() -> None:
    async def main() -> bytes:
        heard = asyncio.Event()

        async def busy() -> None:
            while not heard.is_set():
                await asyncio.sleep(0)

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            writer.close()
            await writer.wait_closed()

        spinning = asyncio.create_task(busy())
        async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        from_a_thread = threading.Thread(target=asyncio.get_running_loop().call_soon_threadsafe, args=(heard.set,))
        from_a_thread.start()
        await spinning
        from_a_thread.join()
        return answer

    assert turn(main()) == b"HELLO\n"
    assert sys.getswitchinterval() == pytest.approx(SLICE_SECONDS)


def test_signals_reach_a_loop_that_always_has_something_to_do() -> None:
    async def main() -> str:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
        signal.raise_signal(signal.SIGUSR1)
        while not heard.is_set():
            await asyncio.sleep(0)
        return "heard"

    assert turn(main()) == "heard"


def test_what_main_raises_is_raised() -> None:
    async def main() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        turn(main())
