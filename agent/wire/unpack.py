"""This file unpacks compressed data a piece at a time: gzip, bzip2 and Zstandard, each as many members as there are.

    packed bytes ──take──▶ │ at most so many bytes at once │ ──give──▶ what they hold

Nothing is unpacked before it is asked for, so that a small file that holds gigabytes takes no more memory than another.
"""

from __future__ import annotations

import ctypes
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Protocol

MAGIC_BYTES: Final = 4
"""So many of the first bytes say how a file is packed."""

LARGEST_WINDOW_LOG: Final = 25
"""32 MiB: what zstd -20 needs to unpack. What was packed with a larger window is refused."""

SUFFIXES: Final = (".gz", ".bz2", ".zst")
"""The names of files that can be unpacked."""


class Unpackable(Exception):
    """What was given is not what its name says, or damaged."""


class Unpacking(Protocol):
    """One file on its way; ``whole`` says that what was given so far ends where a member ends."""

    whole: bool

    def take(self, packed: bytes) -> None:
        """More of the packed bytes, after ``give`` had nothing left."""
        ...

    def give(self, most_bytes: int) -> bytes:
        """Some of what was unpacked; nothing where more has to be taken first. Raises Unpackable."""
        ...


class _Members(ABC):
    """Members one after the other, by a decompressor of Python's own."""

    def __init__(self) -> None:
        self.whole = True
        self._packed = b""
        self._member: Any = None

    def take(self, packed: bytes) -> None:
        self._packed += packed

    def give(self, most_bytes: int) -> bytes:
        while True:
            if self._member is None:
                if not self._packed:
                    return b""
                self._member, self.whole = self._begin(), False
            try:
                given = self._step(most_bytes)
            except (zlib.error, OSError, EOFError) as error:
                raise Unpackable(str(error)) from error
            if self._member.eof:
                self._packed, self._member, self.whole = self._member.unused_data, None, True
            if given or not (self.whole and self._packed):
                return given

    @abstractmethod
    def _begin(self) -> Any: ...

    @abstractmethod
    def _step(self, most_bytes: int) -> bytes: ...


class _Gzip(_Members):
    def _begin(self) -> Any:
        return zlib.decompressobj(31)  # gzip alone: RFC 1952

    def _step(self, most_bytes: int) -> bytes:
        given: bytes = self._member.decompress(self._packed, most_bytes)
        self._packed = self._member.unconsumed_tail
        return given


class _Bzip2(_Members):
    def _begin(self) -> Any:
        import bz2

        return bz2.BZ2Decompressor()

    def _step(self, most_bytes: int) -> bytes:
        packed, self._packed = self._packed, b""
        given: bytes = self._member.decompress(packed, most_bytes)
        return given


class _Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer of zstd.h: where, how large, how far."""

    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t), ("used", ctypes.c_size_t))


class _Zstandard:
    """ZSTD_decompressStream(3) of the system's library, which goes on from frame to frame (RFC 8878)."""

    def __init__(self) -> None:
        self._library = _libzstd()
        self._state = self._library.ZSTD_createDCtx()
        self._library.ZSTD_DCtx_setParameter(self._state, 100, LARGEST_WINDOW_LOG)
        self._packed, self._used = b"", 0
        self.whole = True

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.ZSTD_freeDCtx(self._state)

    def take(self, packed: bytes) -> None:
        self._packed, self._used = self._packed[self._used :] + packed, 0

    def give(self, most_bytes: int) -> bytes:
        room = ctypes.create_string_buffer(most_bytes)
        out = _Buffer(ctypes.addressof(room), most_bytes, 0)
        while not out.used:
            held = ctypes.c_char_p(self._packed)
            into = _Buffer(ctypes.cast(held, ctypes.c_void_p), len(self._packed), self._used)
            if self.whole and into.used == into.size:
                break
            left = self._library.ZSTD_decompressStream(self._state, ctypes.byref(out), ctypes.byref(into))
            if self._library.ZSTD_isError(left):
                raise Unpackable(self._library.ZSTD_getErrorName(left).decode())
            stood_still = into.used == self._used and not out.used
            self._used, self.whole = into.used, left == 0
            if stood_still:
                break
        return room.raw[: out.used]


@cache
def _libzstd() -> Any:
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError as error:
        raise Unpackable("libzstd.so.1 is not installed") from error
    library.ZSTD_createDCtx.restype = ctypes.c_void_p
    library.ZSTD_freeDCtx.argtypes = (ctypes.c_void_p,)
    library.ZSTD_DCtx_setParameter.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    library.ZSTD_decompressStream.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library


MAGIC: Final[Mapping[bytes, Callable[[], Unpacking]]] = {
    b"\x1f\x8b": _Gzip,
    b"BZh": _Bzip2,
    b"\x28\xb5\x2f\xfd": _Zstandard,
}
"""How packed files begin."""


def unpacking(head: bytes) -> Unpacking:
    """What unpacks a file that begins with ``head``. Raises Unpackable where nothing does."""
    for magic, made in MAGIC.items():
        if head.startswith(magic):
            return made()
    raise Unpackable("it is not compressed as its name says")


def holds_bytes(head: bytes, end: bytes) -> int | None:
    """How many bytes a gzip file of one member holds, modulo 4 GiB, by its last bytes; None for any other file."""
    return int.from_bytes(end[-4:], "little") if head.startswith(b"\x1f\x8b") and len(end) >= 4 else None
