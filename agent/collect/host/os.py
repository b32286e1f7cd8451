"""This file reads which distribution this is: /etc/os-release or /usr/lib/os-release (os-release(5))."""

from __future__ import annotations

import re
from os import stat
from typing import TYPE_CHECKING, Final

from agent.collect.host.kernelfile import read
from agent.errors import NoData
from agent.wire.series import Metric, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.batch import Family
    from agent.collect.host.machine import Machine

FILES: Final = ("etc/os-release", "usr/lib/os-release")
LABELS: Final = (
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
)
INFO: Final = Metric("node_os_info", "gauge", f"A metric with a constant '1' value labeled by {', '.join(LABELS)}.")
VERSION: Final = Metric("node_os_version", "gauge", "Metric containing the major.minor part of the OS version.")
VERSION_LABELS: Final = ("id", "id_like", "name")
_MAJOR_MINOR: Final = re.compile(r"[0-9]+\.?[0-9]*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)')
_ESCAPED: Final = re.compile(r'\\([$"`\\])')


class Os:
    """Raises NoData where neither file exists."""

    def __init__(self, machine: Machine) -> None:
        self._root = machine.root.rstrip("/")
        self._of: tuple[str, int, int] | None = None
        self._families: list[Family] = []

    def collect(self) -> Iterable[Family]:
        """A series that is always 1 with the names as labels, and the version as a number where it has one."""
        path, changed_ns, inode = self._file()
        if self._of != (path, changed_ns, inode):
            self._families = _families(parse(read(path)))
            self._of = (path, changed_ns, inode)
        return self._families

    def _file(self) -> tuple[str, int, int]:
        for file in FILES:
            path = f"{self._root}/{file}"
            try:
                found = stat(path)
            except FileNotFoundError:
                continue
            return path, found.st_mtime_ns, found.st_ino
        raise NoData(f"{self._root}/{FILES[0]} does not exist")


def _families(release: Mapping[str, str]) -> list[Family]:
    of = {label: release.get(label.upper(), "") for label in LABELS}
    families = Table(LABELS, INFO).families({tuple(of.values()): (1.0,)})
    version = _MAJOR_MINOR.match(of["version_id"])
    if version and (number := float(version[0])) > 0:
        row = tuple(of[label] for label in VERSION_LABELS)
        families += Table(VERSION_LABELS, VERSION).families({row: (number,)})
    return families


def parse(data: bytes) -> dict[str, str]:
    """Values by name, quotes and escapes taken off as a shell does; lines of another form are left out."""
    values: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            values[name] = _unquoted(value)
    return values


def _unquoted(value: str) -> str:
    if value.startswith("'"):
        return value[1:].partition("'")[0]
    quoted = _QUOTED.match(value)
    if quoted:
        return _ESCAPED.sub(r"\1", quoted[1])
    return value.partition(" #")[0].rstrip()


COLLECTOR: Final = Os
