"""This file gets one unit of batches past a destination, in pieces where it must, and says what became of each.

accepted            → delivered, except what the receipt names
TooLarge            → in halves; one record too large alone is rejected
Reject with poison  → the named records are rejected, the rest is sent again
Reject without      → in halves, until what is refused stands alone; that is rejected
Retry, Hold         → raised: nothing of the unit is decided yet, and all of it will be sent again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent.batch import Batch
from agent.contract import Receipt
from agent.errors import Hold, Refusal, Reject, TooLarge
from agent.wire.entries import Sendable, in_lines

Attempt = Callable[[Sequence[Sendable]], Awaitable[Receipt]]


@dataclass(slots=True)
class Outcome:
    """What became of a unit: rejected records by place of their batch, and the records themselves."""

    rejected: dict[int, Counter[str]] = field(default_factory=dict)
    refused: list[tuple[Batch, str, str]] = field(default_factory=list)
    delivered_bytes: int = 0

    def reject(self, place: int, reason: str, records: int) -> None:
        self.rejected.setdefault(place, Counter())[reason] += records


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch of the unit, or a part of one; ``place`` says which."""

    place: int
    batch: Sendable


class Delivery:
    """One unit on its way. ``refused_whole`` is asked after each such answer whether to hold instead of going on."""

    def __init__(self, attempt: Attempt, refused_whole: Callable[[], bool]) -> None:
        self._attempt = attempt
        self._refused_whole = refused_whole
        self.outcome = Outcome()

    async def deliver(self, batches: Sequence[Sendable]) -> Outcome:
        """Returns when every record is decided. Raises Retry or Hold."""
        await self._send([Piece(place, batch) for place, batch in enumerate(batches) if batch.count])
        return self.outcome

    async def _send(self, pieces: list[Piece]) -> None:
        if not pieces:
            return
        try:
            receipt = await self._attempt([piece.batch for piece in pieces])
        except TooLarge as refusal:
            await self._split(pieces, refusal)
        except Reject as refusal:
            await self._sort_out(pieces, refusal)
        else:
            self._accept(pieces, receipt)

    def _accept(self, pieces: list[Piece], receipt: Receipt) -> None:
        self.outcome.delivered_bytes += sum(piece.batch.size_bytes for piece in pieces)
        places = [piece.place for piece in pieces for _ in range(piece.batch.count)] if receipt.rejected else []
        for rejection in receipt.rejected:  # which ones is not said: the last of the request stand for them
            for _ in range(min(rejection.records, len(places))):
                self.outcome.reject(places.pop(), rejection.reason, 1)

    async def _sort_out(self, pieces: list[Piece], refusal: Reject) -> None:
        if refusal.poison is not None:
            clean = self._without_poison(pieces, refusal)
            if sum(piece.batch.count for piece in clean) < sum(piece.batch.count for piece in pieces):
                await self._send(clean)
                return
        if not refusal.blames_records and self._refused_whole():
            raise Hold(refusal.reason, f"every request is refused: {refusal.detail}")
        await self._split(pieces, refusal)

    def _without_poison(self, pieces: list[Piece], refusal: Reject) -> list[Piece]:
        clean = []
        for piece in pieces:
            batch = in_lines(piece.batch)
            bad = refusal.poison(batch) if refusal.poison else ()
            if bad:
                self._refuse(piece.place, batch.select(sorted(bad)), refusal)
                poison = set(bad)
                clean.append(Piece(piece.place, batch.select([i for i in range(batch.count) if i not in poison])))
            else:
                clean.append(piece)
        return [piece for piece in clean if piece.batch.count]

    async def _split(self, pieces: list[Piece], refusal: Refusal) -> None:
        if len(pieces) > 1:
            middle = len(pieces) // 2
            await self._send(pieces[:middle])
            await self._send(pieces[middle:])
            return
        (piece,) = pieces
        if piece.batch.count == 1:
            self._refuse(piece.place, in_lines(piece.batch), refusal)
            return
        middle = piece.batch.count // 2
        await self._send([Piece(piece.place, piece.batch.select(range(middle)))])
        await self._send([Piece(piece.place, piece.batch.select(range(middle, piece.batch.count)))])

    def _refuse(self, place: int, batch: Batch, refusal: Refusal) -> None:
        self.outcome.reject(place, refusal.reason, batch.count)
        self.outcome.refused.append((batch, refusal.reason, refusal.detail))
