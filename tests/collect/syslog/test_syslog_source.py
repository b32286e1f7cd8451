"""This file shows that what is sent to a syslog source arrives, by every way, and that nothing grows without bound."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.collect.syslog.listening import listening
from agent.collect.syslog.options import SyslogOptions
from agent.collect.syslog.source import open_syslog
from agent.errors import AgentError
from tests.collect.syslog_senders import LOCAL, Receiving, receiving
from tests.fakes import FakeClock, context

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: what is closed is reset."""


def lines(count: int, first: int = 0) -> list[bytes]:
    return [b"<13>Nov 20 12:00:00 web app[1]: message %d" % number for number in range(first, first + count)]


def framed(messages: list[bytes], rng: random.Random) -> bytes:
    """The messages, each framed in one way or another."""
    ways = [lambda each: each + b"\n", lambda each: each + b"\r\n", lambda each: b"%d %s" % (len(each), each)]
    return b"".join(rng.choice(ways)(each) for each in messages)


def sent_until_it_blocks(sender: socket.socket, block: bytes) -> int:
    """Sends the block again and again. Returns how many bytes were taken before the sender would have had to wait."""
    sender.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while sent < 256 << 20:
            sent += sender.send(block[sent % len(block) :])
    assert sent < 256 << 20, "somebody reads on"
    return sent


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Whoever opens one finds that there is none left."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/dev/null") as free:
        lowest = free.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, most[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)


async def test_connections_bring_messages_in_order_however_they_are_framed(tmp_path: Path) -> None:
    rng = random.Random(4)
    sent = lines(5000)
    async with receiving(tmp_path, tcp_listen=LOCAL) as source:
        reader, writer = await asyncio.open_connection(*source.address())
        writer.write(framed(sent, rng))
        assert await source.until(len(sent)) == sent
        writer.close()
        await source.while_(lambda: source.counted("syslog_connections"))
        assert reader.at_eof() or await reader.read() == b""
        assert source.counted("syslog_unfinished_total") == 0


