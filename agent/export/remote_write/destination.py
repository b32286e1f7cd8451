"""This file sends metrics by Prometheus remote_write 1.0: to Prometheus, Mimir, Grafana Cloud and what is like them.

One request carries the batches of one call, oldest first, and a lane has one request under way: so the samples of a
series arrive in the order of their times, as the protocol demands. After the clock was set back they would not, and
Prometheus answers 204 to such a request and stores a part of it; so it is not sent, but looked through in smaller ones.
The request is encoded and compressed on a thread of its own; what the answer means is in answers.py.

What type families are of, and their help texts, go in requests of their own, as Prometheus sends them: a server that
will not have them (some take only samples) must not refuse samples for it. They go before the samples that they
belong to; a request that fails is not repeated before the interval is over.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from agent.batch import Metrics
from agent.contract import Receipt, Rejection
from agent.errors import Refusal, Reject, TooLarge
from agent.export.remote_write.answers import refusal_of
from agent.ownlogs.lines import Repeating
from agent.wire.remotewrite import RemoteWrite1
from agent.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.batch import Batch
    from agent.contract import Context, Destination
    from agent.export.remote_write.options import RemoteWriteOptions
    from agent.export.session import Session

log = logging.getLogger("telemetry_agent.remote_write")

MOST_FAMILIES: Final = 10_000
"""Families whose type and help are remembered and sent."""

INVALID: Final = "invalid_series"
AT_ONCE_SAMPLES: Final = 2000
"""So many whose labels are remembered are encoded where they are: a change of threads costs more than the work."""


class RemoteWrite:
    """The destination; see agent.contract.Destination."""

    takes_repeats_of_the_newest = True
    """Prometheus takes a sample again while its series has no newer one, and refuses it from then on. To prove that of
    a thousand series would take two thousand requests."""

    def __init__(self, options: RemoteWriteOptions, ctx: Context, session: Session, worker: Worker) -> None:
        self._ctx = ctx
        self._session = session
        self._worker = worker
        self._url = options.url
        self._encoder = RemoteWrite1()
        self._headers = self._encoder.headers | options.tenant_header
        self._families = Families(options.metadata_interval_seconds) if options.metadata else None
        self._troubles = Repeating(log, ctx.clock.monotonic_seconds)

    async def send(self, batches: Sequence[Batch]) -> Receipt:
        """Sends ``batches`` in one request. Returns once the server has taken them, or raises what else it answered.

        Samples that the protocol has no form for are left out and are in the receipt as rejected.
        """
        metrics = [batch for batch in batches if isinstance(batch, Metrics)]
        if any(later.first_time_ns < earlier.first_time_ns for earlier, later in pairwise(metrics)):
            raise Reject("out_of_order", "not sent: times go back within the request", blames_records=True)
        if self._families is not None:
            await self._send_metadata(self._families, metrics)
        few = sum(batch.count for batch in metrics) <= min(AT_ONCE_SAMPLES, self._encoder.remembered)
        encoded = self._encoder.encode(metrics) if few else await self._worker.run(self._encoder.encode, metrics)
        if not encoded.samples:
            raise Reject(INVALID, encoded.why, blames_records=True, reach="request")
        refusal = await self._post(encoded.body)
        if refusal is not None:
            raise refusal
        return Receipt((Rejection(INVALID, encoded.refused, encoded.why),) if encoded.refused else ())

    async def _send_metadata(self, families: Families, batches: Sequence[Metrics]) -> None:
        """Sends what is due of it. What a server makes of it is said and nothing more; where nobody answers, nobody
        would answer the samples either, and that is raised."""
        due = families.due(batches, self._ctx.clock.monotonic_seconds())
        if not due:
            return
        refusal = await self._post(await self._worker.run(self._encoder.encode_metadata, due))
        if refusal is None:
            self._troubles.recovered(f"{self._ctx.name}: types and help texts are taken")
        elif isinstance(refusal, (Reject, TooLarge)):
            self._troubles.failed(
                refusal.reason, f"{self._ctx.name}: types and help texts are not taken, samples go on: {refusal}"
            )

    async def _post(self, body: Sequence[bytes]) -> Refusal | None:
        """What the answer means, None where it was taken. Raises Retry or Hold where there is none."""
        answer = await self._session.post(self._url, body, self._headers)
        return refusal_of(answer, self._ctx.clock.wall_ns())


class Families:
    """What is known of metric families, by name: type and help; which of it is new, and when all of it is due again."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._next_seconds = float("-inf")
        self._told: dict[str, tuple[str, str]] = {}
        self._seen: dict[str, tuple[str, str]] = {}
        self._looked_at: set[int] = set()

    def due(self, batches: Sequence[Metrics], now_seconds: float) -> Mapping[str, tuple[str, str]]:
        """What was never said of the families of ``batches``; once it is time, all that was seen since the last time.

        What is returned counts as said: where it could not be, it is due again with all the rest.
        """
        new = self._not_looked_at(batches)
        for name, told in new.items():
            if name in self._seen or len(self._seen) < MOST_FAMILIES:
                self._seen[name] = told
        if now_seconds >= self._next_seconds and self._seen:
            self._next_seconds = now_seconds + self._interval_seconds
            self._told, self._seen = self._seen, {}
            self._looked_at.clear()
            return self._told
        due = {name: told for name, told in new.items() if name in self._seen and self._told.get(name) != told}
        self._told |= due
        return due

    def _not_looked_at(self, batches: Sequence[Metrics]) -> dict[str, tuple[str, str]]:
        """The families of those batches whose families were not looked at since the last time; a cycle has those of
        the last one."""
        found: dict[str, tuple[str, str]] = {}
        for batch in batches:
            known = hash(batch.families)
            if known not in self._looked_at:
                self._looked_at.add(known)
                found |= {name: (kind, text) for name, kind, text in batch.families}
        return found


@asynccontextmanager
async def open_remote_write(options: RemoteWriteOptions, ctx: Context) -> AsyncIterator[Destination]:
    """The destination, connected at its first request."""
    from agent.export.session import open_session

    async with open_session(options, ctx) as session:
        with Worker(f"{ctx.name}-encode") as worker:
            yield RemoteWrite(options, ctx, session, worker)
