"""Names become addresses on a worker, and one that leads nowhere does not keep the others waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from agent.http import addresses
from agent.http.addresses import Address, Resolver, connected
from agent.worker import Worker


def at(port: int, host: str = "127.0.0.1") -> Address:
    return socket.AF_INET, socket.IPPROTO_TCP, (host, port)


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def refusing() -> Iterator[int]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


@contextmanager
def deaf() -> Iterator[int]:
    """A port whose queue is full, so that a connection is neither accepted nor refused."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    with refusing() as first, listening() as second:
        opened = await connected([at(first), at(second)])
        with opened:
            assert opened.getpeername()[1] == second


async def test_the_next_address_is_tried_beside_one_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "NEXT_SECONDS", 0.01)
    with deaf() as first, deaf() as second, listening() as third:
        opened = await connected([at(first), at(second), at(third)])
        with opened:
            assert opened.getpeername()[1] == third


async def test_a_refusal_does_not_wait_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "NEXT_SECONDS", 3600.0)
    with refusing() as first, refusing() as second, listening() as third:
        opened = await connected([at(first), at(second), at(third)])
        with opened:
            assert opened.getpeername()[1] == third


@pytest.mark.parametrize("count", [1, 3])
async def test_where_none_answers_the_reason_is_given(count: int) -> None:
    with refusing() as port, pytest.raises(ConnectionRefusedError):
        await connected([at(port)] * count)


async def test_a_second_connection_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "NEXT_SECONDS", 0.0)
    with listening() as port:
        for _ in range(20):
            (await connected([at(port)] * 3)).close()
        await asyncio.sleep(0)  # a socket left open would be told of as a warning, which is an error here


async def test_of_several_that_connect_at_the_same_moment_one_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "NEXT_SECONDS", 0.0)
    made, begun, ready = list[socket.socket](), list[Address](), asyncio.Event()

    async def attempt(address: Address) -> socket.socket:
        begun.append(address)
        await ready.wait()
        made.append(socket.socket())
        return made[-1]

    monkeypatch.setattr(addresses, "_attempt", attempt)
    connecting = asyncio.create_task(connected([at(1), at(2), at(3)]))
    while len(begun) < 3:
        await asyncio.sleep(0)
    ready.set()
    with await connecting as opened:
        await asyncio.sleep(0)
        assert [each.fileno() >= 0 for each in made] == [each is opened for each in made] != [True]
        assert len(made) == 3


async def test_giving_up_closes_every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "NEXT_SECONDS", 0.001)
    with deaf() as first, deaf() as second, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await connected([at(first), at(second)])


async def test_families_take_turns_in_the_order_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(host: bytes, port: int, **_: object) -> list[object]:
        six = [(socket.AF_INET6, 1, 6, "", (name, port, 0, 3)) for name in ("fe80::1%eth0", "2001:db8::2")]
        four = [(socket.AF_INET, 1, 6, "", (name, port)) for name in ("192.0.2.1", "192.0.2.2", "192.0.2.3")]
        return [*six, *four]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with Worker("resolve") as worker:
        found = await Resolver(worker).resolve("loki.example", 80)
    hosts = [where[0] for _, _, where in found]
    assert hosts == ["fe80::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
    assert found[0][2] == ("fe80::1", 80, 0, 3)


@pytest.mark.parametrize(
    ("host", "where"), [("127.0.0.1", ("127.0.0.1", 80)), ("::1", ("::1", 80, 0, 0)), ("192.0.2.7", ("192.0.2.7", 80))]
)
async def test_an_address_needs_no_resolver(
    host: str, where: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    with Worker("resolve") as worker:
        [(family, _, found)] = await Resolver(worker).resolve(host, 80)
    assert found == where
    assert family == (socket.AF_INET6 if ":" in host else socket.AF_INET)


async def test_one_question_is_asked_for_all_who_wait_and_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def answer(host: bytes, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, 1, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with Worker("resolve") as worker:
        resolver = Resolver(worker)
        first, second = await asyncio.gather(resolver.resolve("a.example", 80), resolver.resolve("a.example", 80))
        assert first == second == [(socket.AF_INET, 6, ("192.0.2.1", 80))]
        assert asked == [b"a.example"]
        await resolver.resolve("a.example", 80)
    assert asked == [b"a.example"] * 2


async def test_one_who_waits_no_more_does_not_take_the_answer_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, **__: [(2, 1, 6, "", ("192.0.2.1", port))])
    with Worker("resolve") as worker:
        resolver = Resolver(worker)
        impatient = asyncio.ensure_future(resolver.resolve("a.example", 80))
        patient = asyncio.ensure_future(resolver.resolve("a.example", 80))
        await asyncio.sleep(0)
        impatient.cancel()
        assert [where for _, _, where in await patient] == [("192.0.2.1", 80)]
