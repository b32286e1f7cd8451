"""This file is what a container engine wrote of a container's output, as columns, and how lines are put together.

    stdout  "first pa" ┐              engines cut what has no newline for long (docker 16 KiB, conmon 8 KiB):
    stderr  "else\\n"   │ one record   the parts of one stream belong together, whatever the other writes meanwhile
    stdout  "rt\\n"     ┘

What a part holds ends with a newline where its line ended there. Times are RFC 3339 as Go prints them.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from calendar import timegm
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import compress
from operator import add
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

NEWLINE: Final = b"\n"
NANOSECONDS: Final = 1_000_000_000
STDOUT: Final = "stdout"
STREAMS: Final = (STDOUT, "stderr")
FOREVER_NS: Final = 1 << 62
SLICE_BYTES: Final = 128 << 10
"""About how much is taken apart in one call: well under 2 ms during which no other thread runs."""

_MINUTE, _SECOND, _FRACTION, _DIGITS = 17, 19, 20, 9
"""How long a time is up to its minute and its second, where its fraction begins, and most digits of that."""
_WHOLE: Final = 10 ** (1 + 2 + _DIGITS - 1)
"""The least number that a one, the seconds and all digits of the fraction make."""
_LEFT_OUT: Final = [10 ** (1 + 2 + _DIGITS - digits) for digits in range(1 + 2 + _DIGITS)]
"""What makes up for the zeros that Go leaves out at the end, by the number of digits that are there."""
LEAST_IN_MINUTE: Final = 16
"""With fewer lines a minute it is cheaper to take each time for itself."""
_ZONE = re.compile(r"(?:Z|[+-]\d\d:\d\d)\Z")


class Parts(Struct, frozen=True):
    """The lines of a block, in order: what each holds, of which stream, and when.

    A text ends with a newline where a line of its stream ends there; where all do, ``ended`` may say so in place of
    that. ``unparsed`` were not of the format; they stand there whole, as lines of stdout without a time.
    """

    texts: list[str] | list[bytes]
    streams: list[str]
    times: list[str]
    unparsed: int = 0
    ended: bool = False

    def with_newlines(self) -> list[bytes]:
        """The texts as bytes, each with the newline that ends it."""
        texts = [text.encode(errors="replace") if isinstance(text, str) else text for text in self.texts]
        return [text + NEWLINE for text in texts] if self.ended else texts


class Part(NamedTuple):
    """One line: its stream, whether a line of that stream ends there, and when."""

    stream: str
    ended: bool
    time: str


class Last(Struct, frozen=True):
    """Where the last line of a stream lies, and whether nothing that comes after it can belong to it any more."""

    begin: int
    end: int
    over: bool


class Output(Struct, frozen=True):
    """What one stream wrote: ``count`` lines, each followed by a newline, and when the first part of each came."""

    stream: str
    block: bytes
    count: int
    times_ns: array[int]


class Unwrapping(Protocol):
    """How one kind of engine writes."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def parts(self, block: bytes) -> Parts:
        """The lines of a block of whole lines as columns."""
        ...

    def part(self, line: bytes) -> Part | None:
        """What one line says; None where it is not of the format."""
        ...

    def mark(self, stream: str) -> bytes:
        """What stands in every line of that stream, and seldom in another."""
        ...


def outputs(parts: Parts, max_line_bytes: int) -> list[Output]:
    """What was written, by stream; streams that wrote nothing are left out. A line of several parts that is longer
    than ``max_line_bytes`` is divided between two of them."""
    streams = sorted(set(parts.streams), reverse=True)
    made = [_output(stream, parts if len(streams) == 1 else _only(parts, stream), max_line_bytes) for stream in streams]
    return [output for output in made if output.count]


def _only(parts: Parts, stream: str) -> Parts:
    chosen = [each == stream for each in parts.streams]
    texts: Any = list(compress(parts.texts, chosen))
    return Parts(texts, [stream], list(compress(parts.times, chosen)), 0, parts.ended)


