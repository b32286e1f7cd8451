"""This folder is how logs are written: one file a format. The dict is the catalogue; a module is imported when asked.

What a format is stands in agent/wire/format.py.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.wire.format import Format

FORMATS: Final[dict[str, str]] = {
    "docker": "agent.wire.formats.docker",
    "json": "agent.wire.formats.json",
    "cri": "agent.wire.formats.cri",
    "syslog": "agent.wire.formats.syslog",
    "nginx": "agent.wire.formats.nginx",
    "apache": "agent.wire.formats.apache",
    "postgres": "agent.wire.formats.postgres",
    "go": "agent.wire.formats.go",
    "java": "agent.wire.formats.java",
    "python": "agent.wire.formats.python",
    "ruby": "agent.wire.formats.ruby",
    "dotnet": "agent.wire.formats.dotnet",
    "node": "agent.wire.formats.node",
    "logfmt": "agent.wire.formats.logfmt",
}
"""Formats by name: the module whose ``FORMAT`` fulfils agent.wire.format.Format. Of two that a file might be in, the
one that stands first here is taken."""

PATTERN: Final = "regex:"
"""What stands before the expression in the name of a format that the operator wrote as one."""


@lru_cache(maxsize=64)
def format_of(name: str) -> Format:
    """The format of that name. Raises KeyError for a name that is none."""
    if name.startswith(PATTERN):
        pattern = importlib.import_module("agent.wire.formats.pattern")
        made: Format = pattern.format_of(name.removeprefix(PATTERN))
        return made
    found: Format = importlib.import_module(FORMATS[name]).FORMAT
    return found
