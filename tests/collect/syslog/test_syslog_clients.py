"""This file shows that what real programs send arrives as it was sent: logger, rsyslog and Python's own handler."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import shutil
import socket
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from agent.batch import Logs
from agent.wire.formats import format_of
from tests.collect.syslog_senders import LOCAL, Receiving, receiving

LOGGER = shutil.which("logger")
RSYSLOGD = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin:/bin")
COUNT = 2000
needs_logger = pytest.mark.skipif(LOGGER is None, reason="needs logger: apt-get install bsdutils")
needs_rsyslog = pytest.mark.skipif(RSYSLOGD is None, reason="needs rsyslogd: apt-get install rsyslog")
DRIVERS = [path for library in ("/usr", "/usr/lib") for path in Path(library).glob("*/rsyslog/lmnsd_gtls.so")]
needs_gnutls = pytest.mark.skipif(
    RSYSLOGD is None or not DRIVERS, reason="needs rsyslogd with TLS: apt-get install rsyslog-gnutls"
)


def fields(batch: Logs, record: bytes) -> dict[str, object]:
    return dict(format_of(batch.format).fields(record) or {})


@needs_logger
@pytest.mark.parametrize("octets", [(), ("--octet-count",)], ids=["newline", "octets"])
@pytest.mark.parametrize("rfc", ["--rfc3164", "--rfc5424"])
@pytest.mark.parametrize("way", ["udp", "tcp", "unix"])
async def test_logger_is_understood_in_every_way_it_sends(
    tmp_path: Path, way: str, rfc: str, octets: tuple[str, ...]
) -> None:
    path = str(tmp_path / "syslog.sock")
    async with receiving(tmp_path, udp_listen=LOCAL, tcp_listen=LOCAL, unix_path=path) as source:
        where = ("--socket", path) if way == "unix" else ("--server", "127.0.0.1", "--port", port(source, way))
        command = (str(LOGGER), f"--{way}", *where) if way != "unix" else (str(LOGGER), *where)
        # No counts in datagrams: logger puts them there too, which no receiver expects.
        given = octets if way == "tcp" else ()
        sending = await asyncio.create_subprocess_exec(
            *(*command, rfc, *given, "--id=42", "--tag", "shop", "--priority", "daemon.warning"), stdin=PIPE
        )
        given_lines = b"".join(b"order %d accepted\n" % number for number in range(20))
        await asyncio.gather(sending.communicate(given_lines), source.until(20))
        assert [
            {"facility": "daemon", "severity": "warning", "app_name": "shop", "proc_id": "42", "message": message}
            for message in [f"order {number} accepted" for number in range(20)]
        ] == [
            {name: fields(batch, record).get(name) for name in TOLD}
            for batch in source.batches
            for record in batch.records()
        ]
        assert all(dict(batch.labels)["app"] == "shop" for batch in source.batches)
        assert all(batch.severities == bytes((13,)) * batch.count for batch in source.batches)
        assert source.counted("unparsed_total", "syslog") == 0


TOLD = ("facility", "severity", "app_name", "proc_id", "message")


def port(source: Receiving, way: str) -> str:
    return str(source.address(f"{way}_listen")[1])


@pytest.mark.parametrize("way", ["udp", "tcp", "unix"])
async def test_pythons_own_handler_is_understood(tmp_path: Path, way: str) -> None:
    """It ends each message with a NUL, and writes no time."""
    path = str(tmp_path / "syslog.sock")
    async with receiving(tmp_path, udp_listen=LOCAL, tcp_listen=LOCAL, unix_path=path) as source:
        address = path if way == "unix" else ("127.0.0.1", int(port(source, way)))
        kind = socket.SOCK_STREAM if way == "tcp" else socket.SOCK_DGRAM
        handler = logging.handlers.SysLogHandler(address, facility="local3", socktype=kind)
        for number in range(5):
            handler.handle(logging.LogRecord("shop", logging.ERROR, "", 0, f"shop: order {number}", None, None))
        handler.close()
        assert await source.until(5) == [b"<155>shop: order %d" % number for number in range(5)]
        found = fields(source.batches[0], source.records[0])
        assert found == {"facility": "local3", "severity": "err", "message": "shop: order 0"}


@asynccontextmanager
async def rsyslogd(tmp_path: Path, action: str) -> AsyncIterator[None]:
    """A real rsyslogd that forwards COUNT lines of a file. It is ended by its number."""
    lines = "".join(f"order {number} accepted\n" for number in range(COUNT))
    (tmp_path / "orders.log").write_text(lines)
    config = tmp_path / "rsyslog.conf"
    config.write_text(
        f"""
        global(workDirectory="{tmp_path}" maxMessageSize="64k")
        module(load="imfile")
        input(type="imfile" file="{tmp_path}/orders.log" tag="shop:" severity="error" facility="local1")
        {action}
        """
    )
    checked = subprocess.run(
        [str(RSYSLOGD), "-N1", "-f", str(config)], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr
    command = [str(RSYSLOGD), "-n", "-f", str(config), "-i", str(tmp_path / "rsyslog.pid")]
    running = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        await running.wait()


ACTION = 'action(type="omfwd" target="127.0.0.1" port="{port}" protocol="{protocol}" {more})'


@needs_rsyslog
@pytest.mark.parametrize(
    ("protocol", "more"),
    [
        ("tcp", 'template="RSYSLOG_SyslogProtocol23Format" TCP_Framing="octet-counted"'),
        ("tcp", 'template="RSYSLOG_TraditionalForwardFormat"'),
        ("tcp", 'template="RSYSLOG_ForwardFormat" TCP_Framing="octet-counted"'),
        ("udp", 'template="RSYSLOG_ForwardFormat"'),
    ],
    ids=["5424-counted", "3164-newline", "forward-counted", "udp"],
)
async def test_what_rsyslog_forwards_arrives_whole_and_in_order(tmp_path: Path, protocol: str, more: str) -> None:
    async with (
        receiving(tmp_path, udp_listen=LOCAL, tcp_listen=LOCAL) as source,
        rsyslogd(tmp_path, ACTION.format(port=port(source, protocol), protocol=protocol, more=more)),
    ):
        await source.until(COUNT)
        check(source)


@needs_gnutls
async def test_what_rsyslog_forwards_over_tls_arrives_whole_and_in_order(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("server", "sender"):
        made = authority.issue_cert("localhost", "127.0.0.1")
        made.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        made.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    options = {
        "cert_file": str(tmp_path / "server.pem"),
        "key_file": str(tmp_path / "server.key"),
        "client_ca_file": str(tmp_path / "ca.pem"),
    }
    async with receiving(tmp_path, tls_listen=LOCAL, **options) as source:
        driver = (
            f'global(defaultNetstreamDriverCAFile="{tmp_path}/ca.pem" '
            f'defaultNetstreamDriverCertFile="{tmp_path}/sender.pem" '
            f'defaultNetstreamDriverKeyFile="{tmp_path}/sender.key")\n'
        )
        more = (
            'StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/name" TCP_Framing="octet-counted" '
            'StreamDriverPermittedPeers="localhost" template="RSYSLOG_SyslogProtocol23Format"'
        )
        action = ACTION.format(port=port(source, "tls"), protocol="tcp", more=more)
        async with rsyslogd(tmp_path, driver + action):
            await source.until(COUNT)
            check(source)


def check(source: Receiving) -> None:
    found = [fields(batch, record) for batch in source.batches for record in batch.records()]
    orders = [each for each in found if each["app_name"] == "shop"]
    assert [str(each["message"]).strip() for each in orders] == [f"order {number} accepted" for number in range(COUNT)]
    assert {(each["facility"], each["severity"], each["hostname"]) for each in orders} == {
        ("local1", "err", socket.gethostname())
    }
    assert source.counted("unparsed_total", "syslog") == 0
    assert {dict(batch.labels)["host"] for batch in source.batches} == {socket.gethostname()}
