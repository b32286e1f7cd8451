"""This file shows a whole agent that takes in syslog: senders wait while it cannot deliver, and nothing is lost."""

from __future__ import annotations

import http.server
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.agent_process import WITHIN_SECONDS, AgentProcess, running, written
from tests.strict_loki import delivered

CONFIG = """
[collect.host]
enabled = false
[collect.agent]
enabled = false
[collect.syslog]
tcp_listen = "127.0.0.1:{port}"
[process.redact]
enabled = false
[export.loki]
url = "http://127.0.0.1:{loki}"
max_bytes = {max_bytes}
"""


MAX_BYTES = 1 << 20


@contextmanager
def slow_loki() -> Iterator[tuple[int, threading.Event]]:
    """The port of a Loki that answers once the event is set, and the event."""
    answering = threading.Event()

    class Push(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answering.wait(WITHIN_SECONDS)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Push) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield server.server_address[1], answering
        finally:
            answering.set()
            server.shutdown()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return int(reserved.getsockname()[1])


def blocked(agent: AgentProcess, sender: socket.socket, line: bytes) -> int:
    """Sends lines until the lane is full and the agent takes in no more. Returns how many bytes it sent."""
    sender.setblocking(False)
    deadline, sent, same, before = time.monotonic() + WITHIN_SECONDS, 0, 0, -1
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            while sent < 128 << 20:
                sent += sender.send((line * 64)[sent % len(line) :])
        assert sent < 128 << 20, "the agent takes more than it can hold"
        status = agent.status()
        messages, full = status["sources"][0]["detail"]["messages"], status["lanes"][0]["waiting_bytes"] >= MAX_BYTES
        same, before = same + 1 if full and messages == before else 0, messages
        if same == 20:
            return sent
    raise AssertionError("the agent never had to wait")


def test_a_sender_waits_while_nothing_is_delivered_and_everything_arrives_in_the_end(tmp_path: Path) -> None:
    port = free_port()
    line = b"<13>Nov 20 12:00:00 web app[1]: " + random.Random(5).randbytes(2000).hex().encode() + b"\n"
    with slow_loki() as (loki, answering):
        config = written(tmp_path, CONFIG.format(port=port, loki=loki, max_bytes=MAX_BYTES))
        with running(config) as agent, socket.create_connection(("127.0.0.1", port)) as sender:
            sent_bytes = blocked(agent, sender, line)
            answering.set()
            sender.setblocking(True)
            sender.sendall(line[sent_bytes % len(line) :])
            sent = sent_bytes // len(line) + 1
            (lane,) = delivered(agent, sent).values()
            assert (lane["read"], lane["delivered"]) == (sent, sent)
            assert agent.command("ledger", "--check").returncode == 0


def test_what_senders_had_sent_when_the_agent_is_stopped_is_in_the_spool(tmp_path: Path) -> None:
    port, senders, each = free_port(), 8, 500
    with slow_loki() as (loki, _):
        config = written(tmp_path, CONFIG.format(port=port, loki=loki, max_bytes=64 << 20))
        for round_ in range(1, 6):
            with running(config) as agent:
                lines = b"".join(b"<13>Nov 20 12:00:00 web app[1]: message %d\n" % n for n in range(each))
                for _ in range(senders):
                    with socket.create_connection(("127.0.0.1", port)) as sender:
                        sender.sendall(lines)
                assert agent.stop() == 0
            ledger = json.loads(agent.command("ledger", "--json").stdout)
            assert ledger["lanes"]["loki/logs"]["read"] == round_ * senders * each
