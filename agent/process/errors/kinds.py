"""This file is the kinds of errors there were: how often, since when, and an example of each.

There are at most so many. A new one takes the place of the one with the lowest rank, and its own rank begins behind it
(the space-saving rule of Metwally, Agrawal and El Abbadi, 2005), so that what is frequent stays whatever else comes.
What is told is never the rank but what was counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from msgspec import Struct
from msgspec.structs import replace

from agent.batch import Labels
from agent.process.own_records import common


class Kind(Struct, frozen=True, array_like=True, gc=False):
    """One kind of errors of one source."""

    fingerprint: str
    source: str
    template: str
    example: str
    labels: Labels
    first_ns: int
    last_ns: int
    count: int = 0
    rank: int = 0
    untold: int = 0


Key = tuple[str, str]
"""A source, and the template of its messages."""


class Kinds:
    """The kinds by source and template."""

    def __init__(self, most: int, known: Iterable[Kind] = ()) -> None:
        self._most = most
        self.by_key: dict[Key, Kind] = {(each.source, each.template): each for each in known}

    def counted(self, found: Iterable[Kind]) -> tuple[dict[Key, Kind], int]:
        """The kinds there are after these came, ``count`` of each, and how many records lost their place. Nothing
        changes."""
        kinds, gone = dict(self.by_key), 0
        ranks: list[tuple[int, int, Key]] = []
        for new in sorted(found, key=lambda each: -each.count):
            key = new.source, new.template
            before = kinds.get(key)
            if before is None:
                floor = 0
                if len(kinds) >= self._most:
                    ranks = ranks or _ranked(kinds)
                    rarest = _pop_rarest(kinds, ranks)
                    floor, gone = rarest.rank, gone + rarest.count
                kinds[key] = made = replace(new, rank=floor + new.count, untold=new.count)
                if ranks:
                    heappush(ranks, (made.rank, made.last_ns, key))
            else:
                kinds[key] = replace(
                    before,
                    labels=common(before.labels, new.labels),
                    last_ns=max(before.last_ns, new.last_ns),
                    count=before.count + new.count,
                    rank=before.rank + new.count,
                    untold=before.untold + new.count,
                )
        return kinds, gone

    def top(self, many: int) -> list[Kind]:
        """The most frequent, most first."""
        return sorted(self.by_key.values(), key=lambda each: (-each.count, each.first_ns, each.template))[:many]


def _ranked(kinds: dict[Key, Kind]) -> list[tuple[int, int, Key]]:
    ranks = [(each.rank, each.last_ns, key) for key, each in kinds.items()]
    heapify(ranks)
    return ranks


def _pop_rarest(kinds: dict[Key, Kind], ranks: list[tuple[int, int, Key]]) -> Kind:
    """Takes the kind of the lowest rank away; what rose since it was ranked is ranked again."""
    while True:
        rank, _, key = heappop(ranks)
        if kinds[key].rank == rank:
            return kinds.pop(key)
        heappush(ranks, (kinds[key].rank, kinds[key].last_ns, key))