async def test_datagrams_are_messages_each(tmp_path: Path) -> None:
    async with receiving(tmp_path, udp_listen=LOCAL, unix_path=str(tmp_path / "s")) as source:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for message in (b"<13>one\n", b"<13>two\0", b"\n", b"", b"<13>th\nree\r\n"):
                udp.sendto(message, source.address("udp_listen"))
        assert await source.until(3) == [b"<13>one", b"<13>two", b"<13>th\nree"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
            local.sendto(b"<13>Nov 20 12:00:00 cron[7]: four", str(tmp_path / "s"))
        assert (await source.until(4))[3] == b"<13>Nov 20 12:00:00 cron[7]: four"
        assert ("host", "127.0.0.1") in source.batches[0].labels
        assert {("host", "testhost"), ("app", "cron")} <= set(source.batches[-1].labels)


async def test_ipv6_is_heard_and_ipv4_beside_it_is_called_by_its_own_name(tmp_path: Path) -> None:
    async with receiving(tmp_path, udp_listen="[::]:0", fields={"peer": "peer"}) as source:
        _, port = source.address("udp_listen")
        for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
            with socket.socket(family, socket.SOCK_DGRAM) as udp:
                udp.sendto(b"<13>x", (host, port))
        await source.until(2)
        assert {dict(batch.labels)["peer"] for batch in source.batches} == {"::1", "127.0.0.1"}


async def test_a_message_that_is_too_long_is_cut_and_counted_by_every_way(tmp_path: Path) -> None:
    long = b"<13>" + b"x" * 2000
    options = {"udp_listen": LOCAL, "tcp_listen": LOCAL, "unix_path": str(tmp_path / "s"), "max_message_bytes": 1000}
    async with receiving(tmp_path, **options) as source:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(long, source.address("udp_listen"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
            local.sendto(long, str(tmp_path / "s"))
        with socket.create_connection(source.address()) as tcp:
            tcp.sendall(long + b"\n<13>next\n%d %s" % (len(long), long))
        got = await source.until(5)
        assert sorted(got) == sorted([*([long[:1000]] * 4), b"<13>next"])
        assert source.counted("lines_cut_total") == 4
        assert source.counted("source_lost_total", "cut") == 4 * 1004


async def test_a_sender_that_is_killed_in_the_middle_of_a_message_leaves_what_had_come(tmp_path: Path) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL) as source:
        with socket.create_connection(source.address()) as tcp:
            tcp.sendall(b"<13>whole\n<13>only a pa")
        with socket.create_connection(source.address()) as tcp:
            tcp.sendall(b"9 <13>whole30 <13>only the begin")
        got = await source.until(4)
        assert sorted(got) == [b"<13>only a pa", b"<13>only the begin", b"<13>whole", b"<13>whole"]
        assert source.counted("syslog_unfinished_total") == 2


async def test_a_connection_that_is_reset_leaves_the_others_alone(tmp_path: Path) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL) as source:
        staying = socket.create_connection(source.address())
        for _ in range(20):
            with socket.create_connection(source.address()) as tcp:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        staying.sendall(b"<13>still here\n")
        assert await source.until(1) == [b"<13>still here"]
        await source.while_(lambda: source.counted("syslog_connections") > 1)
        staying.close()


async def test_while_nobody_asks_nothing_is_read_and_the_sender_waits(tmp_path: Path) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL) as source:
        tcp = socket.create_connection(source.address())
        tcp.sendall(b"<13>first\n")
        await source.until(1)
        block = b"".join(line + b"\n" for line in lines(10_000))
        sent = sent_until_it_blocks(tcp, block)
        assert source.source.status()["unfinished_bytes"] == 0
        tcp.close()
        whole = (block * (sent // len(block) + 1))[:sent]
        expected = whole.split(b"\n")
        expected = expected[:-1] if not expected[-1] else expected
        assert (await source.until(1 + len(expected)))[1:] == expected


async def test_a_socket_of_this_machine_makes_senders_wait(tmp_path: Path) -> None:
    async with receiving(tmp_path, unix_path=str(tmp_path / "s")) as source:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
            local.connect(str(tmp_path / "s"))
            sent = sent_until_it_blocks(local, b"<13>again") // len(b"<13>again")
        assert await source.until(sent) == [b"<13>again"] * sent


async def test_datagrams_that_the_kernel_dropped_are_counted(tmp_path: Path) -> None:
    async with receiving(tmp_path, udp_listen=LOCAL, receive_buffer_bytes=4096) as source:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for message in lines(3000):
                udp.sendto(message, source.address("udp_listen"))
        await source.until(1)
        await source.while_(lambda: not source.counted("source_lost_total", "udp_buffer_full"))
        lost = source.counted("source_lost_total", "udp_buffer_full")
        assert lost > 2000
        assert len(source.records) + lost == 3000
        assert source.source.status()["receive_buffer_bytes"]["udp_listen"] <= 8192


async def test_a_thousand_connections_are_read(tmp_path: Path) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most[1] < 4096:
        pytest.skip("needs 4096 open files: ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(most[0], 4096), most[1]))
    try:
        async with receiving(tmp_path, tcp_listen=LOCAL, max_connections_per_sender=2000) as source:
            senders = []
            for number in range(1000):
                senders.append(socket.create_connection(source.address()))
                senders[-1].sendall(b"<13>from %d\n<13>again" % number)
            got = await source.until(1000)
            assert sorted(got) == sorted(b"<13>from %d" % number for number in range(1000))
            assert len(source.batches) < 200, "what comes together goes on together"
            assert source.source.status()["connections"] == 1000
            assert source.source.status()["unfinished_bytes"] == 1000 * len(b"<13>again")
            for sender in senders:
                sender.sendall(b" and again\n")
                sender.close()
            got = await source.until(2000)
            assert got.count(b"<13>again and again") == 1000
            await source.while_(lambda: source.counted("syslog_connections"))
            assert source.source.status()["unfinished_bytes"] == 0
            assert source.source.status()["messages"] == 2000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)


async def test_one_sender_that_never_pauses_does_not_keep_others_from_their_turn(tmp_path: Path) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL, block_bytes=64 << 10) as source:
        loud = socket.create_connection(source.address())
        sent_until_it_blocks(loud, b"".join(line + b"\n" for line in lines(1000)))
        with socket.create_connection(source.address()) as quiet:
            quiet.sendall(b"<13>quiet\n")
            turns = 0
            while b"<13>quiet" not in source.records:
                turns += 1
                await source.until(len(source.records) + 1)
            assert turns < 8
        loud.close()


@pytest.mark.parametrize("bound", ["max_connections", "max_connections_per_sender"])
async def test_connections_beyond_the_bound_are_closed_and_counted(tmp_path: Path, bound: str) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL, **{bound: 2}) as source:
        senders = [socket.create_connection(source.address()) for _ in range(4)]
        await source.while_(lambda: source.counted("syslog_refused_total", bound) < 2)
        assert source.source.status()["connections"] == 2
        assert source.source.status()["refused"] == {bound: 2}
        senders[0].close()
        await source.while_(lambda: source.counted("syslog_connections") > 1)
        senders.append(socket.create_connection(source.address()))
        senders[-1].sendall(b"<13>there is room again\n")
        assert await source.until(1) == [b"<13>there is room again"]
        for sender in senders:
            sender.close()


