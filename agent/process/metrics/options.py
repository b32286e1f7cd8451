"""This file is the ``[process.metrics]`` table, and what makes metrics of logs as the catalogue knows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from agent.contract import Component
from agent.options import Options, ProcessorOptions, Text
from agent.process.conditions.options import Conditions, Match, condition_faults

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from agent.contract import Context
    from agent.process.metrics.processor import LogMetrics

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
TAKEN: Final = {"telemetry_agent_": "the agent's own metrics", "node_": "the machine's metrics"}
"""How names begin that are others' already, and whose."""
DEFAULT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Name = Annotated[str, Meta(description="The metric's name.")]
Labels = Annotated[
    dict[str, Text],
    Meta(description="Fields, metadata or labels by the label that has their value; a missing one gives none."),
]
ValueField = Annotated[str, Meta(min_length=1, description="The field whose number is taken.")]


class MetricOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every metric has."""

    name: Name
    help: Annotated[
        str, Meta(description="The sentence that scrapers are shown; one that names this table when left out.")
    ] = ""
    when: Conditions = ()
    match: Match = "all"
    labels: Labels = msgspec.field(default_factory=dict)


class CounterOptions(MetricOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ``[[process.metrics.counter]]`` table."""

    value: Annotated[
        Text | None,
        Meta(description="The field whose number is added; left out, each record counts 1."),
    ] = None


class GaugeOptions(MetricOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ``[[process.metrics.gauge]]`` table."""

    value: ValueField
    keep: Annotated[
        Literal["last", "min", "max", "sum"],
        Meta(description="The last number there was, or the least, greatest or sum of an interval."),
    ] = "last"


class HistogramOptions(MetricOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ``[[process.metrics.histogram]]`` table."""

    value: ValueField
    buckets: Annotated[
        tuple[float, ...], Meta(min_length=1, max_length=64, description="Upper bounds of the buckets, rising.")
    ] = DEFAULT_BUCKETS


class MetricsOptions(ProcessorOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[process.metrics]`` table. The records themselves pass."""

    interval_seconds: Annotated[
        float, Meta(ge=1, le=3600, description="How often the metrics are sent to the destinations of metrics.")
    ] = 15.0
    max_series: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most series of one metric; records of further label values count in one whose labels are "
            "'other'.",
        ),
    ] = 1000
    counter: Annotated[tuple[CounterOptions, ...], Meta(description="Metrics that only rise.")] = ()
    gauge: Annotated[tuple[GaugeOptions, ...], Meta(description="Metrics that rise and fall.")] = ()
    histogram: Annotated[tuple[HistogramOptions, ...], Meta(description="Metrics that tell how numbers spread.")] = ()

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if not (self.counter or self.gauge or self.histogram):
            yield "counter", "nothing says what to measure: give at least one counter, gauge or histogram"
        known: set[str] = set()
        for kind in ("counter", "gauge", "histogram"):
            for place, metric in enumerate(getattr(self, kind)):
                yield from _faults(f"{kind}[{place}]", metric, known)
                known |= _samples(metric.name, metric)


def _faults(key: str, metric: MetricOptions, known: set[str]) -> Iterator[tuple[str, str]]:
    yield from name_faults(f"{key}.name", metric.name)
    if twice := sorted(_samples(metric.name, metric) & known):
        yield f"{key}.name", f"'{twice[0]}' stands twice; give one of them another name"
    yield from label_faults(f"{key}.labels", metric.labels)
    yield from condition_faults(f"{key}.when", metric.when)
    buckets = getattr(metric, "buckets", ())
    if list(buckets) != sorted(set(buckets)):
        yield f"{key}.buckets", "the bounds do not rise from one to the next"
    if buckets and "le" in metric.labels:
        yield f"{key}.labels.le", "'le' is the label of the buckets; give this one another name"


def _samples(name: str, metric: MetricOptions) -> set[str]:
    """The names under which its samples are written, and its own."""
    return {name, *(f"{name}_{each}" for each in ("bucket", "sum", "count") if hasattr(metric, "buckets"))}


def name_faults(key: str, name: str) -> Iterator[tuple[str, str]]:
    """What is wrong with the name of a metric (Prometheus data model)."""
    if not _METRIC.fullmatch(name):
        yield key, f"'{name}' is not a metric name: use letters, digits, _ and :, beginning with a letter"
    for begins, whose in TAKEN.items():
        if name.startswith(begins):
            yield key, f"'{name}' is like {whose}, which begin with {begins}; give it another name"


def label_faults(key: str, labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the names of labels (Prometheus data model)."""
    for name in labels:
        if not _LABEL.fullmatch(name) or name.startswith("__"):
            yield f"{key}.{name}", f"'{name}' is not a label name: use letters, digits and _, beginning with a letter"


def _open(options: MetricsOptions, context: Context) -> AbstractAsyncContextManager[LogMetrics]:
    from agent.process.metrics.processor import open_log_metrics

    return open_log_metrics(options, context)


COMPONENT: Final = Component(
    name="metrics",
    options=MetricsOptions,
    open=_open,
    signals=("logs",),
    summary="Makes counters, gauges and histograms of what log records say.",
)
