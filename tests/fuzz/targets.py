"""This file is everything that is fuzzed, by name: what is given any bytes, and returns."""

from __future__ import annotations

from collections.abc import Callable

from agent.wire.formats import FORMATS
from agent.wire.formats.cri import FORMAT as CRI
from agent.wire.formats.docker import FORMAT as DOCKER
from tests.fuzz import frames, kernel, lines, secret, stored, web

Target = Callable[[bytes], None]

TARGETS: dict[str, Callable[[], Target]] = {
    **{f"format_{name}": (lambda name=name: lines.format_target(name)) for name in FORMATS},
    "parse": lines.parse_target,
    "container_cri": lambda: lines.container_target(CRI),
    "container_docker": lambda: lines.container_target(DOCKER),
    "journal": lines.journal_target,
    "times": lambda: lines.times,
    "encodings": lambda: lines.encodings,
    "syslog_stream": lambda: frames.syslog_stream,
    "syslog_heads": lambda: frames.syslog_heads,
    "packed": lambda: frames.packed,
    "spooled": lambda: stored.spooled,
    "header": lambda: stored.header,
    "entries": lambda: stored.entries,
    "exported": lambda: stored.exported,
    "exposition": lambda: stored.exposition,
    "configuration": lambda: stored.configuration,
    "own_logs": lambda: stored.own_logs,
    "answers": lambda: stored.answers,
    "answers_remote_write": lambda: web.said,
    "http_requests": lambda: web.request,
    "http_answers": lambda: web.answer,
    "kernel_files": kernel.kernel_target,
    "container_details": lambda: stored.container_details,
    "positions": lambda: stored.positions,
    "redact": secret.redact_target,
    "messages": lambda: secret.messages,
}
"""Each makes its target, and imports nothing that the others do not."""
