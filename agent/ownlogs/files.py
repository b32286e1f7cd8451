"""This file is how the agent's own log files are named: four kinds, each one file that grows and those that were.

  application.log                 grows now
  application.log.2026-11-19      what was written on that day; where it took several files, the first of them
  application.log.2026-11-19.1    the next one of that day, and so on: .2, .3 …

  application    every line but those of the two last        errors       of these the errors, once more
  audit          start, stop, configuration, credentials…    performance  the agent's own key numbers, one line a minute

Every line has the form of agent.wire.ownline.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["application", "errors", "audit", "performance"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
DIRECTORY: Final = "/var/log/telemetry-agent"

_ROTATED: Final = re.compile(r"([a-z]+)\.log\.(\d{4}-\d\d-\d\d)(?:\.([1-9]\d{0,8}))?", re.ASCII)


class Rotated(Struct, frozen=True, order=True):
    """A file that has stopped growing; they sort by age, oldest first."""

    day: str
    number: int
    kind: Kind

    @property
    def name(self) -> str:
        return f"{self.kind}.log.{self.day}" + (f".{self.number}" if self.number else "")


def current(kind: Kind) -> str:
    """The name of the file that grows."""
    return f"{kind}.log"


def rotated_in(directory: Path, kind: Kind | None = None) -> list[Rotated]:
    """The files in ``directory`` that have stopped growing, oldest first. Raises OSError where it cannot be read."""
    return sorted(found for found in _parsed(os.listdir(directory)) if kind in (None, found.kind))


def log_directory(given: str | None, environ: Mapping[str, str]) -> Path:
    """Where the files lie: ``given``, or the first of ``$LOGS_DIRECTORY`` (systemd.exec(5)), or DIRECTORY."""
    return Path(given or environ.get("LOGS_DIRECTORY", "").split(":")[0] or DIRECTORY).absolute()


def _parsed(names: list[str]) -> Iterator[Rotated]:
    for name in names:
        if found := _ROTATED.fullmatch(name):
            for kind in KINDS:
                if kind == found[1]:
                    yield Rotated(found[2], int(found[3] or 0), kind)
