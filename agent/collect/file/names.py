"""This file tells by its name which file another one was before it was rotated."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator

_MARK = re.compile(
    r"[._-](?=(?:[0-9][\w:.-]*|old)(?<!\.gz)(?<!\.xz)(?<!\.bz2)(?<!\.zst)(?<!\.zip)\Z)",
)


def rotated_names(paths: Iterable[str], names: Container[str]) -> Iterator[tuple[str, str]]:
    """Each path that looks like a rotated one of ``names``, with that name; compressed ones do not count.

    For ``app.log`` those are ``app.log.1``, ``app.log-20261120``, ``app.log.old``, ``app-20261120.log``.
    """
    for path in paths:
        name = next((name for name in former_names(path) if name in names), None)
        if name is not None:
            yield path, name


def former_names(path: str) -> Iterator[str]:
    """What a file that is called like this may have been called before it was rotated, the likeliest first."""
    for mark in _MARK.finditer(path):
        base, extension = path[: mark.start()], os.path.splitext(path)[1]
        yield from (name for name in (base, base + extension) if name != path)