def _output(stream: str, parts: Parts, max_line_bytes: int) -> Output:
    block = _joined(parts)
    count = block.count(NEWLINE)
    times_ns = nanoseconds(parts.times)
    if count != len(parts.texts):
        if max(map(len, block.split(NEWLINE))) > max_line_bytes:
            divided: Any = _divided(parts.texts, max_line_bytes)
            return _output(stream, replace(parts, texts=divided), len(block))
        times_ns = array("q", _of_lines(parts.texts, times_ns))
    if b"\r" in block:
        block = block.replace(b"\r\n", NEWLINE)
    return Output(stream, block, count, times_ns)


def _divided(texts: Sequence[Any], max_line_bytes: int) -> list[Any]:
    """The texts, with a newline where a line would become too long."""
    made: list[Any] = []
    size = 0
    for text in texts:
        newline = "\n" if isinstance(text, str) else NEWLINE
        if size and size + len(text) > max_line_bytes:
            made[-1] += newline
            size = 0
        made.append(text)
        size = 0 if text.endswith(newline) else size + len(text)
    return made


def _joined(parts: Parts) -> bytes:
    """The texts as one block of whole lines."""
    texts: list[Any] = parts.texts
    if texts and isinstance(texts[0], str):
        block = "".join(texts).encode(errors="replace")
    else:
        block = NEWLINE.join((*texts, b"")) if parts.ended else b"".join(texts)
    return block if not block or block.endswith(NEWLINE) else block + NEWLINE


def _of_lines(texts: Iterable[Any], times_ns: Iterable[int]) -> Iterator[int]:
    """The time of each line: that of the part in which it begins."""
    within = False
    for text, time_ns in zip(texts, times_ns, strict=True):
        newline = "\n" if isinstance(text, str) else NEWLINE
        goes_on = bool(text) and not text.endswith(newline)
        for _ in range(text.count(newline) + goes_on - within):
            yield time_ns
        within = goes_on or (within and not text)


def last_lines(
    unwrapping: Unwrapping, data: bytes, start: int, end: int, wait_ns: int = FOREVER_NS, most_bytes: int = 1 << 62
) -> dict[str, Last]:
    """The last line of each stream in the whole lines ``data[start:end]``.

    One is over when the other stream has gone on for ``wait_ns`` since, or for ``most_bytes``.
    """
    newest = unwrapping.part(data[data.rfind(NEWLINE, start, end - 1) + 1 : end - 1]) if end > start else None
    newest_ns = _one(newest.time) if newest is not None else 0
    lasts: dict[str, Last] = {}
    for stream in STREAMS:
        for begin, line_end, part in _lines_back(unwrapping, stream, data, start, end):
            over = line_end < end and (end - begin > most_bytes or 0 < _one(part.time) < newest_ns - wait_ns)
            lasts[stream] = Last(begin, line_end, over)
            break
    return lasts


def open_from(
    unwrapping: Unwrapping, data: bytes, start: int, end: int, lasts: Mapping[str, Last] | None = None
) -> int:
    """Up to where the whole lines ``data[start:end]`` can be taken so that no line of any stream is cut in two."""
    lasts = last_lines(unwrapping, data, start, end) if lasts is None else lasts
    while True:
        going_on = [stream for stream, last in lasts.items() if not (last.over and end >= last.end)]
        first = min((_open_of(unwrapping, stream, data, start, end) for stream in going_on), default=end)
        if first == end:
            return end
        end = first


def _open_of(unwrapping: Unwrapping, stream: str, data: bytes, start: int, end: int) -> int:
    """The same for one stream: back from its last line, as long as its lines do not end."""
    first = end
    for begin, _, part in _lines_back(unwrapping, stream, data, start, end):
        if part.ended:
            break
        first = begin
    return first


def _lines_back(
    unwrapping: Unwrapping, stream: str, data: bytes, start: int, end: int
) -> Iterator[tuple[int, int, Part]]:
    """The lines of one stream, from the last one back: where each begins and ends, and what it says."""
    mark = unwrapping.mark(stream)
    while (found := data.rfind(mark, start, end)) >= 0:
        begin = max(start, data.rfind(NEWLINE, start, found) + 1)
        newline = data.find(NEWLINE, found, end)
        part = unwrapping.part(data[begin:newline])
        if part is not None and part.stream == stream:
            yield begin, newline + 1, part
        end = begin


