"""This file removes private keys whole, also where a record or a block ends in the middle of one.

```
  record   -----BEGIN RSA PRIVATE KEY-----     [REDACTED]
  record   MIIEpAIBAAKCAQEA…                   [REDACTED]
           ───────── the block ends ─────────             OpenKey(lines=1, size_bytes=…)
  record   …Zx8Q==                             [REDACTED]
  record   -----END RSA PRIVATE KEY-----       [REDACTED]
```
Source: RFC 7468 (PEM), RFC 4880 section 6.2 (PGP). Text here is records that each end with ``\\n``.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from agent.process.redact.censor import as_lines
from agent.process.redact.patterns import REDACTED

_LONGEST_MARKER_BYTES = 160
_WINDOW_BYTES = 32 * 1024


def _cut(text: bytes) -> bytes:
    """The expression for ``text`` with a record boundary anywhere in it."""
    return rb"\n?".join(re.escape(bytes((byte,))) for byte in text)


def _prefix_of(text: bytes) -> bytes:
    """The expression for the first characters of ``text``, one at least, with a record boundary anywhere."""
    first, rest = re.escape(text[:1]), text[1:]
    return first + (rb"(?:\n?" + _prefix_of(rest) + rb")?+" if rest else b"")


_KIND = rb"[A-Z0-9 \n]{0,48}?"
_CLOSE = rb"\n?" + _cut(b"PRIVATE KEY") + rb"(?:\n?" + _cut(b" BLOCK") + rb")?\n?" + _cut(b"-----")
_BEGIN = re.compile(_cut(b"-----BEGIN ") + _KIND + _CLOSE)
_END = re.compile(_cut(b"-----END ") + _KIND + _CLOSE)
_UNFINISHED = re.compile(
    rb"(?:-\n?){1,5}\Z|"
    + (_cut(b"-----") + rb"\n?(?:" + _prefix_of(b"BEGIN") + rb"|" + _prefix_of(b"END") + rb")\Z|")
    + (_cut(b"-----") + rb"\n?(?:" + _cut(b"BEGIN") + rb"|" + _cut(b"END") + rb")\n? [A-Z0-9 \n]{0,64}(?:-\n?){0,5}\Z")
)
"""What may be going on to begin or end a key, at the end of a text."""


class OpenKey(Struct, frozen=True):
    """What is open behind a text: a key, how much of it has gone by, and the ``tail`` of a marker cut in two.

    ``end`` is where at its source the text ended.
    """

    inside: bool = False
    lines: int = 0
    size_bytes: int = 0
    tail: bytes = b""
    end: int = 0


NOTHING_OPEN = OpenKey()


class Bounds(Struct, frozen=True):
    """How far a key may go on without its END before what follows is taken for something else."""

    lines: int
    size_bytes: int


class Removal(Struct, frozen=True):
    """The text without keys, what is open behind it, how many keys began and how many were given up."""

    text: bytes
    open: OpenKey
    began: int
    unended: int


def remove_keys(text: bytes, before: OpenKey, bounds: Bounds, *, marked: bool = True) -> Removal:
    """Each record that holds a part of a key becomes ``[REDACTED]``, but for what stands before and behind the key.

    ``marked`` False says that no KEY_MARKERS were found in ``text``, so that a key can only begin in its first bytes.
    """
    joined = before.tail + b"\n" + text if before.tail else text
    until = len(joined) if marked else len(before.tail) + _LONGEST_MARKER_BYTES
    kept: list[bytes] = []
    position = began = unended = 0
    body = len(joined) - len(text)
    key = before if before.inside else None
    while True:
        start = from_ = position
        if key is None:
            marker = _first(_BEGIN, joined, position, until)
            if marker is None:
                break
            start, from_ = marker.span()
            body = from_
            began += 1
            key = OpenKey(inside=True)
        stop, ended = _end_of_key(joined, from_, body, bounds.lines - key.lines, bounds.size_bytes - key.size_bytes)
        kept += joined[position:start], REDACTED, (b"\n" + REDACTED) * joined.count(b"\n", start, stop)
        position = stop
        if not ended and stop == len(joined) - 1:
            key = _further(key, joined, body, stop)
            if key.lines <= bounds.lines and key.size_bytes < bounds.size_bytes:
                break
        unended += not ended
        key = None
    kept.append(joined[position:])
    after = replace(key or NOTHING_OPEN, tail=_tail(joined))
    return Removal(_without_first(b"".join(kept), before.tail), after, began, unended)


def _further(key: OpenKey, text: bytes, body: int, stop: int) -> OpenKey:
    """The key after what stands between ``body`` and ``stop``, the last line of the text, has gone by."""
    return replace(key, lines=key.lines + text.count(b"\n", body, stop) + 1, size_bytes=key.size_bytes + stop - body)


def _end_of_key(text: bytes, from_: int, body: int, lines_left: int, bytes_left: int) -> tuple[int, bool]:
    """Where a key stops, never behind the text's last ``\\n``, and whether with its END, looked for from ``from_``.

    What has not been counted of it begins at ``body``.
    """
    marker = _END.search(text, from_, body + bytes_left)
    stop = marker.end() if marker else min(body + bytes_left, len(text) - 1)
    if text.count(b"\n", body, stop) > lines_left:
        stop = body - 1
        for _ in range(lines_left + 1):
            stop = text.index(b"\n", stop + 1)
        return stop, False
    if not marker and body < stop < len(text) - 1 and text[stop - 1 : stop] == b"\n":
        stop -= 1
    return stop, marker is not None


def _first(pattern: re.Pattern[bytes], text: bytes, start: int, until: int) -> re.Match[bytes] | None:
    """The first match, searched in windows, so that no call holds the interpreter lock for long."""
    for window in range(start, until, _WINDOW_BYTES):
        end = min(window + _WINDOW_BYTES + _LONGEST_MARKER_BYTES, until)
        if found := pattern.search(text, window, end):
            return found
    return None


def unfinished(block: bytes, separator: bytes) -> OpenKey:
    """What is open behind a block without KEY_MARKERS: at most a marker that its end cuts in two."""
    tail = _tail(as_lines(block[-_LONGEST_MARKER_BYTES:], separator)[0])
    return OpenKey(tail=tail) if tail else NOTHING_OPEN


def _tail(text: bytes) -> bytes:
    found = _UNFINISHED.search(text[-_LONGEST_MARKER_BYTES:-1])
    return found[0] if found else b""


def _without_first(text: bytes, tail: bytes) -> bytes:
    """``text`` without the records of ``tail``, which went out with the block before."""
    if not tail:
        return text
    start = 0
    for _ in range(tail.count(b"\n") + 1):
        start = text.index(b"\n", start) + 1
    return text[start:]
