"""This file is the position of one file as it is kept in the spool: JSON, one object a file.

    {"path": "/var/log/app.log",         the name it was found under, not where it lies now
     "offset": 4096,                     the next byte to read
     "size": 5000, "mtime_ns": 17…,      the file as it was last seen
     "prefix_bytes": 1024, "prefix": "…",   fingerprint of its first bytes
     "before_bytes": 256, "before": "…",    fingerprint of the bytes right before the offset
     "skipping": false,                  the offset lies inside a line that was too long
     "done": false,                      a compressed file that was read to its end
     "gone": 0}                          since when it has not been seen, in seconds since the epoch; 0: it is there

Readers pass over names they do not know, so that an older agent opens the positions of a newer one.
"""

from __future__ import annotations

import json

from msgspec import Struct
from msgspec.structs import replace

from agent.collect.file_identity import NOTHING, Fingerprint


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

    @property
    def unread_bytes(self) -> int:
        return max(0, self.size - self.offset)

    def as_gone(self, wall_seconds: int) -> Cursor:
        """The same file, no longer there; its unread bytes were counted and are not counted again."""
        return replace(self, gone=wall_seconds, size=min(self.size, self.offset))

    def encode(self) -> str:
        """ASCII: a file name that is not UTF-8 survives as escaped surrogates."""
        return json.dumps(
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
            },
            separators=(",", ":"),
        )


def decode(value: str) -> Cursor | None:
    """The cursor in ``value``, or None where it is none: then the file is read again from its beginning."""
    try:
        raw = json.loads(value)
        cursor = Cursor(
            path=str(raw["path"]),
            offset=int(raw["offset"]),
            size=int(raw.get("size", 0)),
            mtime_ns=int(raw.get("mtime_ns", -1)),
            prefix=Fingerprint(int(raw.get("prefix_bytes", 0)), str(raw.get("prefix", ""))),
            before=Fingerprint(int(raw.get("before_bytes", 0)), str(raw.get("before", ""))),
            skipping=bool(raw.get("skipping", False)),
            gone=int(raw.get("gone", 0)),
            done=bool(raw.get("done", False)),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    sound = 0 <= cursor.before.length <= cursor.offset and cursor.prefix.length >= 0
    return cursor if sound else None