def slices(block: bytes) -> Iterator[bytes]:
    """The whole lines of a block, about ``SLICE_BYTES`` at a time."""
    start = 0
    while start < len(block):
        cut = block.find(NEWLINE, start + SLICE_BYTES)
        end = len(block) if cut < 0 else cut + 1
        yield block[start:end]
        start = end


# Times


def nanoseconds(times: Sequence[str]) -> array[int]:
    """Nanoseconds since the epoch of RFC 3339 times; 0 for a text that is none."""
    made: array[int] = array("q")
    for minute, run in _runs(times):
        read = list(_of_run(minute, run))
        try:
            made.extend(array("q", read))
        except OverflowError:  # a year beyond 2262
            made.extend(each if abs(each) < 1 << 63 else 0 for each in read)
    return made


def _of_run(minute: str, times: Sequence[str]) -> Iterable[int]:
    zone = _ZONE.search(times[0])
    if zone is not None:
        for read in (_of_one_minute, _of_one_offset):
            with suppress(ValueError, OverflowError, msgspec.DecodeError):
                return read(minute, times, zone[0])
    return map(_one, times)


def _runs(times: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Times that follow each other within one minute, and that minute; the rest under none, where there are many."""
    start, runs = 0, 0
    while start < len(times):
        runs += 1
        minute = times[start][:_MINUTE]
        end = bisect_right(times, minute + "~", start)
        if end == start or runs * LEAST_IN_MINUTE > len(times) + LEAST_IN_MINUTE:
            yield "", times[start:]
            return
        yield minute, times[start:end]
        start = end


def _of_one_minute(minute: str, times: Sequence[str], offset: str) -> list[int]:
    """The same for times of one minute; raises ValueError, msgspec.DecodeError for others.

    2026-11-20T16:54:32.5Z,2026-11-20T16:54:33.069525152Z      ──▶  [1325,133069525152]
    """
    together = ",".join(times) + ","
    if not minute or together.count(minute) != len(times):
        raise ValueError(minute)
    if offset != "Z" and together.count(offset + ",") != len(times):  # what else had no Z would not be a number below
        raise ValueError(offset)
    until = -len(offset)
    digits = ",1".join([time[_MINUTE:until] for time in times])
    parsed = msgspec.json.decode(f"[1{digits}]".encode().translate(None, b"."), type=list[int])
    if len(parsed) != len(times) or max(parsed) >= 2 * _WHOLE:
        raise ValueError(minute)
    begin = _Seconds(offset)[minute + "00"] + NANOSECONDS - _WHOLE
    return [begin + (each if each >= _WHOLE else each * _LEFT_OUT[len(str(each))]) for each in parsed]


def _of_one_offset(_minute: str, times: Sequence[str], offset: str) -> list[int]:
    """The same for any times with that offset from UTC; raises ValueError, msgspec.DecodeError for others."""
    until, together = -len(offset), ",".join(times) + ","
    if together.count(offset + ",") != len(times) or max(map(len, times)) > _FRACTION + _DIGITS + len(offset):
        raise ValueError(offset)
    digits = ",1".join([time[_FRACTION:until].ljust(_DIGITS, "0") for time in times])
    fractions = msgspec.json.decode(f"[1{digits}]", type=list[int])  # a third of the time that int() takes for each
    if len(fractions) != len(times):
        raise ValueError(digits)
    return list(map(add, map(_Seconds(offset).__getitem__, [time[:_SECOND] for time in times]), fractions))


class _Seconds(dict[str, int]):
    """Nanoseconds of whole seconds, less the digit that stands before the fraction."""

    def __init__(self, offset: str) -> None:
        super().__init__()
        self._offset = offset

    def __missing__(self, second: str) -> int:
        moment = datetime.fromisoformat(second + self._offset)
        if len(second) != _SECOND or moment.tzinfo is None:
            raise ValueError(second)
        self[second] = value = (timegm(moment.utctimetuple()) - 1) * NANOSECONDS
        return value


def _one(time: str) -> int:
    zone = _ZONE.search(time)
    if zone is not None:
        with suppress(ValueError, OverflowError, msgspec.DecodeError):
            return _of_one_offset("", [time], zone[0])[0]
    return 0
