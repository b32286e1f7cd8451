"""This file gathers series that are found in any order under the metric that each belongs to."""

from __future__ import annotations

from agent.batch import Family, Kind


class Gathered:
    """Metrics whose names are known only once they are read; a metric's first kind and help are its own."""

    def __init__(self) -> None:
        self._metrics: dict[str, tuple[Kind, str, dict[bytes, float]]] = {}

    def add(self, name: str, kind: Kind, help_: str, labelled: bytes, value: float) -> None:
        """Adds the series ``labelled`` to the metric ``name``; one that is there already keeps its value."""
        metric = self._metrics.get(name)
        if metric is None:
            metric = self._metrics[name] = (kind, help_, {})
        metric[2].setdefault(labelled, value)

    def families(self) -> list[Family]:
        """The metrics in the order in which they were found."""
        return [
            Family(name, kind, help_, tuple(values), tuple(values.values()))
            for name, (kind, help_, values) in self._metrics.items()
        ]
