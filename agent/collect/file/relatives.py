"""This file finds files that were made and rotated away before any pattern found them.

Two rotations between two looks, or while the agent was down, leave a file that never had the followed name when
somebody looked. It lies beside that name under a rotated one, and was born after the youngest file that was known by
the name. File systems that tell no birth time give no way to tell it from an old one; there it stays unread.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator

from agent.collect.file.follow import Followed
from agent.collect.file.identity import PREFIX_BYTES, Inode, born_ns_of_key, inode_of, key_at, open_regular
from agent.collect.file.names import rotated_names
from agent.collect.file.rotation import holds_the_rest
from agent.collect.file.tail import Tail


class Relatives:
    """Knows when the youngest file of each name was born; about ``most`` names, those of files at hand first.

    A directory is listed only when it changed, and once more after that: its time moves in ticks of the kernel, so
    that one change may hide another.
    """

    def __init__(self, followed: Followed, most: int) -> None:
        self._followed = followed
        self._most = most
        self._born_ns: dict[str, dict[str, int]] = {}
        self._listed: dict[str, tuple[int, bool]] = {}

    def load(self) -> None:
        """Learns of the files that are not there, and of those that are only there compressed."""
        for _, key, cursor in self._followed.absent:
            self._add(cursor.path, born_ns_of_key(key))
        for path, born_ns in self._followed.archives.births():
            self._add(path, born_ns)

    def learn(self, new: Iterable[Tail]) -> None:
        """Takes in files that were found; when there are too many names, only those of followed files are kept."""
        for tail in new:
            self._add(tail.path, born_ns_of_key(tail.key))
        if sum(map(len, self._born_ns.values())) > 2 * self._most:
            self._born_ns.clear()
            self._listed.clear()
            self.learn(self._followed.tails.values())

    def unseen(self) -> Iterator[tuple[str, str, str, os.stat_result]]:
        """Path, name, key and status of each file that is the younger one of its name and no copy of an older one."""
        known = {inode[1] for inode in self._followed.tails}
        for directory, births_ns in self._born_ns.items():
            if self._changed(directory):
                paths = self._followed.names.others(directory, known)
                for path, name in rotated_names(paths, births_ns.keys()):
                    with contextlib.suppress(OSError):
                        found = self._younger(path, name, births_ns[name])
                        if found is not None:
                            yield path, name, *found

    def _younger(self, path: str, name: str, born_ns: int) -> tuple[str, os.stat_result] | None:
        status = os.stat(path)
        inode = inode_of(status)
        if inode in self._followed.tails or not born_ns or not stat.S_ISREG(status.st_mode):
            return None
        key = key_at(path, inode)
        if born_ns_of_key(key) < born_ns or self._followed.guard.refuses(self._followed.names.real(path), inode):
            return None
        return None if _is_copy(self._followed, path, inode, name) else (key, status)

    def _changed(self, directory: str) -> bool:
        """Whether names may have come or gone since the last time this was asked."""
        try:
            changed_ns = os.stat(directory).st_mtime_ns
        except OSError:
            return False
        before_ns, again = self._listed.get(directory, (0, True))
        self._listed[directory] = changed_ns, changed_ns != before_ns
        return again or changed_ns != before_ns

    def _add(self, path: str, born_ns: int) -> None:
        births_ns = self._born_ns.setdefault(os.path.dirname(path), {})
        births_ns[path] = max(births_ns.get(path, 0), born_ns)


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
