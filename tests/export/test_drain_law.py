"""The law of one lane, for any sequence of answers: every record is delivered, rejected, dropped or still waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Batch
from agent.contract import Receipt, Rejection
from agent.errors import Hold, Reject, Retry, TooLarge
from agent.export.drain import PROBE_SECONDS, Parcel
from tests.export.lane_fakes import Backend, Lane, Shelf, lane, logs, texts

KINDS = (
    "accept",
    "busy",
    "asked",
    "unseen",
    "late",
    "fault",
    "cancel",
    "hold",
    "large",
    "refuse",
    "some",
    "final",
    "batch",
)


@dataclass
class World:
    """A backend that stores what it accepts, also where nobody sees its answer, and never takes poison.

    What a held lane probes with is kept apart: it is sent ahead of its turn, and again in its turn.
    """

    poison: frozenset[str]
    named: bool
    limit: int

    def __post_init__(self) -> None:
        self.stored: list[str] = []
        self.probed: list[str] = []
        self.held: Any = lambda: False
        self.receipt_rejected = 0

    def answering(self, kind: str) -> Any:
        """The answer of this kind to whatever is sent."""

        def answer(batches: Sequence[Batch]) -> Any:
            if kind in ("final", "batch"):
                return self._refuse_at_once(kind, len(batches), texts(batches))
            return self._answer(kind, texts(batches))

        return answer

    def _refuse_at_once(self, kind: str, batches: int, sent: list[str]) -> BaseException | Receipt:
        """An answer about a whole request, or about a whole batch where that was sent alone."""
        if {*sent} & {*self.stored, *self.probed}:
            return self._answer("accept", sent)
        if kind == "final":
            self.poison |= set(sent)
            return Reject("bad", blames_records=True, reach="request")
        if batches == 1:
            self.poison |= set(sent)
        return Reject("bad", blames_records=True, reach="batch")

    def _answer(self, kind: str, sent: list[str]) -> BaseException | Receipt:
        if kind in ("unseen", "late"):  # it arrived, or it did not; the answer was lost either way
            stored = self.probed if self.held() else self.stored
            stored += [text for text in sent if text not in self.poison] if kind == "late" else []
            return Retry("timeout", answered=False)
        if kind in ("large", "refuse") and len(sent) == 1:  # one is refused alone for good, or never
            if {*sent} & {*self.stored, *self.probed}:
                return self._answer("accept", sent)
            self.poison |= set(sent)
        refusals: dict[str, Any] = {
            "busy": lambda: Retry("busy"),
            "asked": lambda: Retry("busy", after_seconds=40),
            "fault": lambda: ValueError("x"),
            "cancel": lambda: TimeoutError("x"),
            "hold": lambda: Hold("unauthorized"),
            "large": lambda: TooLarge("too_large"),
            "refuse": lambda: Reject("bad_request"),
        }
        return refusals[kind]() if kind in refusals else self._judged(kind, sent)  # type: ignore[no-any-return]

    def _judged(self, kind: str, sent: list[str]) -> BaseException | Receipt:
        if len(sent) > self.limit:
            return TooLarge("too_large")
        if self.poison & set(sent):
            return Reject("bad", poison=self._named if self.named else None, blames_records=True)
        (self.probed if self.held() else self.stored).extend(sent)
        if kind == "some":
            self.receipt_rejected += 1
            return Receipt((Rejection("old", 1),))
        return Receipt()

    def _named(self, batch: Batch) -> list[int]:
        return [i for i, text in enumerate(texts([batch])) if text in self.poison]


def unchanged_order(records: list[str], stored: list[str]) -> bool:
    """Whether the first arrivals of all records are in the order in which they were read."""
    first = {text: i for i, text in reversed(list(enumerate(stored)))}
    places = [first[text] for text in records if text in first]
    return places == sorted(places)


async def until_empty(running: Lane) -> None:
    """Lets time pass until everything is decided; a lane that never gets there fails here."""
    for _ in range(60):
        if len(running.shelf.acked) == len(running.shelf.parcels):
            return
        await running.clock.advance(PROBE_SECONDS)
    raise AssertionError(f"not everything was decided: {running.state}")


@given(data=st.data())
@settings(max_examples=150)
async def test_whatever_is_answered_every_record_is_accounted_for_and_in_order(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=12), "records of each batch")
    damaged = data.draw(st.sets(st.integers(0, len(sizes) - 1)), "damaged batches")
    healed = data.draw(st.integers(0, 8), "records that a source still has")
    kinds = data.draw(st.lists(st.sampled_from(KINDS), max_size=25), "answers")
    late = data.draw(st.integers(0, len(sizes)), "batches that arrive later")
    records = [[f"{place}.{i}" for i in range(size)] for place, size in enumerate(sizes)]
    intact = [text for place, batch in enumerate(records) if place not in damaged for text in batch]
    poison = frozenset(data.draw(st.sets(st.sampled_from(intact), max_size=4), "poison") if intact else [])
    world = World(poison, data.draw(st.booleans(), "names poison"), data.draw(st.integers(1, 20), "records a request"))

    async def heal(parcel: Parcel) -> Batch | None:
        return logs(*records[parcel.id - 1][:healed]) if healed else None

    parcels = [
        Parcel(place + 1, "file", len(batch), None if place in damaged else logs(*batch))
        for place, batch in enumerate(records)
    ]
    shelf, backend = Shelf(*parcels[: len(parcels) - late]), Backend(*map(world.answering, kinds))
    backend.always = world.answering("accept")
    async with lane(
        shelf, backend, heal=heal, settled=False, request_bytes=data.draw(st.integers(1, 60), "request")
    ) as running:
        world.held = lambda: running.state.doing == "held"
        for parcel in parcels[len(parcels) - late :]:
            shelf.put(parcel)
            await running.clock.advance(data.draw(st.sampled_from((0, 1, 40))))
        await until_empty(running)

    totals = shelf.totals()
    assert sum(totals.values()) == sum(sizes), "read = delivered + rejected + dropped"
    assert set(world.probed) <= set(world.stored), "a probe stands for nothing: its record is sent again in its turn"
    lost = sum(max(0, len(records[place]) - healed) for place in damaged)
    assert totals["dropped"] == lost
    quarantined = [text for group, _ in shelf.quarantined for text in group]
    assert len(quarantined) == len(set(quarantined)), "one record was quarantined twice"
    assert world.poison == set(quarantined)
    readable = [text for place, batch in enumerate(records) for text in (batch[:healed] if place in damaged else batch)]
    assert set(world.stored) | set(quarantined) == set(readable), "a record that is not stored is quarantined"
    assert unchanged_order(readable, world.stored)
    # A receipt says how many it refused and not which; those are the only ones both stored here and not delivered.
    assert len(quarantined) <= totals["rejected"] <= len(quarantined) + world.receipt_rejected
    assert totals["delivered"] <= len(set(world.stored))


@given(kinds=st.lists(st.sampled_from(KINDS), max_size=12), turns=st.integers(0, 200), limit=st.integers(1, 9))
@settings(max_examples=100)
async def test_cut_off_anywhere_nothing_is_acknowledged_that_was_not_decided(
    kinds: list[str], turns: int, limit: int
) -> None:
    world = World(frozenset({"1.1"}), named=False, limit=limit)
    records = [[f"{place}.{i}" for i in range(3)] for place in range(4)]
    shelf = Shelf(*[logs(*batch) for batch in records])
    backend = Backend(*map(world.answering, kinds))
    backend.always = world.answering("accept")
    async with lane(shelf, backend, settled=False) as running:
        for _ in range(turns // 10):
            await running.clock.advance(1)
    quarantined = {text for group, _ in shelf.quarantined for text in group}
    for number, done in shelf.acked.items():
        decided = set(records[number - 1]) & (set(world.stored) | quarantined)
        assert decided == set(records[number - 1])
        assert sum(done.rejected.values()) <= 3
