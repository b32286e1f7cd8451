"""This file wakes the file source when something happens in a directory: inotify(7), through ctypes.

Directories are watched, never files: one watch tells of writes, new names and lost names in it, and 10,000 files
in one directory take one watch.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from msgspec import Struct, field

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_ISDIR = 0x40000000

WATCHED = (
    IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
) | IN_ONLYDIR
OF_THE_DIRECTORY = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED
NEXT_STEPS = {
    errno.ENOSPC: "raise fs.inotify.max_user_watches",
    errno.EMFILE: "raise fs.inotify.max_user_instances",
    errno.EACCES: "give the agent's user the right to list it, or name what lies in it in exclude",
    errno.EPERM: "give the agent's user the right to list it, or name what lies in it in exclude",
    errno.ENOMEM: "the kernel has no memory for it",
    errno.ENOSYS: "this kernel has no inotify",
}
_EVENT = struct.Struct("=iIII")  # struct inotify_event: wd, mask, cookie, len; then the name, padded with NUL
_READ_BYTES = 64 << 10
_MOST_READS = 16


class Changes(Struct, frozen=True):
    """What happened since the last look: files written, and names that came, went or changed their rights.

    ``directories`` says that a directory itself came or went; ``overflowed`` that the kernel dropped events.
    """

    written: set[str] = field(default_factory=set)
    renamed: set[str] = field(default_factory=set)
    directories: bool = False
    overflowed: bool = False


def events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Watch descriptor, mask and name of each event in what was read."""
    at = 0
    while at + _EVENT.size <= len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield watch, mask, data[at : at + length].rstrip(b"\0")
        at += length


class Watch:
    """One inotify instance. Made by ``open_watch``; raises nothing after that but what its methods say.

    ``missing`` is why some directory cannot be watched, or None: then polling has to find what happens there.
    """

    def __init__(self, fd: int, libc: ctypes.CDLL) -> None:
        self._fd = fd
        self._libc = libc
        self._by_number: dict[int, set[str]] = {}
        self._by_path: dict[str, int] = {}
        self.missing: OSError | None = None

    def cover(self, directories: set[str]) -> bool:
        """Watches exactly ``directories``; True when one was added, whose files must be looked at once more."""
        self.missing = None
        for path in self._by_path.keys() - directories:
            self._remove(path)
        added = [path for path in directories - self._by_path.keys() if self._add(path)]
        return bool(added)

    def drain(self) -> Changes:
        """Everything that has happened; does not wait."""
        changes = Changes()
        for _ in range(_MOST_READS):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            changes = self._take(data, changes)
            if len(data) < _READ_BYTES // 2:
                break
        return changes

    async def stirred(self) -> None:
        """Returns when there is something to drain."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._fd, _settle, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, data: bytes, changes: Changes) -> Changes:
        directories, overflowed = changes.directories, changes.overflowed
        for number, mask, name in events(data):
            if mask & IN_Q_OVERFLOW:
                overflowed = True
            elif mask & OF_THE_DIRECTORY:
                directories = directories or number in self._by_number
                self._lost(number, mask)
            elif mask & IN_ISDIR:
                directories = directories or not mask & IN_ATTRIB
            else:
                into = changes.written if mask & IN_MODIFY else changes.renamed
                into.update(os.path.join(path, os.fsdecode(name)) for path in self._by_number.get(number, ()))
        return Changes(changes.written, changes.renamed, directories, overflowed)

    def _add(self, path: str) -> bool:
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), WATCHED)
        if number < 0:
            code = ctypes.get_errno()
            if code not in (errno.ENOENT, errno.ENOTDIR):
                self.missing = OSError(code, os.strerror(code), path)
            return False
        self._by_path[path] = number
        self._by_number.setdefault(number, set()).add(path)
        return True

    def _remove(self, path: str) -> None:
        number = self._by_path.pop(path)
        paths = self._by_number.get(number, set())
        paths.discard(path)
        if not paths:
            self._by_number.pop(number, None)
            self._libc.inotify_rm_watch(self._fd, number)

    def _lost(self, number: int, mask: int) -> None:
        """A directory that moved is watched under a name that is no longer its own; one that is gone, not at all."""
        for path in tuple(self._by_number.get(number, ())):
            if mask & IN_MOVE_SELF:
                self._remove(path)
            else:
                self._by_path.pop(path, None)
        if not mask & IN_MOVE_SELF:
            self._by_number.pop(number, None)


def next_step(error: OSError) -> str:
    """What a person can do about a watch that was refused."""
    return NEXT_STEPS.get(error.errno or 0, "it is tried again at every look")


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def open_watch() -> Watch:
    """A watch on nothing yet; raises OSError where the kernel has no inotify, or no instance left for this user."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return Watch(fd, libc)
