"""This file reads what containerd, CRI-O, Podman (``k8s-file``) write: time, stream, tags and what was printed.

    2026-11-20T16:54:34.069525152+00:00 stdout F first line
    2026-11-20T16:54:34.070205881+00:00 stdout P 8192 bytes …        P: the next of that stream goes on, F: it ends

Source: kubernetes/design-proposals-archive node/kubelet-cri-logging.md, "CRI log format"; conmon src/ctr_logging.c.
Tags are separated by colons; the first is P or F.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agent.wire.containerlines import Part, Parts, nanoseconds, slices
from agent.wire.format import Columns, Joining, Moment

if TYPE_CHECKING:
    from agent.batch import Logs

_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])(?::\S*)?(?: (.*))?",
    re.DOTALL,
)
_MEMBERS = frozenset({4})
_STREAMS = frozenset({b"stdout", b"stderr"})
_TAGS = frozenset({b"F", b"P"})
_FULL = frozenset({b"F"})
_ENDS = {b"F": b"\n", b"P": b""}
_NAMES = {b"stdout": "stdout", b"stderr": "stderr"}
_Columns = tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]


class Cri:
    """Unwrapping of CRI lines, and the format of one whole line."""

    name: Final = "cri"
    joining: Joining | None = None

    def parts(self, block: bytes) -> Parts:
        """The lines as columns."""
        columns: tuple[list[bytes], ...] = ([], [], [], [])
        unparsed = 0
        for piece in slices(block):
            lines = piece.split(b"\n")
            if not lines[-1]:
                lines.pop()
            found, strange = _columns(lines)
            unparsed += strange
            for column, more in zip(columns, found, strict=True):
                column.extend(more)
        stamps, streams, tags, texts = columns
        ended = _FULL.issuperset(tags)
        if not ended:
            texts = [text + _ENDS[tag] for text, tag in zip(texts, tags, strict=True)]
        times = b"\n".join(stamps).decode(errors="replace").split("\n") if stamps else []
        return Parts(texts, [_NAMES[stream] for stream in streams], times, unparsed, ended)

    def part(self, line: bytes) -> Part | None:
        """What one line says."""
        found = _LINE.fullmatch(line)
        return None if found is None else Part(_NAMES[found[2]], found[3] == b"F", found[1].decode())

    def mark(self, stream: str) -> bytes:
        """What stands behind the time of every line of that stream."""
        return b" %s " % stream.encode()

    def columns(self, batch: Logs, moment: Moment) -> Columns:
        """The time of each line."""
        found = list(map(_LINE.fullmatch, batch.records()))
        times = ["" if line is None else line[1].decode() for line in found]
        return Columns(nanoseconds(times), None, found.count(None))

    def fields(self, record: bytes) -> Mapping[str, Any] | None:
        """``message``, ``stream`` and ``time``."""
        found = _LINE.fullmatch(record)
        if found is None:
            return None
        message = (found[4] or b"").decode(errors="replace").rstrip("\r")
        return {"message": message, "stream": _NAMES[found[2]], "time": found[1].decode()}

    def matches(self, record: bytes) -> bool:
        """Whether it has a time, a stream and tags."""
        return _LINE.fullmatch(record) is not None


def _columns(lines: list[bytes]) -> tuple[_Columns, int]:
    """Times, streams, tags, and texts; and how many lines were not of the format."""
    rows = [line.split(b" ", 3) for line in lines]
    if _MEMBERS.issuperset(map(len, rows)):
        times, streams, tags, texts = zip(*rows, strict=True)
        if _STREAMS.issuperset(streams) and _TAGS.issuperset(tags):
            return (times, streams, tags, texts), 0
    found = list(map(_LINE.fullmatch, lines))
    strange = (b"", b"stdout", b"F")
    each = [
        (line[1], line[2], line[3], line[4] or b"") if line is not None else (*strange, lines[i])
        for i, line in enumerate(found)
    ]
    times, streams, tags, texts = zip(*each, strict=True)
    return (times, streams, tags, texts), found.count(None)


FORMAT: Final = Cri()
