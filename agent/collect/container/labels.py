"""This file gives the log of a container its labels: of its path, and of what its engine keeps of it on disk.

    source host                                       of every log
    container image compose_project compose_service   docker, podman; the last two where compose started it
    namespace pod container                           kubernetes
    stream                                            stdout or stderr

The id is no label: it is another one each time a container is made anew. It stands beside each record.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from agent.batch import Labels, labels_of
from agent.collect.container.details import Details, Known
from agent.collect.container.places import Place, place_of
from agent.collect.file.faults import printable

if TYPE_CHECKING:
    from agent.collect.container.options import ContainerOptions
    from agent.contract import Context

log = logging.getLogger("telemetry_agent.collect")

ID: Final = "container_id"
UNNAMED: Final = "telemetry_agent_containers_unnamed_total"
MOST_PATHS: Final = 4096


class ContainerLabels:
    """Labels by path, with those that stand beside records among them; ``apart`` takes these out."""

    def __init__(self, options: ContainerOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._known = Known()
        self._made: dict[str, tuple[Details, Labels]] = {}
        self._unnamed: dict[str, None] = {}
        self._beside = frozenset(options.metadata_from.values()) | ({ID} if options.container_id else set())
        self._place = lru_cache(MOST_PATHS)(place_of)
        self.apart = lru_cache(MOST_PATHS)(self._apart)

    def of(self, path: str) -> Labels:
        """All pairs of the log at ``path``, as of now."""
        place = self._place(path)
        details, fault = self._known.of(place, self._context.clock.monotonic_seconds())
        if fault:
            self._say_unnamed(place, fault)
        known = self._made.get(path)
        if known is not None and known[0] == details:
            return known[1]
        labels = self._labels(path, place, details)
        self._made[path] = details, labels
        if len(self._made) > MOST_PATHS:
            del self._made[next(iter(self._made))]
        return labels

    def _apart(self, labels: Labels, stream: str) -> tuple[Labels, Labels]:
        """The labels of one stream, and the pairs that stand beside each record."""
        kept = {name: value for name, value in labels if name not in self._beside}
        beside = tuple((name, value) for name, value in labels if name in self._beside)
        return labels_of(kept, {"stream": stream}), beside

    def _labels(self, path: str, place: Place, details: Details) -> Labels:
        context, options = self._context, self._options
        ours = {"source": context.name, "host": context.host.hostname}
        named = {"container": details.name or place.short_id, "image": details.image, **dict(place.labels)}
        if not place.engine and path:
            named["filename"] = printable(path)
        beside = {ID: place.id} if options.container_id else {}
        return labels_of(
            context.labels,
            options.labels,
            ours,
            named,
            _chosen(options.labels_chosen, details),
            _chosen(options.metadata_from, details),
            beside,
        )

    def _say_unnamed(self, place: Place, fault: str) -> None:
        """Once a container, as long as that is known."""
        if place.id in self._unnamed:
            return
        self._unnamed[place.id] = None
        if len(self._unnamed) > MOST_PATHS:
            del self._unnamed[next(iter(self._unnamed))]
        self._context.meter.add(UNNAMED, 1, (self._context.name,))
        log.warning(
            "container %s is called by its id: %s: %s",
            place.short_id,
            printable(place.config),
            fault,
            extra={"context": {"source": self._context.name}},
        )


def _chosen(wanted: Mapping[str, str], details: Details) -> dict[str, str]:
    return {name: details.labels[key] for key, name in wanted.items() if details.labels.get(key)}
