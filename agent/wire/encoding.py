"""This file turns the bytes of a text file into lines of UTF-8, whatever it was written in.

    bytes of the file ──cut at its own newlines──▶ whole lines ──text──▶ UTF-8, "\\n" after each line
    FF FE 61 00 0A 00 62 …                         61 00 0A 00           a\\n

A byte order mark says which Unicode it is and wins over what was configured. What is not of the encoding becomes
U+FFFD, NUL bytes are left out, and the carriage return before a newline is; the first two are counted.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.wire import lines
from agent.wire.lines import NEWLINE, ended

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLE_BYTES: Final = 16
"""So many NUL bytes in a row are no text of anybody: a program died, or wrote behind what was truncated away."""

MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
WITHOUT_MARK: Final = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
"""Python's name of an encoding that writes a mark: what it is where a file has none."""

_SLICE_BYTES: Final = 128 << 10
_WITHIN_LINE: Final = re.compile(rb"(?<=[^\n\0])\0{%d,}(?=[^\n\0])" % HOLE_BYTES)
_UNITS: Final = (1, 2, 4)


class Text(Struct, frozen=True):
    """Lines as UTF-8, each with its newline; what was replaced in them, and how many NUL bytes are not in them."""

    block: bytes
    replaced: int = 0
    nul_bytes: int = 0


class Encoding(Struct, frozen=True):
    """How one file writes text: Python's name of it, its newline, and the bytes of its smallest unit."""

    name: str
    newline: bytes
    unit: int

    def of(self, head: bytes) -> Encoding:
        """The encoding of a file that begins with ``head``: this one, unless a mark says otherwise."""
        name = next((name for mark, name in MARKS if head.startswith(mark)), None)
        return self if name is None or self.unit == _UNITS[-1] else encoding_of(name)

    def whole_lines(self, data: bytes, start: int, max_line_bytes: int) -> tuple[int, bool]:
        """As in agent.wire.lines; ``data[start]`` begins a unit."""
        if self.newline == NEWLINE:
            return lines.whole_lines(data, start, max_line_bytes)
        at, size = start, len(data)
        while size - at > max_line_bytes:
            newline = self.rfind(data, at, at + max_line_bytes + self.unit)
            if newline < 0:
                return at, True
            at = newline + self.unit
        newline = self.rfind(data, at, size)
        return (at if newline < 0 else newline + self.unit), False

    def find(self, data: bytes, start: int = 0) -> int:
        """Where the first newline at or behind ``start`` is, -1 where there is none; ``data[start]`` begins a unit."""
        at = data.find(self.newline, start)
        while self.unit > 1 and at >= 0 and (at - start) % self.unit:
            at = data.find(self.newline, at + 1)
        return at

    def rfind(self, data: bytes, start: int, end: int) -> int:
        """Where the last newline in ``data[start:end]`` is, or -1; ``data[start]`` begins a unit."""
        at = data.rfind(self.newline, start, end)
        while self.unit > 1 and at >= 0 and (at - start) % self.unit:
            at = data.rfind(self.newline, start, at + self.unit - 1)
        return at

    def last_lines(self, data: bytes, start: int, end: int, count: int) -> int:
        """Where the last ``count`` of the whole lines ``data[start:end]`` begin; ``start`` where there are no more."""
        at = end
        for _ in range(count + 1):
            at = self.rfind(data, start, at)
            if at < 0:
                return start
        return at + self.unit

    def whole_units(self, data: bytes) -> bytes:
        """``data`` without the character at its end that is not all there."""
        if self.unit > 1:
            return data[: len(data) - len(data) % self.unit]
        if self.name != "utf-8":
            return data
        back = next((back for back in (1, 2, 3) if data[-back:][:1] >= b"\xc0"), 0)
        cut = back and data[-back] >= (0xC0, 0xE0, 0xF0)[back - 1]
        return data[:-back] if cut else data

    def is_text(self, raw: bytes) -> bool:
        """Whether these bytes surely are what ``text`` would make of them."""
        return self.name == "utf-8" and raw.isascii() and b"\0" not in raw and b"\r" not in raw

    def text(self, raw: bytes, *, at_start: bool = False) -> Text:
        """The lines in ``raw``, the last one ended where it is not; ``at_start`` where the file begins with it."""
        replaced = nul_bytes = 0
        if at_start:
            raw = self._without_mark(raw)
        if self.name != "utf-8" or not raw.isascii():
            raw, replaced = self._utf8(raw)
        raw = ended(raw)
        if b"\0" in raw:
            size = len(raw)
            raw, broken = _WITHIN_LINE.subn(NEWLINE, raw)
            raw = raw.translate(None, b"\0")
            nul_bytes = (size - len(raw) + broken) * self.unit
        if b"\r" in raw:
            raw = raw.replace(b"\r\n", NEWLINE)
        return Text(raw, replaced, nul_bytes)

    def _without_mark(self, raw: bytes) -> bytes:
        mark = next((mark for mark, name in MARKS if name == self.name), b"")
        return raw.removeprefix(mark)

    def _utf8(self, raw: bytes) -> tuple[bytes, int]:
        """``raw`` as valid UTF-8, and how often something of it was replaced."""
        if self.name == "utf-8" and _is_valid(raw):
            return raw, 0
        texts = list(_decoded(raw, self.name))
        replaced = sum(text.count("\ufffd") for text in texts)
        if replaced:
            replaced -= raw.count("\ufffd".encode(self.name, "ignore") or b"\xff" * len(raw) + b"\xff")
        return b"".join(text.encode(errors="replace") for text in texts), max(0, replaced)


def _is_valid(raw: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(raw), _SLICE_BYTES):
            decoder.decode(raw[start : start + _SLICE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(raw: bytes, name: str) -> Iterator[str]:
    """Slice by slice, because no call may hold the interpreter for long; a character cut by a slice stays whole."""
    decoder = codecs.getincrementaldecoder(name)("replace")
    for start in range(0, len(raw), _SLICE_BYTES):
        yield decoder.decode(raw[start : start + _SLICE_BYTES])
    yield decoder.decode(b"", final=True)


@lru_cache(maxsize=16)
def encoding_of(name: str) -> Encoding:
    """The encoding that Python knows by ``name``. Raises LookupError where it is none that lines can be read in."""
    found = codecs.lookup(name).name
    found = WITHOUT_MARK.get(found, found)
    try:
        newline = "\n".encode(found)
        sound = newline.decode(found) == "\n" and "a\n".encode(found).endswith(newline)
        codecs.getincrementaldecoder(found)
    except (UnicodeError, TypeError, LookupError) as error:
        raise LookupError(f"{name} is no encoding of text") from error
    if not sound or len(newline) not in _UNITS or len(newline.strip(b"\0")) != 1:
        raise LookupError(f"lines cannot be told apart in {name}")
    return Encoding(found, newline, len(newline))


UTF8: Final = Encoding("utf-8", NEWLINE, 1)