async def test_refusals_of_two_kinds_that_come_in_turn_are_said_once_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL, max_connections=2, max_connections_per_sender=1) as source:

        async def connected(host: str, connections: int, refused: int) -> socket.socket:
            made = socket.create_connection(source.address(), source_address=(host, 0))
            await source.while_(lambda: source.counted("syslog_connections") != connections)
            await source.while_(lambda: sum(source.source.status()["refused"].values()) != refused)
            return made

        senders = [await connected("127.0.0.1", 1, 0)]
        for turn in range(3):
            senders.append(await connected("127.0.0.1", 1, 2 * turn + 1))
            other = await connected("127.0.0.2", 2, 2 * turn + 1)
            senders.append(await connected("127.0.0.3", 2, 2 * turn + 2))
            other.close()
            await source.while_(lambda: source.counted("syslog_connections") != 1)
        for sender in senders:
            sender.close()
        assert source.source.status()["refused"] == {"max_connections": 3, "max_connections_per_sender": 3}
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2, said


async def test_a_connection_that_is_silent_is_closed_and_what_it_began_is_kept(tmp_path: Path) -> None:
    clock = FakeClock()
    async with receiving(tmp_path, tcp_listen=LOCAL, clock=clock, idle_seconds=60) as source:
        silent, begun = (socket.create_connection(source.address()) for _ in range(2))
        begun.sendall(b"<13>begun")
        await source.while_(lambda: source.source.status()["unfinished_bytes"] != 9)
        assert source.counted("syslog_connections") == 2
        clock.move(61)
        reading = asyncio.ensure_future(source.until(1))
        while not reading.done():
            await clock.advance(0.1)
        assert await reading == [b"<13>begun"]
        await source.while_(lambda: source.counted("syslog_connections"))
        assert (silent.recv(1), begun.recv(1)) == (b"", b"")
        silent.close()
        begun.close()


async def test_without_descriptors_nobody_is_accepted_until_there_are_some(tmp_path: Path) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL) as source:
        waiting = socket.create_connection(source.address())
        waiting.sendall(b"<13>patient\n")
        with no_descriptors():
            await source.while_(lambda: not source.counted("syslog_refused_total", "no_descriptors"))
        assert await source.until(1) == [b"<13>patient"]
        waiting.close()


async def rest(source: Receiving) -> list[bytes]:
    """What the source gives once it is ended."""
    return [record for batch in [batch async for batch in source.source.rest()] for record in batch.records()]


