"""This file is the ``[collect.container]`` table, and the container source as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from agent.collect.file.options import FileOptions, Pattern
from agent.contract import Component
from agent.options import LabelName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from agent.collect.container.source import ContainerSource
    from agent.contract import Context

PATHS: Final = (
    "/var/log/pods/*/*/*.log",
    "/var/log/pods/*/*/*.log.*.gz",
    "/var/lib/docker/containers/*/*-json.log",
    "/var/lib/docker/containers/*/*-json.log.*.gz",
    "/var/lib/containers/storage/*-containers/*/userdata/ctr.log",
)
LABELS: Final = {
    "com.docker.compose.project": "compose_project",
    "com.docker.compose.service": "compose_service",
    "io.kubernetes.pod.namespace": "namespace",
    "io.kubernetes.pod.name": "pod",
    "io.kubernetes.container.name": "container",
}


class ContainerOptions(FileOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[collect.container]`` table."""

    paths: Annotated[
        tuple[Pattern, ...],
        Meta(
            min_length=1,
            description="Where engines write: logs of Docker (json-file), Podman (k8s-file), containerd and CRI-O. "
            "Those of a user's Podman are in ~/.local/share/containers/storage/*-containers/*/userdata/ctr.log.",
        ),
    ] = PATHS
    labels_from: Annotated[
        dict[str, LabelName] | None,
        Meta(
            description="Labels of containers that become labels, and these labels' names. Left out: compose's project "
            "and service, as compose_project and compose_service, and a pod's name and namespace."
        ),
    ] = None
    metadata_from: Annotated[
        dict[str, LabelName],
        Meta(description="Labels of containers that are kept beside each record, and what they are called there."),
    ] = msgspec.field(default_factory=dict)
    container_id: Annotated[
        bool, Meta(description="True keeps the id of its container beside each record, as container_id.")
    ] = True

    @property
    def labels_chosen(self) -> Mapping[str, str]:
        """Each label of a container that becomes one, and its name here."""
        return LABELS if self.labels_from is None else self.labels_from

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        yield from super().faults()
        if self.parse in ("docker", "cri"):
            yield "parse", "is about what containers print; what engines put around it is understood by itself"


def _open(options: ContainerOptions, context: Context) -> AbstractAsyncContextManager[ContainerSource]:
    from agent.collect.container.source import open_container

    return open_container(options, context)


COMPONENT: Final = Component(
    name="container",
    options=ContainerOptions,
    open=_open,
    signals=("logs",),
    summary="Reads what containers print, also those that have ended, from the files of Docker, Podman and Kubernetes.",
)
