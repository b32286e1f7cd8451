"""This file gives the agent's own numbers as metric families, for the endpoint and for the destinations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Final

from agent.batch import Family
from agent.ownmetrics import BUCKETS_SECONDS, READINGS, TABLE, Declared, Distribution, Meter, Readings
from agent.wire.series import series

BOUNDS: Final = (*map(str, BUCKETS_SECONDS), "+Inf")


def own_families(meter: Meter, readings: Readings) -> list[Family]:
    """Every declared metric, also one that has no series yet. A name in ``readings`` that is not declared raises
    KeyError, labels that do not fit raise ValueError."""
    undeclared = readings.keys() - READINGS.keys()
    if undeclared:
        raise KeyError(f"not declared in READINGS: {', '.join(sorted(undeclared))}")
    return list(_families(meter, readings))


def _families(meter: Meter, readings: Readings) -> Iterator[Family]:
    for name, declared in TABLE.items():
        if declared.kind == "histogram":
            yield _histogram(name, declared, meter.distributions(name))
        else:
            yield _numbers(name, declared, meter.numbers(name))
    for name, declared in READINGS.items():
        yield _numbers(name, declared, readings.get(name, {}))


def _numbers(name: str, declared: Declared, found: Mapping[tuple[str, ...], float]) -> Family:
    rows = sorted(found.items())
    names = tuple(_series(name, declared.labels, labels) for labels, _ in rows)
    return Family(name, declared.kind, declared.help, names, tuple(value for _, value in rows))


def _histogram(name: str, declared: Declared, found: Mapping[tuple[str, ...], Distribution]) -> Family:
    names: list[bytes] = []
    values: list[float] = []
    for labels, distribution in sorted(found.items()):
        names += _buckets(name, declared.labels, labels)
        values += [*accumulate(distribution.counts), distribution.sum_seconds, distribution.count]
    return Family(name, declared.kind, declared.help, names, values)


@lru_cache(maxsize=4096)
def _series(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> bytes:
    if len(labels) != len(values):
        raise ValueError(f"{name}{{{','.join(labels)}}} was given {values!r}")
    return series(name, zip(labels, values, strict=True))


@lru_cache(maxsize=1024)
def _buckets(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> tuple[bytes, ...]:
    ends = [_series(f"{name}_bucket", (*labels, "le"), (*values, bound)) for bound in BOUNDS]
    return (*ends, _series(f"{name}_sum", labels, values), _series(f"{name}_count", labels, values))
