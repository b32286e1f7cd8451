"""This file is the position of one file as it is kept in the spool: JSON, one object a file.

    {"path": "/var/log/app.log",         the name it was found under, not where it lies now
     "offset": 4096,                     the next byte to read
     "size": 5000, "mtime_ns": 17…,      the file as it was last seen
     "prefix_bytes": 1024, "prefix": "…",   fingerprint of its first bytes
     "before_bytes": 256, "before": "…",    fingerprint of the bytes right before the offset
     "skipping": false,                  the offset lies inside a line that was too long
     "done": false,                      a compressed file that was read to its end
     "born_ns": 17…,                     a compressed file: when the one it was made of was born, 0 where nobody knows
     "gone": 0}                          since when it has not been seen, in seconds since the epoch; 0: it is there

Readers pass over names they do not know, so that an older agent opens the positions of a newer one.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.collect.file.identity import NOTHING, Fingerprint

_ENCODED: Final = json.JSONEncoder(separators=(",", ":")).encode


class Cursor(Struct, frozen=True):
    """How far one file was read, and how to know it again."""

    path: str
    offset: int = 0
    size: int = 0
    mtime_ns: int = -1
    prefix: Fingerprint = NOTHING
    before: Fingerprint = NOTHING
    skipping: bool = False
    gone: int = 0
    done: bool = False
    born_ns: int = 0

    @property
    def unread_bytes(self) -> int:
        """How many bytes the file held behind the offset when it was last looked at."""
        return max(0, self.size - self.offset)

    def as_gone(self, wall_seconds: int) -> Cursor:
        """The same file, no longer there; its unread bytes were counted and are not counted again."""
        return replace(self, gone=wall_seconds, size=min(self.size, self.offset))

    def encode(self) -> str:
        """ASCII: a file name that is not UTF-8 survives as escaped surrogates."""
        return _ENCODED(
            {
                "path": self.path,
                "offset": self.offset,
                "size": self.size,
                "mtime_ns": self.mtime_ns,
                "prefix_bytes": self.prefix.length,
                "prefix": self.prefix.digest,
                "before_bytes": self.before.length,
                "before": self.before.digest,
                "skipping": self.skipping,
                "gone": self.gone,
                **({"done": True} if self.done else {}),
                **({"born_ns": self.born_ns} if self.born_ns else {}),
            }
        )


class _Kept(Struct):
    """The object as it is written."""

    path: str
    offset: int
    size: int = 0
    mtime_ns: int = -1
    prefix_bytes: int = 0
    prefix: str = ""
    before_bytes: int = 0
    before: str = ""
    skipping: bool = False
    gone: int = 0
    done: bool = False
    born_ns: int = 0


_KEPT: Final = msgspec.json.Decoder(_Kept)


def decode(value: str) -> Cursor | None:
    """The cursor in ``value``, or None where it is none: then the file is read again from its beginning."""
    try:
        kept = _kept(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    cursor = Cursor(
        kept.path,
        kept.offset,
        kept.size,
        kept.mtime_ns,
        Fingerprint(kept.prefix_bytes, kept.prefix) if kept.prefix_bytes else NOTHING,
        Fingerprint(kept.before_bytes, kept.before) if kept.before_bytes else NOTHING,
        kept.skipping,
        kept.gone,
        kept.done,
        kept.born_ns,
    )
    sound = 0 <= cursor.before.length <= cursor.offset and cursor.prefix.length >= 0
    return cursor if sound else None


def _kept(value: str) -> _Kept:
    """Raises ValueError, TypeError, KeyError, AttributeError or RecursionError for what is no position."""
    try:
        return _KEPT.decode(value)
    except msgspec.DecodeError:  # a name that is not UTF-8 is no text to msgspec
        raw: dict[str, Any] = json.loads(value)
        kept = {name: raw[name] for name in _Kept.__struct_fields__ if name in raw}
        path = str(kept.pop("path"))
        return msgspec.structs.replace(msgspec.convert({"path": "", **kept}, _Kept), path=path)
