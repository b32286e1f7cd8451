"""This file tells payment card numbers from other digits: length, issuer prefix and the Luhn check digit.

Source: ISO/IEC 7812-1 (structure; Luhn in annex B) and the issuers' published ranges. A random number of a fitting
length and prefix still passes one time in ten; clock times, counters and identifiers mostly begin with other digits.
"""

from __future__ import annotations

import re

ISSUER = re.compile(
    rb"4(?:.{12}|.{15}|.{18})\Z"  # Visa
    rb"|(?:5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)).{12,14}(?<=\A.{16})\Z"  # Mastercard
    rb"|3[47].{13}\Z"  # American Express
    rb"|3(?:0[0-5]|095|[689]).{11,17}\Z"  # Diners Club
    rb"|(?:6011|64[4-9]|65|62|35(?:2[89]|[3-8])).{12,17}\Z"  # Discover, UnionPay, JCB
    rb"|(?:50|5[6-8]|6[0379]).{14,17}\Z"  # Maestro
)
LENGTHS = range(13, 20)
LAYOUTS = frozenset({(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), (4, 3, 3, 3), (6, 13)})
"""How issuers group the digits. Any other grouping is numbers side by side: a counter and a clock, for instance."""

_GROUP = re.compile(rb"[0-9]+")
_FIRST_DIGITS = b"23456"
_PLAIN = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))


def luhn(digits: bytes) -> bool:
    """Whether the last of the ASCII ``digits`` is the check digit of the others."""
    return (sum(digits[-1::-2].translate(_PLAIN)) + sum(digits[-2::-2].translate(_DOUBLED))) % 10 == 0


def is_card(digits: bytes) -> bool:
    """Whether ASCII ``digits`` are a number that an issuer could have given out."""
    return len(digits) in LENGTHS and luhn(digits) and ISSUER.match(digits) is not None


def cards_in(run: bytes) -> list[tuple[int, int]]:
    """Start and end of each card number in ``run``, which is made of digits, spaces and dashes.

    A number is one group of digits, or several in one of LAYOUTS with a single space or dash between them. A letter may
    follow the run; then its last group is a part of some word.
    """
    groups = [found.span() for found in _GROUP.finditer(run)]
    if run[-1:].isalpha() or run.endswith(b"_"):
        groups.pop()
    found: list[tuple[int, int]] = []
    past = 0
    for first, (start, _) in enumerate(groups):
        if start >= past and run[start] in _FIRST_DIGITS and (end := _end_of_card(run, groups, first)):
            found.append((start, end))
            past = end
    return found


def _end_of_card(run: bytes, groups: list[tuple[int, int]], first: int) -> int:
    """Where the longest card number ends that begins with this group, or 0."""
    longest = 0
    sizes: tuple[int, ...] = ()
    begin = past = groups[first][0]
    for start, end in groups[first : first + 5]:
        sizes += (end - start,)
        if sum(sizes) > LENGTHS[-1] or start - past > 1:
            break
        past = end
        if (len(sizes) == 1 or sizes in LAYOUTS) and is_card(run[begin:end].translate(None, b" -")):
            longest = end
    return longest
