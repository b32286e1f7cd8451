"""This file reads times as logs write them, a column of them at a time.

    iso     2026-11-20T16:40:01.123456Z · 2026-11-20 16:40:01,123 +0100 · 2026/11/20 16:40:01 (Go, nginx) · … CET
    clf     20/Nov/2026:16:40:01 +0000
    syslog  Nov 20 16:40:01 · Nov  2 16:40:01.123                            RFC 3164: the year is missing
    ctime   Fri Nov 20 16:40:01.123456 2026
    klog    1120 16:40:01.123456                                             the year is missing
    epoch   1795193601 · 1795193601.123 · 1795193601123 · … µs · … ns

            └── second ──┘└ fraction ┘└ zone or year ┘

Times of one log look alike, and those of one minute begin alike: that part is read once (agent/wire/minutes.py), and
seconds and fractions of many by arithmetic on their columns. Only what does not look like the first of its length is
read on its own.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import compress, repeat
from operator import add, eq, itemgetter, mul
from typing import Any, Final, Literal

from agent.wire.digits import LANE_BYTES, MOST, everywhere, lanes, numbers
from agent.wire.format import Moment
from agent.wire.minutes import UNKNOWN_BELOW, Seconds, seconds_of, text_of

Layout = Literal["iso", "clf", "syslog", "ctime", "klog", "epoch"]
Texts = Sequence[bytes] | Sequence[str]

PATTERNS: Final[dict[Layout, bytes]] = {
    "iso": rb"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z| ?[+-]\d\d(?::?\d\d)?| [A-Z]{3,4}\b)?",
    "clf": rb"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}",
    "syslog": rb"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?",
    "ctime": rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})? \d{4}",
    "klog": rb"\d{4} \d\d:\d\d:\d\d\.\d{1,9}",
    "epoch": rb"\d{9,19}(?:\.\d{1,9})?",
}
"""Expressions for such times, without groups, for the formats to build theirs of."""

_LOWER: Final = rb"|\d{4}-\d\d-\d\dt\d\d:\d\d:\d\d(?:\.\d{1,9})?z"  # RFC 3339, section 5.6, allows it
_ANY: Final = re.compile(
    b"|".join(b"(?P<%s>%s%s)" % (name.encode(), PATTERNS[name], _LOWER if name == "iso" else b"") for name in PATTERNS)
)

NANOSECONDS: Final = 1_000_000_000
LONGEST: Final = 64
BULK: Final = 32
"""Of so many texts the way by columns is shorter."""
_SIZES: Final = ((0, 9e9, NANOSECONDS), (9e9, 9e12, 1_000_000), (9e12, 9e15, 1_000), (9e15, 9e18, 1))
"""Numbers from the first and below the second are to be multiplied with the third."""

_DIGITS: Final = {9: NANOSECONDS, 10: NANOSECONDS, 13: 1_000_000, 16: 1_000, 19: 1}
"""The same by how many digits there are."""

_HEAD: Final[dict[Layout, int]] = {"iso": 19, "clf": 20, "syslog": 15, "ctime": 19, "klog": 13}
"""How many characters there are to the end of the seconds."""

_REST: Final = re.compile(
    r"(?:[.,](?P<fraction>\d{1,9})\d*)?(?P<tail> ?(?:[Zz]|[+-]\d\d(?::?\d\d)?|[A-Z]{3,5}| \d{4}|\d{4})?)", re.A
)
_NUMBER: Final = re.compile(r"-?\d{1,19}(?:\.\d{0,12})?", re.A)


def times_of(texts: Texts, layout: Layout, moment: Moment) -> array[int]:
    """The time of each text in nanoseconds since the epoch; 0 for an empty text and for what is no such time."""
    lengths = list(map(len, texts))
    kinds = set(lengths)
    if len(kinds) == 1:
        return _alike(texts, kinds.pop(), layout, moment)
    found: dict[int, int] = {}
    for length in kinds:
        chosen = list(map(eq, lengths, repeat(length)))
        some: Any = list(compress(texts, chosen))
        found.update(zip(compress(range(len(texts)), chosen), _alike(some, length, layout, moment), strict=True))
    return array("q", map(found.__getitem__, range(len(texts))))


def time_of(text: bytes | str, layout: Layout, moment: Moment) -> int:
    """The time of one text in nanoseconds since the epoch; 0 for what is no such time."""
    texts: Any = [text]
    return times_of(texts, layout, moment)[0]


def layout_of(text: bytes | str) -> Layout | None:
    """How that time is written, None where it is no time that is known."""
    found = _ANY.fullmatch(text if isinstance(text, bytes) else text.encode(errors="replace"))
    return None if found is None else found.lastgroup  # type: ignore[return-value]  # its groups are the layouts


def epochs_of(values: Sequence[int] | Sequence[float]) -> array[int]:
    """Nanoseconds of numbers that count seconds, milli-, micro- or nanoseconds since the epoch, told by their size."""
    least = min(compress(values, values), default=0)
    if least > 0:
        most = max(values)
        for below, bound, factor in _SIZES:
            if below <= least and most < bound:
                return _scaled(values, factor)
    return array("q", map(epoch_ns, values))


def _scaled(values: Sequence[int] | Sequence[float], factor: int) -> array[int]:
    if set(map(type, values)) == {int}:
        return array("q", map(mul, values, repeat(factor)))
    if factor == NANOSECONDS:  # a float of today holds microseconds of seconds, and no more
        return array("q", map(mul, map(round, map(mul, values, repeat(1e6))), repeat(1000)))
    return array("q", map(round, map(mul, values, repeat(factor))))


def epoch_ns(value: float) -> int:
    """Nanoseconds of one such number, 0 where it is none that can be."""
    factor = next((factor for below, bound, factor in _SIZES if below <= abs(value) < bound), 0)
    return _scaled([value], factor)[0] if factor else 0


def _alike(texts: Texts, length: int, layout: Layout, moment: Moment) -> array[int]:
    """The times of texts that are equally long."""
    if not 0 < length <= LONGEST:
        return array("q", bytes(8 * len(texts)))
    try:
        return _epochs(texts) if layout == "epoch" else _in_columns(texts, length, layout, moment)
    except (ValueError, OverflowError):
        return _known(array("q", map(_alone(layout, moment), texts)))


def _known(times: array[int]) -> array[int]:
    """The times with 0 for those that could not be told."""
    if min(times, default=0) < UNKNOWN_BELOW:
        return array("q", (0 if time_ns < UNKNOWN_BELOW else time_ns for time_ns in times))
    return times


def times_together(together: bytes, length: int, width: int, layout: Layout, moment: Moment) -> array[int]:
    """The same of texts that are all so long, one at the beginning of every ``width`` bytes."""
    cut = _cut(length, width)
    try:
        if not BULK * width <= len(together) <= MOST * width:
            raise ValueError
        head, digits, seconds = _seen_alike(together, length, width, layout, moment)
        return _in_bulk(together, width, head, digits, seconds, cut)
    except (ValueError, OverflowError):
        return _alike(cut(together), length, layout, moment)


@lru_cache(64)
def _cut(length: int, width: int) -> Callable[[bytes], list[bytes]]:
    return re.compile(b"(?s)(.{%d}).{%d}" % (length, width - length)).findall


def _in_columns(texts: Texts, length: int, layout: Layout, moment: Moment) -> array[int]:
    """The same; raises ValueError where they do not look alike."""
    together = _together(texts)
    head, digits, seconds = _seen_alike(together, length, length, layout, moment)
    if BULK <= len(texts) <= MOST:
        return _in_bulk(together, length, head, digits, seconds, lambda _: texts)
    starts = map(seconds.__getitem__, map(itemgetter(slice(0, head)), texts))
    if not digits:
        return _known(array("q", starts))
    return _known(array("q", map(add, starts, _fractions(texts, together, head + 1, digits))))


def _seen_alike(together: bytes, length: int, width: int, layout: Layout, moment: Moment) -> tuple[int, int, Seconds]:
    """Where their seconds end, how many digits of a fraction follow, and what their seconds mean.

    Raises ValueError unless all have the same zone, and the same character before a fraction.
    """
    head = _HEAD[layout]
    rest = _REST.fullmatch(text_of(together[head:length]))
    if rest is None:
        raise ValueError
    tail, fraction = rest["tail"], rest["fraction"] or ""
    for at in range(length - len(tail), length):
        _same(together[at::width])
    if fraction:
        _same(together[head::width])
    return head, len(fraction), seconds_of(layout, tail, moment)


def _in_bulk(
    together: bytes, width: int, head: int, digits: int, seconds: Seconds, cut: Callable[[bytes], Texts]
) -> array[int]:
    """The same of many texts: seconds and fraction of all of them by arithmetic on columns."""
    count = len(together) // width
    places = [head - 2, head - 1, *range(head + 1, head + 1 + digits)]
    columns = [together[place::width] for place in places]
    if not all(map(bytes.isdigit, columns)) or max(columns[0]) > ord("5"):
        raise ValueError
    whole = lanes(columns[:LANE_BYTES]) * 10 ** max(9 - digits, 3)
    if digits > 6:
        whole += lanes(columns[LANE_BYTES:]) * 10 ** (9 - digits)
    if all(_is_same(together[at::width]) for at in range(head - 4, -1, -1)):
        start_ns = seconds.start_ns(together[: head - 2])
        if start_ns < 0:
            raise ValueError
        return numbers(whole + everywhere(start_ns, count), count)
    minutes = map(itemgetter(slice(0, head - 2)), cut(together))
    return _known(array("q", map(add, map(_Minutes(seconds).__getitem__, minutes), numbers(whole, count))))


class _Minutes(dict[Any, int]):
    """Nanoseconds of the minute that a text says, by the text."""

    def __init__(self, seconds: Seconds) -> None:
        self.seconds = seconds

    def __missing__(self, text: Any) -> int:
        start_ns = self[text] = self.seconds.start_ns(text)
        return start_ns


def _together(texts: Texts) -> bytes:
    """One text behind the other: what they have at one place is then a slice with their length as its step.

    Raises ValueError for characters beyond ASCII, which are in no time.
    """
    if isinstance(texts[0], str):
        return "".join(texts).encode("ascii")  # type: ignore[arg-type]  # all are of one type
    return b"".join(texts)  # type: ignore[arg-type]


def _same(column: bytes) -> None:
    """Raises ValueError unless all texts have the same character there."""
    if not _is_same(column):
        raise ValueError


def _is_same(column: bytes) -> bool:
    return column == column[:1] * len(column)


def _fractions(texts: Texts, together: bytes, at: int, digits: int) -> Iterable[int]:
    """The nanoseconds of so many digits. Raises ValueError where something else is among them."""
    return map(mul, _numbers(texts, together, at, digits), repeat(10 ** (9 - digits)))


def _numbers(texts: Texts, together: bytes, at: int, digits: int) -> Iterable[int]:
    """So many digits at one place of each text. Raises ValueError where something else is among them."""
    length = len(texts[0])
    if not all(together[place::length].isdigit() for place in range(at, at + digits)):
        raise ValueError
    return map(int, map(itemgetter(slice(at, at + digits)), texts))


def _epochs(texts: Texts) -> array[int]:
    """Numbers of equal length. Raises ValueError where they are not of one kind."""
    first = text_of(texts[0])
    whole, point, fraction = first.partition(".")
    factor = _DIGITS.get(len(whole), 0)
    if not factor or (point and (len(whole) > 10 or not 0 < len(fraction) <= 9)):
        raise ValueError
    together = _together(texts)
    times = map(mul, _numbers(texts, together, 0, len(whole)), repeat(factor))
    if not point:
        return array("q", times)
    _same(together[len(whole) :: len(first)])
    return array("q", map(add, times, _fractions(texts, together, len(whole) + 1, len(fraction))))


def _alone(layout: Layout, moment: Moment) -> Callable[[Any], int]:
    """Reads one text at a time."""
    if layout == "epoch":
        return _epoch_alone
    head = _HEAD[layout]

    def read(text: bytes | str) -> int:
        shown = text_of(text)
        rest = _REST.fullmatch(shown[head:])
        if rest is None:
            return 0
        return seconds_of(layout, rest["tail"], moment)[shown[:head]] + int((rest["fraction"] or "0").ljust(9, "0"))

    return read


def _epoch_alone(text: bytes | str) -> int:
    shown = text_of(text)
    if _NUMBER.fullmatch(shown) is None:
        return 0
    whole, _, fraction = shown.partition(".")
    return epoch_ns(float(shown) if fraction else int(whole))
