"""This file shows syslog over TLS (RFC 5425): who is let in, and what becomes of those who are not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent.collect.syslog import sockets as syslog_sockets
from agent.collect.syslog.options import SyslogOptions
from agent.collect.syslog.source import open_syslog
from agent.errors import AgentError
from tests.collect.syslog_senders import LOCAL, Receiving, receiving
from tests.fakes import FakeClock, context


class Authority:
    """One that signs, and its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(str(directory / "ca.pem"))
        server = self.ca.issue_cert("127.0.0.1", "localhost")
        server.private_key_pem.write_to_path(str(directory / "key.pem"))
        for part in server.cert_chain_pems:
            part.write_to_path(str(directory / "cert.pem"), append=True)

    @property
    def options(self) -> dict[str, Any]:
        given = {"cert_file": "cert.pem", "key_file": "key.pem"}
        return {"tls_listen": LOCAL, **{key: str(self.directory / name) for key, name in given.items()}}

    def client(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        made = ssl.create_default_context()
        self.ca.configure_trust(made)
        if with_certificate:
            self.ca.issue_cert("sender").configure_cert(made)
        return made


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def connected(source: Receiving, client: ssl.SSLContext) -> asyncio.StreamWriter:
    """A connection whose handshake the source has answered."""
    connecting = asyncio.ensure_future(asyncio.open_connection(*source.address("tls_listen"), ssl=client))
    await source.while_(lambda: not connecting.done())
    return (await connecting)[1]


async def test_messages_come_through_tls_in_order_whatever_their_size(tmp_path: Path, authority: Authority) -> None:
    sent = [b"<13>%d " % number + b"x" * (number * 997 % 20_000) for number in range(300)]
    async with receiving(tmp_path, **authority.options) as source:
        writer = await connected(source, authority.client())
        writer.write(b"".join(b"%d %s" % (len(each), each) for each in sent))
        assert await source.until(len(sent)) == sent
        writer.write(b"<13>a last one")
        await writer.drain()
        writer.close()
        assert (await source.until(len(sent) + 1))[-1] == b"<13>a last one"
        await source.while_(lambda: source.counted("syslog_connections"))


async def test_only_senders_with_a_certificate_are_let_in_where_one_is_wanted(
    tmp_path: Path, authority: Authority
) -> None:
    options = authority.options | {"client_ca_file": str(tmp_path / "ca.pem")}
    async with receiving(tmp_path, **options) as source:
        refused = await connected(source, authority.client())
        refused.write(b"<13>let me in\n")
        await source.while_(lambda: not source.counted("syslog_refused_total", "tls"))
        refused.transport.abort()
        writer = await connected(source, authority.client(with_certificate=True))
        writer.write(b"<13>it is me\n")
        assert await source.until(1) == [b"<13>it is me"]
        writer.transport.abort()


async def test_what_is_no_tls_is_refused_and_counted(tmp_path: Path, authority: Authority) -> None:
    async with receiving(tmp_path, **authority.options) as source:
        with socket.create_connection(source.address("tls_listen")) as plain:
            plain.sendall(b"<13>no TLS at all\n" * 10)
            await source.while_(lambda: not source.counted("syslog_refused_total", "tls"))
        assert source.source.status()["connections"] == 0


async def test_a_handshake_that_is_never_finished_is_given_up(tmp_path: Path, authority: Authority) -> None:
    clock = FakeClock()
    async with receiving(tmp_path, clock=clock, **authority.options) as source:
        with socket.create_connection(source.address("tls_listen")):
            await source.while_(lambda: not source.counted("syslog_connections"))
            clock.move(syslog_sockets.HANDSHAKE_SECONDS + 1)
            await source.while_(lambda: not source.counted("syslog_refused_total", "tls"))


async def test_files_that_are_no_certificates_are_named(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "key.pem").write_text("no key")
    options = SyslogOptions(**authority.options)
    with pytest.raises(AgentError, match=r"key\.pem: .*; give PEM files that this user may read"):
        async with open_syslog(options, context(tmp_path, "syslog")):
            pass
