"""This file reads what ``journalctl -o json`` prints: one object a line, members in any order, a block at a time.

Source: systemd, "Journal JSON Format" (docs/JOURNAL_EXPORT_FORMATS.md) and systemd.journal-fields(7).

    {"__CURSOR":"s=…;i=2f;…","__REALTIME_TIMESTAMP":"1700000000000285","MESSAGE":"text","PRIORITY":"6",…}
                                                                       "MESSAGE":[104,105,27]     not printable text
                                                                       "MESSAGE":["one","two"]    given several times
                                                                       "MESSAGE":null             left out as too large

A quotation mark inside of a value is always escaped, so that ``"NAME":"value"`` stands nowhere but where the field
``NAME`` has that value: a line can be told by its raw bytes, whatever its other fields hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import Struct

SLICE_BYTES: Final = 128 << 10
"""About how much is decoded in one call: well under 1 ms during which no other thread runs."""

SEVERITIES: Final = {"0": 21, "1": 19, "2": 18, "3": 17, "4": 13, "5": 10, "6": 9, "7": 5}
"""PRIORITY as OpenTelemetry's severity; opentelemetry-specification logs/data-model-appendix.md, "Syslog"."""

KEYWORDS: Final = ("emerg", "alert", "crit", "error", "warning", "notice", "info", "debug")
"""The names of PRIORITY that Promtail and Alloy give it."""

_TIME_US = attrgetter("time_us")
_REALTIME = re.compile(rb'"__REALTIME_TIMESTAMP":"(\d+)"')
_CURSOR = re.compile(rb'"__CURSOR":"([^"\\]+)"')
_PLACE_BOOT = re.compile(r";b=([0-9a-f]{32})(?:;|$)")
_PLACE_TIME = re.compile(r";t=([0-9a-f]{1,14})(?:;|$)")
_PLACE = re.compile(r"s=([0-9a-f]{32});i=([0-9a-f]+)(?:;.*)?")


def member(name: str, value: str) -> bytes:
    """The bytes that stand in a line exactly where its field ``name`` is ``value``."""
    return b'"%s":%s' % (name.encode(), msgspec.json.encode(value))


def cursor_of(line: bytes) -> str:
    """The cursor of one line, empty where it has none."""
    found = _CURSOR.search(line)
    return found[1].decode() if found else ""


def realtime_us_of(line: bytes) -> int:
    """When the entry was written, in microseconds; 0 where the line does not say."""
    found = _REALTIME.search(line)
    return int(found[1]) if found else 0


def last_line(block: bytes) -> bytes:
    """The last of the whole lines of ``block``, without its newline."""
    return block[block.rfind(b"\n", 0, -1) + 1 : -1]


def place_of(cursor: str) -> tuple[str, int] | None:
    """Which run of sequence numbers the entry at ``cursor`` is of, and its number there; None for any other text."""
    found = _PLACE.fullmatch(cursor)
    return (found[1], int(found[2], 16)) if found else None


def time_us_of_cursor(cursor: str) -> int:
    """When the entry at ``cursor`` was written, in microseconds; 0 for any other text."""
    found = _PLACE.fullmatch(cursor) and _PLACE_TIME.search(cursor)
    return int(found[1], 16) if found else 0


def boot_of_cursor(cursor: str) -> str:
    """The id of the boot in which the entry at ``cursor`` was written; empty for any other text."""
    found = _PLACE_BOOT.search(cursor)
    return found[1] if found else ""


def without(block: bytes, members: Sequence[bytes], since_us: int = 0) -> tuple[bytes, int]:
    """The block without the lines that hold all ``members`` and are no older than ``since_us``, and how many went.

    The same object where there are none: nothing is done line by line then.
    """
    if not members or not all(each in block for each in members):
        return block, 0
    lines = block.split(b"\n")
    rest = lines.pop()
    kept = [
        line + b"\n"
        for line in lines
        if not all(each in line for each in members) or (since_us and realtime_us_of(line) < since_us)
    ]
    return b"".join((*kept, rest)), len(lines) - len(kept)


class Entries(Struct, frozen=True):
    """The entries of one block as columns, in order; ``fields[name]`` has the raw value of each, None where absent.

    ``undecodable`` lines were no entries.
    """

    times_us: list[int]
    fields: dict[str, list[Any]]
    undecodable: int = 0

    @property
    def count(self) -> int:
        return len(self.times_us)


class Reader:
    """Reads the named fields of each entry, and its time."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(dict.fromkeys(names))
        columns = [(f"f{i}", Any, msgspec.field(default=None, name=name)) for i, name in enumerate(self._names)]
        time_us = ("time_us", int, msgspec.field(name="__REALTIME_TIMESTAMP"))
        entry = msgspec.defstruct("Entry", [time_us, *columns], gc=False, frozen=True)
        self._decoder = msgspec.json.Decoder(entry, strict=False)

    def entries(self, block: bytes) -> Entries:
        """The entries of whole lines. A line that is none is counted unless it is blank; no other suffers for it."""
        decoded: list[Any] = []
        undecodable = 0
        for piece in _slices(block):
            try:
                decoded += self._decoder.decode_lines(piece)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                lines = [line for line in piece.split(b"\n") if line.strip()]
                found = [*self._one_by_one(lines)]
                undecodable += len(lines) - len(found)
                decoded += found
        return Entries(
            list(map(_TIME_US, decoded)),
            {name: list(map(attrgetter(f"f{i}"), decoded)) for i, name in enumerate(self._names)},
            undecodable,
        )

    def _one_by_one(self, lines: Iterable[bytes]) -> Iterator[Any]:
        for line in lines:
            try:
                yield self._decoder.decode(line.decode(errors="replace"))
            except (msgspec.DecodeError, RecursionError):
                continue


def _slices(block: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(block):
        cut = block.find(b"\n", start + SLICE_BYTES)
        end = len(block) if cut < 0 else cut + 1
        yield block[start:end]
        start = end


def text_of(value: Any) -> str:
    """One value of a field as text: bytes that are not UTF-8 replaced, several values a line each, none empty."""
    if isinstance(value, str):
        return value
    return "" if value is None else bytes_of(value).decode(errors="replace")


def bytes_of(value: Any) -> bytes:
    """One value of a field as bytes: several values a line each, none empty."""
    if isinstance(value, str):
        return value.encode(errors="replace")
    if not isinstance(value, list):
        return b"" if value is None else _encoded(value)
    try:
        return bytes(value)
    except (TypeError, ValueError):  # not the numbers of bytes: a field that was given several times
        return b"\n".join(map(_one_of_several, value))


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except RecursionError:  # deeper than anybody writes
        return b""


def _one_of_several(value: Any) -> bytes:
    if not isinstance(value, list):
        return bytes_of(value)
    try:
        return bytes(value)
    except (TypeError, ValueError):  # journalctl nests no deeper
        return b""


def severity_of(priority: Any) -> int:
    """OpenTelemetry's number of a PRIORITY, 0 where it is none."""
    return SEVERITIES.get(priority, 0) if isinstance(priority, str) else 0


def keyword_of(priority: str) -> str:
    """The name of a PRIORITY; what is none stays as it is."""
    return KEYWORDS[int(priority)] if priority in SEVERITIES else priority