async def test_what_senders_had_sent_when_the_source_is_ended_is_given_and_their_connections_end(
    tmp_path: Path,
) -> None:
    sent = lines(3000)
    async with receiving(tmp_path, tcp_listen=LOCAL) as source:
        known, unknown, silent = (socket.create_connection(source.address()) for _ in range(3))
        known.sendall(sent[0] + b"\n")
        assert await source.until(1) == sent[:1]
        known.sendall(b"\n".join(sent[1:2000]) + b"\n<13>not to its end")
        unknown.sendall(b"\n".join(sent[2000:]) + b"\n")  # nobody has accepted it
        unknown.close()
        assert sorted(await rest(source)) == sorted([*sent[1:], b"<13>not to its end"])
        assert source.counted("syslog_connections") == 0
        assert source.counted("source_lost_total", "ended") == 0
        assert (known.recv(1), silent.recv(1)) == (b"", b"")
        known.close()
        silent.close()


async def test_what_had_come_is_given_also_where_there_are_no_descriptors_for_who_waits_outside(
    tmp_path: Path,
) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL) as source:
        known = socket.create_connection(source.address())
        known.sendall(b"<13>first\n")
        assert await source.until(1) == [b"<13>first"]
        known.sendall(b"<13>second\n")
        waiting = socket.create_connection(source.address())
        with no_descriptors():
            assert await rest(source) == [b"<13>second"]
        known.close()
        waiting.close()


async def test_a_sender_that_hears_of_the_end_before_it_sends_again_loses_nothing(tmp_path: Path) -> None:
    async with receiving(tmp_path, tcp_listen=LOCAL) as source:
        reader, writer = await asyncio.open_connection(*source.address())
        writer.write(b"<13>first\n")
        await source.until(1)
        giving = asyncio.create_task(rest(source))
        assert await reader.read() == b""
        writer.write(b"<13>on its way\n")
        writer.close()
        assert await giving == [b"<13>on its way"]


async def test_what_was_read_when_the_source_was_ended_and_not_given_yet_is_given(tmp_path: Path) -> None:
    clock = FakeClock()
    async with receiving(tmp_path, tcp_listen=LOCAL, clock=clock) as source:
        with socket.create_connection(source.address()) as sender:
            sender.sendall(b"<13>read\n")
            gathering = asyncio.ensure_future(source.until(1))
            while not source.source.status()["messages"]:
                await asyncio.sleep(0)
            gathering.cancel()
            with suppress(asyncio.CancelledError):
                await gathering
        assert await rest(source) == [b"<13>read"]


async def test_a_sender_that_sends_on_and_on_does_not_keep_the_source_from_ending_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.collect.syslog.sockets.LEAVING_SECONDS", 0.0)
    async with receiving(tmp_path, tcp_listen=LOCAL, block_bytes=64 << 10) as source:
        with socket.create_connection(source.address()) as sender:
            sender.sendall(b"<13>first\n")
            await source.until(1)
            line = b"<13>" + b"x" * 995 + b"\n"
            sent_bytes = sent_until_it_blocks(sender, line)
            given = await rest(source)
        lost_bytes = source.counted("source_lost_total", "ended")
        assert 0 < len(given) < sent_bytes // len(line)
        assert lost_bytes > 0


