"""This file reads a part of the past again, for a batch that was damaged after its position was committed.

The key of an origin is the key of the file and the fingerprint of its first bytes at that time:

    fd00:2a1f:18c3… # 1024 . 9f86d081884c7d65
    file              first bytes, their digest

so that a file that was truncated since is told from what it was, and a copy of it will do as well.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from agent.batch import Origin
from agent.collect.file.archive import ARCHIVE, unpacked_at
from agent.collect.file.cursor import Cursor
from agent.collect.file.identity import PREFIX_BYTES, Fingerprint, inode_of_key, open_regular
from agent.collect.file.packed import Packed
from agent.collect.file.rotation import Names, SpoolGuard, copies
from agent.collect.file.tail import Piece, Tail
from agent.wire.encoding import UTF8, Encoding


def origin_of(tail: Tail, piece: Piece) -> Origin:
    """Where ``piece`` of ``tail`` was read."""
    return Origin(f"{tail.key}#{tail.prefix.length}.{tail.prefix.digest}", piece.start, piece.end)


def parse_key(key: str) -> tuple[str, Fingerprint]:
    """The file's key and fingerprint; raises ValueError. Behind a slash, the key may name one of several streams."""
    file_key, _, rest = key.partition("#")
    length, _, digest = rest.partition(".")
    return file_key.partition("/")[0], Fingerprint(int(length), digest)


def read_again(
    origin: Origin, directories: Iterable[str], guard: SpoolGuard, encoding: Encoding = UTF8
) -> bytes | None:
    """The lines at ``origin`` as they were handed on, from the file or a copy of it, or None."""
    try:
        file_key, prefix = parse_key(origin.key)
    except ValueError:
        return None
    guard.refresh()
    if file_key.startswith(ARCHIVE):
        return _unpacked_again(file_key, origin, prefix, directories, guard, encoding)
    for fd in _candidates(file_key, origin.end, prefix, tuple(directories), guard):
        with contextlib.suppress(OSError):
            data = os.pread(fd, origin.end - origin.start, origin.start)
            head = os.pread(fd, PREFIX_BYTES, 0)
            if len(data) == origin.end - origin.start and prefix.holds(head):
                return encoding.of(head).text(data, at_start=not origin.start).block
    return _unpacked_again(file_key, origin, prefix, directories, guard, encoding)


def _unpacked_again(
    file_key: str,
    origin: Origin,
    prefix: Fingerprint,
    directories: Iterable[str],
    guard: SpoolGuard,
    encoding: Encoding,
) -> bytes | None:
    """The lines at ``origin`` from the compressed file of that key, or one that begins as the file did."""
    inode = inode_of_key(file_key.removeprefix(ARCHIVE)) if file_key.startswith(ARCHIVE) else None
    for directory in directories:
        for path, found in Packed(guard).like(directory, Cursor("", prefix=prefix)):
            if inode is None or inode == found:
                data = unpacked_at(found, path, origin.start, origin.end)
                if data is not None:
                    return encoding.of(data[0]).text(data[1], at_start=not origin.start).block
    return None


def _candidates(
    file_key: str, size: int, prefix: Fingerprint, directories: tuple[str, ...], guard: SpoolGuard
) -> Iterator[int]:
    """Descriptors of the file itself, then of files that begin like it; each is closed when the next is asked for."""
    inode, names = inode_of_key(file_key), Names()
    for directory in directories if inode is not None else ():
        with contextlib.suppress(OSError):
            path = names.find(inode, directory) if inode is not None else None
            if path is not None and inode is not None and not guard.refuses(names.real(path), inode):
                fd = open_regular(path, inode)
                try:
                    yield fd
                finally:
                    os.close(fd)
    for directory in directories:
        for _, _, fd in copies(directory, size, prefix, lambda p, i: guard.refuses(os.path.realpath(p), i)):
            yield fd
