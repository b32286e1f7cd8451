"""This file sends logs to Loki, or to Grafana Cloud Logs, which speaks the same.

One request carries the batches of one call: batches with equal labels are one stream in it. The request is encoded
and compressed on a thread of its own; what the answer means is in answers.py.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import cramjam

from agent.batch import Metrics
from agent.contract import Receipt
from agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.batch import Batch, Logs
    from agent.contract import Context, Destination
    from agent.export.loki.options import LokiOptions
    from agent.export.session import Answer, Session
    from agent.wire.entries import Entries

log = logging.getLogger("telemetry_agent.loki")

NO_CONTENT: Final = 204
PUSH_PATH: Final = "/loki/api/v1/push"
GZIP_LEVEL: Final = 1
HEADERS: Final = {
    "snappy": {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"},
    "json": {"Content-Type": "application/json", "Content-Encoding": "gzip"},
}


def push_url(url: str) -> str:
    """Where requests go, for an address with or without the path of the push API."""
    base = url.rstrip("/")
    return base if base.endswith(PUSH_PATH) else base + PUSH_PATH


class Loki:
    """The destination; see agent.contract.Destination."""

    takes_entries = True

    def __init__(self, options: LokiOptions, ctx: Context, session: Session, worker: Worker) -> None:
        self._options = options
        self._ctx = ctx
        self._session = session
        self._worker = worker
        self._url = push_url(options.url)
        self._headers = HEADERS[options.encoding] | options.tenant_header
        self._labels_left_out = False

    async def send(self, batches: Sequence[Batch | Entries]) -> Receipt:
        """Sends ``batches`` in one request. Returns once Loki has answered 204, or raises what else it answered."""
        logs = [batch for batch in batches if not isinstance(batch, Metrics)]
        body = await self._worker.run(self._encode, logs)
        answer = await self._session.post(self._url, body, self._headers)
        if answer.status == NO_CONTENT:
            return Receipt()
        return await self._worker.run(self._judge, answer, logs)

    def _judge(self, answer: Answer, batches: Sequence[Logs | Entries]) -> Receipt:
        from agent.export.loki.answers import judge
        from agent.wire.entries import in_lines

        return judge(answer, [in_lines(batch) for batch in batches], self._ctx.clock.wall_ns())

    def _encode(self, batches: Sequence[Logs | Entries]) -> bytes:
        from agent.wire import loki
        from agent.wire.entries import in_lines, push_request

        metadata = self._options.structured_metadata
        if not metadata and not self._labels_left_out:
            self._say_which_labels_are_left_out(batches)
        if self._options.encoding == "json":
            return bytes(cramjam.gzip.compress(loki.encode_json(map(in_lines, batches), metadata), GZIP_LEVEL))
        return b"".join(push_request(batches, metadata))

    def _say_which_labels_are_left_out(self, batches: Sequence[Logs | Entries]) -> None:
        from agent.wire.lokilabels import MOST_LABELS, too_many

        names = sorted({name for batch in batches for name in too_many(batch.labels)})
        if names:
            self._labels_left_out = True
            log.warning(
                "Loki takes %d labels a stream and structured_metadata is false: %s left out",
                MOST_LABELS,
                ", ".join(names),
                extra={"context": {"destination": self._ctx.name}},
            )


@asynccontextmanager
async def open_loki(options: LokiOptions, ctx: Context) -> AsyncIterator[Destination]:
    """The destination, connected at its first request."""
    from agent.export.session import open_session

    async with open_session(options, ctx) as session:
        with Worker(f"{ctx.name}-encode") as worker:
            yield Loki(options, ctx, session, worker)
