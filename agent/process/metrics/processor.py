"""This file makes counters, gauges and histograms of what log records say. The records pass as they came.

The numbers are written to the spool in the commit that takes the records in: after a kill each record has been counted
once, and counters go on where they were. They are sent every interval, and are on /metrics at any moment. Numbers of a
metric that is declared otherwise at the next start begin anew.

    held = MessagePack [when they were last sent, {identity: [[label values, numbers], …]}]
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from agent.batch import Batch, Family
from agent.contract import Held
from agent.process.fields.reader import Reader
from agent.process.metrics.series import Definition, Key, Metric, Numbers
from agent.process.own_cycles import OwnCycles

if TYPE_CHECKING:
    from agent.clock import Time
    from agent.contract import Context
    from agent.process.metrics.options import MetricsOptions

log = logging.getLogger("telemetry_agent.metrics")

_STATE: Final = tuple[int, dict[str, list[tuple[Key, Numbers]]]]

HELP: Final = "Made of records by [process.metrics]."
"""Of a metric that was given no help text."""


class LogMetrics:
    """The processor; see agent.contract.Processor and Viewable."""

    def __init__(self, options: MetricsOptions, context: Context) -> None:
        self._options = options
        self._name = context.name
        self._meter = context.meter
        self._metrics = list(_metrics(options))
        self._reader = Reader(name for metric in self._metrics for name in metric.fields)
        self._cycles = OwnCycles(context, options.interval_seconds)
        self._restore(context.state)
        self._held: Held | None = None
        self._changed = True
        self.due_seconds = self._cycles.due_seconds

    def process(self, batch: Batch, now: Time) -> Iterable[Batch]:
        if batch.signal != "logs" or not batch.count:
            return (batch,)
        table = self._reader.table(batch)
        changes = [metric.change(table) for metric in self._metrics]
        for metric, change in zip(self._metrics, changes, strict=True):
            if change.numbers:
                metric.series = metric.series | change.numbers
                self._changed = True
        overflow, unread = sum(each.overflow for each in changes), sum(each.unread for each in changes)
        if overflow:
            self._meter.add("telemetry_agent_process_overflow_total", overflow, (self._name,))
        if unread:
            self._meter.add("telemetry_agent_process_unread_values_total", unread, (self._name,))
        return (batch,)

    def due(self, now: Time) -> Iterable[Batch]:
        if not self._cycles.due(now) or not any(metric.series for metric in self._metrics):
            return ()
        cycle = self._cycles.made(self._families(), now)
        for metric in self._metrics:
            if not metric.lasts:
                metric.series = {}
        self._changed = True
        return (cycle,)

    def held(self) -> Held | None:
        if self._changed:
            self._changed = False
            numbers = {each.definition.identity: list(each.series.items()) for each in self._metrics if each.series}
            self._held = Held(msgspec.msgpack.encode((self._cycles.sent_ns, numbers))) if numbers else None
        return self._held

    async def view(self) -> Sequence[Family]:
        """The metrics as they are now."""
        return self._families()

    def _families(self) -> list[Family]:
        return [metric.families() for metric in self._metrics]

    def _restore(self, state: bytes | None) -> None:
        if state is None:
            return
        try:
            self._cycles.sent_ns, found = msgspec.msgpack.decode(state, type=_STATE)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("%s: what was counted before cannot be read, and begins anew: %s", self._name, error)
            return
        for metric in self._metrics:
            metric.series = dict(found.get(metric.definition.identity, ()))


def _metrics(options: MetricsOptions) -> Iterator[Metric]:
    for counter in options.counter:
        defined = Definition("counter", counter.name, counter.help or HELP, counter.labels, counter.value)
        yield Metric(defined, counter.when, counter.match, options.max_series)
    for gauge in options.gauge:
        defined = Definition("gauge", gauge.name, gauge.help or HELP, gauge.labels, gauge.value, gauge.keep)
        yield Metric(defined, gauge.when, gauge.match, options.max_series)
    for each in options.histogram:
        defined = Definition("histogram", each.name, each.help or HELP, each.labels, each.value, buckets=each.buckets)
        yield Metric(defined, each.when, each.match, options.max_series)


@asynccontextmanager
async def open_log_metrics(options: MetricsOptions, context: Context) -> AsyncIterator[LogMetrics]:
    """What was counted up to the last commit is taken up again."""
    yield LogMetrics(options, context)