async def test_who_waits_at_a_socket_of_the_service_manager_waits_for_whoever_comes_next(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        host = replace(context(tmp_path).host, sockets={"syslog-tcp": (held,)})
        ctx = context(tmp_path, "syslog", clock=SystemClock(), host=host)
        options = SyslogOptions(tcp_listen=LOCAL)
        async with open_syslog(options, ctx) as first:
            sender = socket.create_connection(held.getsockname())
            sender.sendall(b"<13>patient\n")
            assert [batch async for batch in first.rest()] == []
        async with open_syslog(options, ctx) as second:
            batch = await anext(aiter(second.batches()))
            assert batch.records() == [b"<13>patient"]
        sender.close()


async def test_messages_that_never_end_are_given_up_where_all_together_are_too_much(tmp_path: Path) -> None:
    options = {"max_unfinished_bytes": 64 << 10, "max_message_bytes": 60_000}
    async with receiving(tmp_path, tcp_listen=LOCAL, **options) as source:
        senders = [socket.create_connection(source.address()) for _ in range(4)]
        for sender in senders:
            sender.sendall(b"<13>" + b"x" * 30_000)
        assert await source.until(1) == [b"<13>" + b"x" * 30_000] * len(source.records)
        await source.while_(lambda: source.source.status()["unfinished_bytes"] != (4 - len(source.records)) * 30_004)
        assert source.source.status()["unfinished_bytes"] <= 64 << 10
        given_up = len(source.records)
        for sender in senders:
            sender.sendall(b"end\n<13>next\n")
            sender.close()
        got = await source.until(8)
        assert got.count(b"<13>next") == 4
        assert got.count(b"<13>" + b"x" * 30_000 + b"end") == 4 - given_up
        assert source.counted("lines_cut_total") == given_up


def test_a_path_is_made_with_its_permissions_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "syslog.sock"
    (opened,) = listening(SyslogOptions(unix_path=str(path), unix_mode="0620"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    assert opened.shown == str(path)
    with pytest.raises(AgentError, match="another program listens there"):
        listening(SyslogOptions(unix_path=str(path)))
    opened.close()
    assert not path.exists()


def test_a_path_that_a_killed_agent_left_is_taken_and_one_of_another_is_left(tmp_path: Path) -> None:
    path = tmp_path / "syslog.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(path))
    (opened,) = listening(SyslogOptions(unix_path=str(path)))
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        opened.close()
        assert path.exists(), "it is another's by now"


def test_a_file_in_the_place_of_the_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "syslog.sock"
    path.write_text("precious")
    with pytest.raises(AgentError, match="is no socket"):
        listening(SyslogOptions(unix_path=str(path)))
    assert path.read_text() == "precious"


def test_an_address_that_cannot_be_had_is_said_and_nothing_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AgentError, match=f'tcp_listen = "{where}": another program listens there'):
            listening(SyslogOptions(udp_listen=LOCAL, tcp_listen=where))
    with pytest.raises(AgentError, match="no such directory"):
        listening(SyslogOptions(tcp_listen=LOCAL, unix_path=str(tmp_path / "absent" / "s")))
    with pytest.raises(AgentError, match="no such address"):
        listening(SyslogOptions(udp_listen="192.0.2.1:0"))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("options", "key", "says"),
    [
        ({}, "udp_listen", "nothing says where to listen"),
        ({"udp_listen": "514"}, "udp_listen", "expected"),
        ({"tcp_listen": "::1:514"}, "tcp_listen", "expected"),
        ({"tcp_listen": "127.0.0.1:99999"}, "tcp_listen", "between 0 and 65535"),
        ({"tls_listen": LOCAL}, "tls_listen", "needs cert_file and key_file"),
        ({"tcp_listen": LOCAL, "cert_file": "/c"}, "cert_file", "is for tls_listen"),
        ({"tcp_listen": LOCAL, "timezone": "Nowhere/Land"}, "timezone", "Europe/Berlin"),
    ],
)
def test_what_cannot_be_meant_is_a_fault(options: dict[str, str], key: str, says: str) -> None:
    ((found, message),) = SyslogOptions(**options).faults()  # type: ignore[arg-type]
    assert found == key
    assert says in message


def test_only_a_source_of_nothing_but_udp_lets_old_records_go_rather_than_wait() -> None:
    assert SyslogOptions(udp_listen=LOCAL).lossy
    assert not SyslogOptions(udp_listen=LOCAL, tcp_listen=LOCAL).lossy
    assert not SyslogOptions(unix_path="/run/s").lossy
    assert not list(SyslogOptions(udp_listen=LOCAL, tcp_listen="[::1]:0", unix_path="/s").faults())


def test_sockets_that_the_service_manager_holds_are_taken_and_go_on_listening() -> None:
    options = SyslogOptions(tcp_listen="127.0.0.1:1", udp_listen=LOCAL)
    with socket.create_server(("127.0.0.1", 0)) as held:
        (udp, tcp) = sorted(listening(options, {"syslog-tcp": (held,)}), key=lambda each: each.option, reverse=True)
        assert (udp.option, tcp.option) == ("udp_listen", "tcp_listen")
        assert tcp.socket.getsockname() == held.getsockname()
        assert not tcp.socket.getblocking()
        for each in (udp, tcp):
            each.close()
        with socket.create_connection(held.getsockname()):
            pass
