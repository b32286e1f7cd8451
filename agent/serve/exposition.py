"""This file renders the agent's own metrics as Prometheus text 0.0.4, by prometheus-client's renderer.

The renderer is imported when somebody asks, and given a registry of its own: nothing is registered globally and
nothing is counted twice. Names, kinds and help come from the tables of ``agent.ownmetrics`` alone.
Source: prometheus/docs, "Exposition formats".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from agent.ownmetrics import BUCKETS_SECONDS, READINGS, TABLE, Declared, Meter, Readings
from agent.serve.routes import Handler, Request, Response

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from agent.worker import Worker

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render(meter: Meter, readings: Readings) -> bytes:
    """Every declared metric. A name in ``readings`` that is not declared, or labels that do not fit, raise."""
    from prometheus_client.exposition import generate_latest
    from prometheus_client.registry import CollectorRegistry

    undeclared = readings.keys() - READINGS.keys()
    if undeclared:
        raise KeyError(f"not declared in READINGS: {', '.join(sorted(undeclared))}")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(meter, readings))
    return generate_latest(registry)


def metrics_route(meter: Meter, read: Callable[[], Awaitable[Readings]], worker: Worker) -> Handler:
    """The handler of /metrics. ``read`` gives the readings of this moment; ``worker`` renders, and imports, beside the
    loop, so it should not be one that a dead disk may block."""

    async def answer(_: Request) -> Response:
        readings = await read()
        return Response(200, await worker.run(render, meter, readings), CONTENT_TYPE)

    return answer


class _Families:
    """A collector over plain numbers."""

    def __init__(self, meter: Meter, readings: Readings) -> None:
        self._meter = meter
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        for name, declared in TABLE.items():
            if declared.kind == "histogram":
                yield _histogram(name, declared, self._meter)
            else:
                yield _numbers(name, declared, self._meter.numbers(name))
        for name, declared in READINGS.items():
            yield _numbers(name, declared, self._readings.get(name, {}))


def _numbers(name: str, declared: Declared, series: Mapping[tuple[str, ...], float]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
    family = kind(name, declared.help, labels=declared.labels)
    for labels, value in sorted(series.items()):
        family.add_metric(_labels(name, declared, labels), value)
    return family


def _histogram(name: str, declared: Declared, meter: Meter) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily(name, declared.help, labels=declared.labels)
    bounds = [*map(str, BUCKETS_SECONDS), "+Inf"]
    for labels, distribution in sorted(meter.distributions(name).items()):
        total, buckets = 0, []
        for bound, count in zip(bounds, distribution.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(_labels(name, declared, labels), buckets, distribution.sum_seconds)
    return family


def _labels(name: str, declared: Declared, labels: tuple[str, ...]) -> list[str]:
    """Label values that can be encoded; the renderer escapes quotes, backslashes and line breaks."""
    if len(labels) != len(declared.labels):
        raise ValueError(f"{name}{{{','.join(declared.labels)}}} was given {labels!r}")
    return [value if value.isascii() else value.encode("utf-8", "backslashreplace").decode() for value in labels]
