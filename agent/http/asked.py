"""This file is a request of somebody else as plain values, and what its first line asks for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Asked(Struct, frozen=True):
    """One request. ``query`` is as it was sent; header names are in lower case; ``client`` is an address."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    client: str


def path_and_query(target: bytes) -> tuple[str, str]:
    """The path, decoded, and the query of a request's target (RFC 9112, section 3.2); raises ValueError.

    Of a whole URL, which a client sends to a proxy, where it leads to is looked at and let go of.
    """
    text = target.decode("ascii")
    if not text.startswith("/") and "://" in text:
        parts = urlsplit(text)
        _ = parts.port  # raises for one that is none
        text = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path, _, query = text.partition("?")
    return (unquote(path) if "%" in path else path), query.partition("#")[0]


def parameters(query: str) -> dict[str, str]:
    """The parameters of a query by name, the last of each; what is none is left out."""
    return dict(parse_qsl(query, keep_blank_values=True)) if query else {}


def combined(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; those given more than once as one list (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("ascii"), value.decode("utf-8", "replace")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def http_date(seconds: int) -> str:
    """A time, in seconds since the epoch, as RFC 9110, section 5.6.7, writes it. Names of days are not the locale's."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    name = "MonTueWedThuFriSatSun"[3 * weekday : 3 * weekday + 3]
    of_year = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * month - 3 : 3 * month]
    return f"{name}, {day:02} {of_year} {year} {hour:02}:{minute:02}:{second:02} GMT"
