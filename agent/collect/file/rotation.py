"""This file finds rotated files again: by identity under a new name, or by content in a copy.

Nothing here opens a file of the spool: SQLite's locks belong to the process and the file, so a plain open and close
of one drops them (sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from pathlib import Path

from agent.collect.file.identity import PREFIX_BYTES, Fingerprint, Inode, inode_of, open_regular
from agent.collect.file.names import former_names
from agent.collect.file.tail import Tail

_ABSENT = (FileNotFoundError, NotADirectoryError)


class SpoolGuard:
    """Knows the spool's directory and the files in it, by whatever name they are reached, and what is ``written`` by
    this agent itself."""

    def __init__(self, spool_dir: Path, written: Collection[str] = ()) -> None:
        self._directory = spool_dir
        self._written = written
        self._real = os.path.realpath(spool_dir)
        self._inodes: frozenset[Inode] = frozenset()

    def refresh(self) -> None:
        """Looks at what is there now, without opening any of it."""
        self._real = os.path.realpath(self._directory)
        inodes = set()
        with contextlib.suppress(OSError), os.scandir(self._real) as listing:
            for entry in listing:
                with contextlib.suppress(OSError):
                    inodes.add(inode_of(entry.stat(follow_symlinks=True)))
        self._inodes = frozenset(inodes)

    def refuses(self, real_path: str, inode: Inode) -> bool:
        """Whether a file is the spool's, or one that the agent writes itself, rotated ones among them."""
        if inode in self._inodes or real_path.startswith(self._real + os.sep):
            return True
        name, _, number = real_path.rpartition(".")
        if real_path in self._written or (number.isdigit() and name in self._written):
            return True
        return real_path.rstrip("0123456789-.") in self._written


class Names:
    """Where files lie now, by inode; each directory is looked up once, until ``forget``."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[int, list[str]]] = {}
        self._rotated: dict[str, dict[str, list[str]]] = {}
        self._real: dict[str, str] = {}

    def real(self, path: str) -> str:
        """The path with links followed."""
        if os.path.islink(path):
            return os.path.realpath(path)
        directory, name = os.path.split(path)
        if directory not in self._real:
            self._real[directory] = os.path.realpath(directory)
        return os.path.join(self._real[directory], name)

    def search(self, inode: Inode, directories: Iterable[str]) -> str | None:
        """The path of ``inode`` in the first of ``directories`` that has it; raises OSError like ``find``."""
        return next((path for directory in directories if (path := self.find(inode, directory)) is not None), None)

    def find(self, inode: Inode, directory: str) -> str | None:
        """The path of ``inode`` in ``directory``, or None; raises OSError where the directory cannot be read."""
        for path in self._list(directory).get(inode[1], ()):
            if lies_at(path, inode):
                return path
        return None

    def others(self, directory: str, known: Container[int]) -> list[str]:
        """Everything in ``directory`` but inode numbers that are ``known``, sorted; nothing where it cannot be read."""
        try:
            listed = self._list(directory).items()
        except OSError:
            return []
        return sorted(path for number, paths in listed if number not in known for path in paths)

    def rotated(self, name: str, directory: str) -> list[str]:
        """What is called like a rotated ``name`` in ``directory``; nothing where it cannot be read."""
        if directory not in self._rotated:
            rotated: dict[str, list[str]] = {}
            for path in self.others(directory, ()):
                for former in former_names(path):
                    rotated.setdefault(former, []).append(path)
            self._rotated[directory] = rotated
        return self._rotated[directory].get(name, [])

    def forget(self) -> None:
        """Gives back the memory of what was listed; what is asked for next is looked up anew."""
        self._listed.clear()
        self._rotated.clear()

    def _list(self, directory: str) -> dict[int, list[str]]:
        if directory not in self._listed:
            names: dict[int, list[str]] = {}
            with contextlib.suppress(*_ABSENT), os.scandir(directory) as listing:
                for entry in listing:
                    names.setdefault(entry.inode(), []).append(entry.path)
            self._listed[directory] = names
        return self._listed[directory]


def lies_at(path: str, inode: Inode) -> bool:
    """Whether the file at ``path``, links followed, is ``inode``; raises OSError where that cannot be told."""
    try:
        return inode_of(os.stat(path)) == inode
    except _ABSENT:
        return False


def copies(
    directory: str, size: int, prefix: Fingerprint, refuses: Callable[[str, Inode], bool]
) -> Iterator[tuple[str, Inode, int]]:
    """Path, inode and descriptor of each file in ``directory`` with ``size`` bytes or more that begins like ``prefix``.

    Files that cannot be read are passed over. The descriptor is closed when the next one is asked for, unless the
    caller made a duplicate.
    """
    with contextlib.suppress(OSError):
        entries = sorted(os.scandir(directory), key=lambda e: e.name)
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                inode = inode_of(status)
                if not stat.S_ISREG(status.st_mode) or status.st_size < size or refuses(entry.path, inode):
                    continue
                fd = open_regular(entry.path, inode)
                try:
                    if prefix.holds(os.pread(fd, PREFIX_BYTES, 0)):
                        yield entry.path, inode, fd
                finally:
                    os.close(fd)


def holds_the_rest(fd: int, tail: Tail) -> bool:
    """Whether what lies before the offset of ``tail`` also lies there in the file at ``fd``. Raises OSError."""
    back = tail.before.length
    return tail.before.holds(os.pread(fd, back, tail.offset - back)) if back else True


def same_beginning(fd: int, tail: Tail) -> bool:
    """Whether the file at ``fd``, which may still grow, begins as ``tail`` does. Raises OSError."""
    head = os.pread(fd, PREFIX_BYTES, 0)
    if len(head) >= tail.prefix.length:
        return tail.prefix.holds(head)
    return tail.fd >= 0 and os.pread(tail.fd, len(head), 0) == head


def has_writer(fd: int) -> bool | None:
    """Whether somebody has the deleted file at ``fd`` open for writing; None where the kernel will not tell us.

    A read lease (fcntl(2), F_SETLEASE) is given only while nobody has. It is given back at once, and its signal is
    one that is ignored, although nobody can open a file that has no name.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
