"""This file bounds the descriptors of the file source: files that were read lately keep theirs."""

from __future__ import annotations

import contextlib
import errno
import os

from agent.collect.file.identity import key_of_open, open_regular
from agent.collect.file.tail import Tail

_NO_DESCRIPTOR_LEFT = (errno.EMFILE, errno.ENFILE)


class Reused(OSError):
    """The inode belongs to a new file; the one that was followed is gone."""


class OpenFiles:
    """At most ``most`` open files, those used longest ago closed first; a deleted one with unread bytes never is."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used: dict[Tail, None] = {}

    def __len__(self) -> int:
        return len(self._used)

    @property
    def full(self) -> bool:
        """Whether one must be closed before another is opened."""
        return len(self._used) >= self._most

    def use(self, tail: Tail) -> None:
        """Opens the file unless it is open. Raises OSError; Replaced or Reused where it is another one by now."""
        if tail.fd < 0:
            tail.fd = self._open(tail)
        self._used.pop(tail, None)
        self._used[tail] = None

    def close(self, tail: Tail) -> None:
        if self._used.pop(tail, True) is None:
            fd, tail.fd = tail.fd, -1
            with contextlib.suppress(OSError):  # NFS reports a lost write here; there was none
                os.close(fd)

    def close_all(self) -> None:
        """Closes every file, those with unread bytes as well."""
        for tail in tuple(self._used):
            self.close(tail)

    def _open(self, tail: Tail) -> int:
        if tail.where is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), tail.path)
        while self.full and self._close_one():
            pass
        try:
            fd = open_regular(tail.where, tail.inode)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR_LEFT or not self._close_one():
                raise
            fd = open_regular(tail.where, tail.inode)
        if key_of_open(fd) != tail.key:
            os.close(fd)
            raise Reused(errno.ESTALE, "a new file has its inode", tail.where)
        return fd

    def _close_one(self) -> bool:
        for tail in self._used:
            if tail.where is not None or not tail.unread_bytes:
                self.close(tail)
                return True
        return False
