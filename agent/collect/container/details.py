"""This file reads what an engine keeps of its containers on disk: name, image, labels. No engine is asked.

    docker   config.v2.json    of one  {"Name":"/web-1","Config":{"Image":"shop:3","Labels":{"team":"blue"}},…}
    podman   containers.json   of all  [{"id":"3965…","names":["web-1"],"metadata":"{\\"image-name\\":\\"shop:3\\"}"},…]

Podman keeps the labels of containers in its database alone. A file is read again when it has changed, which is looked
at every ``LOOK_SECONDS`` while there is something to read of the container; what was known of one that is gone stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Struct, field

from agent.collect.container.places import Place

LOOK_SECONDS: Final = 5.0
MOST_BYTES: Final = 16 << 20
MOST_FILES: Final = 4096
MOST_GONE: Final = 1000
"""About how many containers that are no longer in a file are remembered."""

_Stamp = tuple[int, int, int]


class Details(Struct, frozen=True):
    """What is known of one container."""

    name: str = ""
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class _DockerOptions(Struct, frozen=True, rename="pascal"):
    image: str = ""
    labels: dict[str, str] | None = None


class _Docker(Struct, frozen=True, rename="pascal"):
    name: str
    config: _DockerOptions = _DockerOptions()


class _Podman(Struct, frozen=True):
    id: str
    names: list[str] | None = None
    metadata: str = ""


class _PodmanImage(Struct, frozen=True, rename="kebab"):
    image_name: str = ""


_DOCKER = msgspec.json.Decoder(_Docker)
_PODMAN = msgspec.json.Decoder(list[_Podman])
_PODMAN_IMAGE = msgspec.json.Decoder(_PodmanImage)


def docker_details(data: bytes, id_: str) -> dict[str, Details]:
    """The container of one config.v2.json, by its id. Raises msgspec.DecodeError."""
    config = _DOCKER.decode(data)
    return {id_: Details(config.name.removeprefix("/"), config.config.image, config.config.labels or {})}


def podman_details(data: bytes, _id: str) -> dict[str, Details]:
    """Every container of one containers.json, by id. Raises msgspec.DecodeError."""
    return {each.id: Details((each.names or [""])[0], _image(each.metadata)) for each in _PODMAN.decode(data)}


def _image(metadata: str) -> str:
    try:
        return _PODMAN_IMAGE.decode(metadata).image_name
    except msgspec.DecodeError:
        return ""


READERS: Final[Mapping[str, Callable[[bytes, str], dict[str, Details]]]] = {
    "docker": docker_details,
    "podman": podman_details,
}


class _File(Struct):
    looked_seconds: float
    stamp: _Stamp
    details: dict[str, Details]
    fault: str


class Known:
    """What was read of containers, at most ``MOST_FILES`` files of it."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def of(self, place: Place, now_seconds: float) -> tuple[Details, str]:
        """What is known of a container, and why there is nothing to be known of it, if so."""
        reader = READERS.get(place.engine)
        if reader is None:
            return Details(), ""
        file = self._files.get(place.config)
        if file is None or now_seconds - file.looked_seconds >= LOOK_SECONDS:
            file = self._look(place, file, now_seconds)
        details = file.details.get(place.id)
        if details is None and not file.fault and file.looked_seconds != now_seconds:  # it is younger than that look
            file = self._look(place, file, now_seconds)
            details = file.details.get(place.id)
        if details is None:
            return Details(), file.fault or "it is not in there"
        return details, ""

    def _look(self, place: Place, before: _File | None, now_seconds: float) -> _File:
        """The file as it is now; where it cannot be read, what it said before."""
        known = before or _File(now_seconds, (0, 0, 0), {}, "")
        known.looked_seconds = now_seconds
        try:
            status = os.stat(place.config)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != known.stamp:
                with open(place.config, "rb") as file:
                    now = READERS[place.engine](file.read(MOST_BYTES), place.id)
                gone = known.details if len(known.details) <= 2 * len(now) + MOST_GONE else {}
                known.details = gone | now
                known.stamp, known.fault = stamp, ""
        except OSError as error:
            known.fault = error.strerror or type(error).__name__
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            known.fault = "it is not understood"
        self._files.pop(place.config, None)
        self._files[place.config] = known
        if len(self._files) > MOST_FILES:
            del self._files[next(iter(self._files))]
        return known
