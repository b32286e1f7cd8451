"""This file finds files that were made and rotated away before any pattern found them.

Two rotations between two looks, or while the agent was down, leave a file that never had the followed name when
somebody looked. It lies beside that name under a rotated one, and was born after the youngest file that was known by
the name. File systems that tell no birth time give no way to tell it from an old one; there it stays unread.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Container, Iterable, Iterator, Mapping

from agent.collect.file_follow import Followed
from agent.collect.file_identity import PREFIX_BYTES, Inode, born_ns_of_key, inode_of, key_at, open_regular
from agent.collect.file_rotation import holds_the_rest
from agent.collect.file_tail import Tail

_MARK = re.compile(
    r"[._-](?=(?:[0-9][\w:.-]*|old)(?<!\.gz)(?<!\.xz)(?<!\.bz2)(?<!\.zst)(?<!\.zip)\Z)",
)


def rotated_names(paths: Iterable[str], names: Container[str]) -> Iterator[tuple[str, str]]:
    """Each path that looks like a rotated one of ``names``, with that name; compressed ones do not count.

    For ``app.log`` those are ``app.log.1``, ``app.log-20261120``, ``app.log.old``, ``app-20261120.log``.
    """
    for path in paths:
        for mark in _MARK.finditer(path):
            base, extension = path[: mark.start()], os.path.splitext(path)[1]
            name = next((name for name in (base, base + extension) if name in names), None)
            if name is not None and name != path:
                yield path, name
                break


def births(followed: Followed, new: Container[Tail], names: Container[str] | None) -> dict[str, int]:
    """When the youngest file known by each of ``names``, or by any, was born; those in ``new`` are not known yet."""
    known = [(tail.path, tail.key) for tail in followed.tails.values() if tail not in new]
    youngest: dict[str, int] = {}
    for path, key in [*known, *((cursor.path, key) for _, key, cursor in followed.absent)]:
        if names is None or path in names:
            youngest[path] = max(youngest.get(path, 0), born_ns_of_key(key))
    return {path: born_ns for path, born_ns in youngest.items() if born_ns}


def unseen(followed: Followed, births_ns: Mapping[str, int]) -> Iterator[tuple[str, str, str, os.stat_result]]:
    """Path, name, key and status of each file that is a younger one of its name and no copy of an older one."""
    for directory in sorted({os.path.dirname(name) for name in births_ns}):
        for path, name in rotated_names(followed.names.paths(directory), births_ns.keys()):
            with contextlib.suppress(OSError):
                status = os.stat(path)
                inode = inode_of(status)
                if inode in followed.tails or not stat.S_ISREG(status.st_mode):
                    continue
                key = key_at(path, inode)
                if born_ns_of_key(key) < births_ns[name] or followed.guard.refuses(followed.names.real(path), inode):
                    continue
                if not _is_copy(followed, path, inode, name):
                    yield path, name, key, status


def _is_copy(followed: Followed, path: str, inode: Inode, name: str) -> bool:
    """Whether all that was read of a file known by ``name`` is also in the file at ``path``. Raises OSError."""
    fd = open_regular(path, inode)
    try:
        head = os.pread(fd, PREFIX_BYTES, 0)
        return any(
            tail.path == name and tail.offset and tail.prefix.holds(head) and holds_the_rest(fd, tail)
            for tail in followed.tails.values()
        )
    finally:
        os.close(fd)
