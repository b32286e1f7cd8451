"""This file reads the part of a time that many share: its date, hour and minute, in its zone.

    2026-11-20T16:40: · 20/Nov/2026:16:40: · Nov 20 16:40: · Fri Nov 20 16:40: · 1120 16:40:

A year that is missing is the last in which that moment is not more than a day ahead. Of the hour that comes twice when
summer ends, the one nearer to now is taken; in the one that is left out when it begins, clocks are read as before.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agent.wire.format import Moment
    from agent.wire.timestamps import Layout

NANOSECONDS: Final = 1_000_000_000
MOST_AHEAD: Final = timedelta(days=1)
UNKNOWN: Final = -9 * NANOSECONDS * NANOSECONDS
UNKNOWN_BELOW: Final = -8 * NANOSECONDS * NANOSECONDS
"""The first stands for no time, and so does whatever is below the second."""

MOST_NS: Final = -UNKNOWN_BELOW
"""Times are known from the year 1717 to 2223."""

_NAMES: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS: Final = {name: number for number, name in enumerate(_NAMES, 1)}
_MINUTES: Final[dict[Layout, re.Pattern[str]]] = {
    "iso": re.compile(r"(?P<y>\d{4})[-/](?P<m>\d\d)[-/](?P<d>\d\d)[T t](?P<H>\d\d):(?P<M>\d\d):", re.A),
    "clf": re.compile(r"(?P<d>\d\d)/(?P<b>[A-Z][a-z]{2})/(?P<y>\d{4}):(?P<H>\d\d):(?P<M>\d\d):", re.A),
    "syslog": re.compile(r"(?P<b>[A-Z][a-z]{2}) (?P<d>[ \d]\d) (?P<H>\d\d):(?P<M>\d\d):", re.A),
    "ctime": re.compile(r"[A-Z][a-z]{2} (?P<b>[A-Z][a-z]{2}) (?P<d>[ \d]\d) (?P<H>\d\d):(?P<M>\d\d):", re.A),
    "klog": re.compile(r"(?P<m>\d\d)(?P<d>\d\d) (?P<H>\d\d):(?P<M>\d\d):", re.A),
}
"""What stands before the seconds."""

_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)?", re.A)


class Seconds(dict[Any, int]):
    """Nanoseconds of the second that a text says, by the text."""

    def __init__(self, layout: Layout, zone: tzinfo | None, year: int, now_ns: int) -> None:
        self.pattern = _MINUTES[layout]
        self.zone = zone
        self.year = year
        self.now = datetime.fromtimestamp(now_ns // NANOSECONDS, UTC)
        self.minutes: dict[Any, int] = {}

    def __missing__(self, text: Any) -> int:
        start_ns, second = self.start_ns(text[:-2]), text_of(text[-2:])
        known = start_ns > UNKNOWN_BELOW and second.isdecimal() and second.isascii() and second < "61"
        time_ns = self[text] = start_ns + int(second) * NANOSECONDS if known else UNKNOWN
        return time_ns

    def start_ns(self, minute: Any) -> int:
        """Nanoseconds of the minute that a text says, read once."""
        start_ns = self.minutes.get(minute)
        if start_ns is None:
            start_ns = self.minutes[minute] = self.minute_ns(text_of(minute))
        return start_ns

    def minute_ns(self, text: str) -> int:
        """Nanoseconds of the minute that a text says, without its seconds."""
        found = self.pattern.fullmatch(text)
        if found is None:
            return UNKNOWN
        parts = found.groupdict()
        month = _MONTHS.get(parts["b"], 0) if "b" in parts else int(parts["m"])
        rest = (month, int(parts["d"]), int(parts["H"]), int(parts["M"]))
        when = self.at(int(parts["y"]), *rest) if "y" in parts else self.guessed(*rest)
        start_ns = UNKNOWN if when is None else _epoch_minutes(when) * 60 * NANOSECONDS
        return start_ns if -MOST_NS < start_ns < MOST_NS else UNKNOWN

    def guessed(self, *rest: int) -> datetime | None:
        """The last such moment that is not more than a day ahead."""
        if self.year:
            return self.at(self.year, *rest)
        for year in range(self.now.year + 1, self.now.year - 9, -1):
            when = self.at(year, *rest)
            if when is not None and when - self.now <= MOST_AHEAD:
                return when
        return None

    def at(self, year: int, month: int, day: int, hour: int, minute: int) -> datetime | None:
        """A moment in the zone. Of the two that an hour set back makes of one text, the one nearer to now."""
        try:
            when = datetime(year, month, day, hour, minute, tzinfo=self.zone).astimezone(UTC)
            again = when
            if not isinstance(self.zone, timezone):
                again = datetime(year, month, day, hour, minute, fold=1, tzinfo=self.zone).astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        return min(when, again, key=lambda each: abs(each - self.now)) if again > when else when


def _epoch_minutes(when: datetime) -> int:
    return (when.toordinal() - 719_163) * 1440 + when.hour * 60 + when.minute


def seconds_of(layout: Layout, tail: str, moment: Moment) -> Seconds:
    """A fresh table for times that end in ``tail``: nobody has to bound it, and now is now."""
    if tail[-4:].isdecimal() and tail[0] == " " and "+" not in tail and "-" not in tail:
        return Seconds(layout, moment.zone, int(tail), moment.now_ns)
    return Seconds(layout, _zone(tail.strip()) or moment.zone, 0, moment.now_ns)


@lru_cache(64)
def _zone(tail: str) -> tzinfo | None:
    """The zone that stands behind a time; None for none, and for an abbreviation that several zones share."""
    if tail in ("Z", "z", "UTC", "GMT", "+00:00", "+0000"):
        return UTC
    found = _OFFSET.fullmatch(tail)
    if found is None:
        return None
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return timezone(ahead if found[1] == "+" else -ahead) if ahead < timedelta(hours=24) else None


def text_of(value: bytes | str) -> str:
    """The same as text, byte for character."""
    return value if isinstance(value, str) else value.decode("latin-1")
