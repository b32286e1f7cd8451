"""This file tells by the path of a log which container wrote it, and where more is said of that container.

    /var/lib/docker/containers/ID/ID-json.log                        config.v2.json beside it
    /var/lib/containers/storage/overlay-containers/ID/userdata/ctr.log    overlay-containers/containers.json
    /var/log/pods/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log           all that a kubelet tells is in the path
    /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log               links to these

Sources: moby daemon/container.go; containers/storage containers.go, seen with podman 4.3; kubernetes
pkg/kubelet/kuberuntime/helpers.go (BuildPodLogsDirectory), pkg/kubelet/kuberuntime/legacy.go.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from msgspec import Struct

SHORT_ID: Final = 12
_DOCKER = re.compile(r"(?P<directory>.*/(?P<id>[0-9a-f]{64}))/(?P=id)-json\.log")
_PODMAN = re.compile(r"(?P<directory>.*/[^/]+-containers)/(?P<id>[0-9a-f]{64})/userdata/ctr\.log")
_POD = re.compile(r".*/(?P<namespace>[^/_]+)_(?P<pod>[^/_]+)_[^/_]+/(?P<container>[^/]+)/[^/]+")
_LINK = re.compile(r".*/(?P<pod>[^/_]+)_(?P<namespace>[^/_]+)_(?P<container>[^/]+)-(?P<id>[0-9a-f]{64})\.log")

Engine = Literal["docker", "podman", "kubernetes", ""]


class Place(Struct, frozen=True):
    """What a path tells: of which engine the log is, the container's id, labels, and the file that tells more.

    Each is empty where the path does not tell it.
    """

    engine: Engine = ""
    id: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    config: str = ""

    @property
    def short_id(self) -> str:
        """As engines show it to people."""
        return self.id[:SHORT_ID]


def place_of(path: str) -> Place:
    """What ``path`` tells, which may also be that of a rotated log in the same directory."""
    docker = _DOCKER.match(path)
    if docker is not None:
        return Place("docker", docker["id"], config=docker["directory"] + "/config.v2.json")
    podman = _PODMAN.match(path)
    if podman is not None:
        return Place("podman", podman["id"], config=podman["directory"] + "/containers.json")
    link, pod = _LINK.fullmatch(path), _POD.fullmatch(path)
    found = link or pod
    if found is None:
        return Place()
    labels = tuple((name, found[name]) for name in ("container", "namespace", "pod"))
    return Place("kubernetes", link["id"] if link is not None else "", labels)
