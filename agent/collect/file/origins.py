"""This file finds out which file a compressed one was made of, among those that are followed, gone, or compressed.

The beginning and the bytes right before the offset tell. Where several are in it, names and times choose: one that lies
beside it under its name, one of which more than the name is known, one that was last written to when it was, one of
whose rotations it has the name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agent.collect.file.archive import ARCHIVE, Archive, Claim
from agent.collect.file.identity import Fingerprint
from agent.collect.file.names import rotated_names
from agent.collect.file.rests import is_unread
from agent.collect.file.tail import Tail

if TYPE_CHECKING:
    from agent.collect.file.finished import Finished
    from agent.collect.file.follow import Followed

MOST_CLAIMS = 64
"""Most files that begin alike which one compressed file is compared with."""


def known_files(followed: Followed, finished: Finished, others: Iterable[Archive]) -> Iterator[Claim]:
    """Every file whose position is known: followed, gone, compressed and read, or compressed and being read."""
    yield from (Claim(tail.key, tail.cursor(), tail) for tail in followed.tails.values())
    yield from (Claim(key, cursor) for _, key, cursor in followed.absent if not is_unread(cursor))
    yield from (Claim(key, cursor) for key, cursor in finished)
    yield from (Claim(other.key, other.cursor(), other) for other in others if other.settled and other.offset)


def alike(archive: Archive, known: Iterable[Claim]) -> list[Claim]:
    """Those of ``known`` that begin as it does, by rising offset, and those by their name that are still to be read.

    Raises OSError, Unpackable, Unfinished.
    """
    head, digests = archive.head(), dict[int, Fingerprint]()

    def begins(claim: Claim) -> bool:
        prefix = claim.cursor.prefix
        if prefix.length not in digests:
            digests[prefix.length] = Fingerprint.of(head[: prefix.length])
        if not claim.cursor.offset:
            return _may_become(claim.tail, archive) and digests[prefix.length] == prefix
        return prefix.length > 0 and digests[prefix.length] == prefix

    found = sorted(filter(begins, known), key=lambda claim: _likeness(archive, claim))
    return sorted(found[:MOST_CLAIMS], key=lambda claim: claim.cursor.offset)


def likeliest(archive: Archive) -> Claim | None:
    """The one it was made of, of those that are in it."""
    return min(archive.fitting, key=lambda claim: _likeness(archive, claim), default=None)


def compared(archive: Archive) -> bool:
    """Compares one claim after the other; False while there is more to unpack. Raises as ``Archive.approach`` does."""
    while archive.claims:
        cursor = archive.claims[0].cursor
        as_it_was = cursor.offset > 0 and cursor.mtime_ns == archive.packed[1] and archive.holds_no_more(cursor)
        if not as_it_was and not archive.approach(cursor.offset):
            return False
        if as_it_was or archive.fits(cursor):
            archive.fitting.append(archive.claims[0])
        del archive.claims[0]
    return True


def stem_of(archive: Archive) -> str:
    """Its name without what says how it is packed."""
    return os.path.splitext(archive.shown)[0]


def _may_become(tail: Tail | None, archive: Archive) -> bool:
    """Whether a file of which nothing was read yet may be what was compressed, by names and times."""
    if tail is None or tail.error or not tail.size:
        return False
    stem = stem_of(archive)
    not_younger = tail.mtime_ns <= archive.packed[1]
    return tail.where == stem or (not_younger and any(rotated_names([stem], {tail.path})))


def _likeness(archive: Archive, claim: Claim) -> tuple[bool, bool, bool, bool, bool, int, int]:
    """The smallest is the likeliest."""
    stem, cursor, tail = stem_of(archive), claim.cursor, claim.tail
    beside = tail is not None and tail.where == stem
    rotated = any(rotated_names([stem], {cursor.path}))
    named = cursor.path.startswith(archive.shown.partition(".")[0])
    return (
        not beside,
        not cursor.offset,
        claim.key.startswith(ARCHIVE),
        cursor.mtime_ns != archive.packed[1],
        not (rotated or named),
        -cursor.offset,
        -cursor.mtime_ns,
    )
