"""This file gets one unit of batches past a destination, in pieces where it must, and says what became of each.

accepted            → delivered, except what the receipt names
TooLarge            → in halves; one record too large alone is rejected
Reject with poison  → the named records are rejected, the rest is sent again
Reject without      → in halves, until what is refused stands alone; that is rejected. An answer that is about a whole
                      batch or request (its reach) rejects that at once
Fault, time and     → as Reject without: one record that breaks a destination's code must not stop its lane for ever
time again
Retry, Hold         → raised: nothing of the unit is decided yet, and all of it will be sent again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

from msgspec import Struct, field

from agent.batch import Batch
from agent.contract import Receipt
from agent.errors import Hold, Refusal, Reject, Retry, TooLarge
from agent.wire.entries import Sendable, in_lines

Attempt = Callable[[Sequence[Sendable]], Awaitable[Receipt]]


class Fault(Retry):
    """The destination's own code failed: it raised what no destination may raise."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("failed", f"{type(error).__name__}: {error}", answered=False)
        self.records_fault = not isinstance(error, OSError)  # nor TimeoutError, which is one: not what was sent


class Outcome(Struct):
    """What became of a unit: rejected records by place of their batch, and the records themselves.

    Records that a receipt names as rejected are counted and not in ``refused``: which ones they are is not said.
    """

    rejected: dict[int, Counter[str]] = field(default_factory=dict)
    refused: list[tuple[Batch, str, str]] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    delivered_bytes: int = 0

    def reject(self, place: int, reason: str, records: int, detail: str = "") -> None:
        """Counts records as rejected; the first detail of a reason is kept."""
        self.rejected.setdefault(place, Counter())[reason] += records
        self.details.setdefault(reason, detail)


class Piece(Struct, frozen=True):
    """A batch of the unit, or a part of one; ``place`` says which."""

    place: int
    batch: Sendable


class Delivery:
    """One unit on its way. ``refused_whole`` is asked after each such answer whether to hold instead of going on.

    ``isolate`` says that the destination's code has failed on this unit before, again and again. ``accepted_any``
    says whether it has ever taken anything: what one that has not says of a whole request decides nothing.
    """

    def __init__(
        self,
        attempt: Attempt,
        refused_whole: Callable[[], bool],
        *,
        isolate: bool = False,
        accepted_any: Callable[[], bool] = lambda: True,
    ) -> None:
        self._attempt = attempt
        self._refused_whole = refused_whole
        self._isolate = isolate
        self._accepted_any = accepted_any
        self.outcome = Outcome()

    async def deliver(self, batches: Sequence[Sendable]) -> Outcome:
        """Returns when every record is decided. Raises Retry or Hold."""
        requests = [[Piece(place, batch) for place, batch in enumerate(batches) if batch.count]]
        while requests:
            if pieces := requests.pop():
                requests += reversed(await self._send(pieces))
        return self.outcome

    async def _send(self, pieces: list[Piece]) -> list[list[Piece]]:
        """One request; what has to be sent after it, in order."""
        try:
            receipt = await self._attempt([piece.batch for piece in pieces])
        except TooLarge as refusal:
            return self._too_large(pieces, refusal)
        except Reject as refusal:
            return self._sort_out(pieces, refusal)
        except Fault as fault:
            if not (self._isolate and fault.records_fault):
                raise
            return self._sort_out(pieces, Reject(fault.reason, fault.detail))
        self._accept(pieces, receipt)
        return []

    def _accept(self, pieces: list[Piece], receipt: Receipt) -> None:
        self.outcome.delivered_bytes += sum(piece.batch.size_bytes for piece in pieces)
        if not receipt.rejected:
            return
        left = {piece.place: 0 for piece in pieces}
        for piece in pieces:
            left[piece.place] += piece.batch.count
        for rejection in receipt.rejected:  # which ones is not said: the last of the request stand for them
            records = rejection.records
            for place in reversed(left):
                taken = min(max(records, 0), left[place])
                if taken:
                    self.outcome.reject(place, rejection.reason, taken, rejection.detail)
                left[place] -= taken
                records -= taken

    def _too_large(self, pieces: list[Piece], refusal: TooLarge) -> list[list[Piece]]:
        if sum(piece.batch.count for piece in pieces) == 1:
            self._hold_if_all_are_refused(refusal)  # a proxy that takes nothing must not empty the spool either
        return self._halves(pieces, refusal)

    def _sort_out(self, pieces: list[Piece], refusal: Reject) -> list[list[Piece]]:
        clean = self._without_poison(pieces, refusal)
        if clean is not None:
            return [clean]
        if not refusal.blames_records:
            if refusal.reach == "request" and not self._accepted_any():
                raise Hold(refusal.reason, f"the first request was refused: {refusal.detail}")
            self._hold_if_all_are_refused(refusal)
        if refusal.reach == "request" or (refusal.reach == "batch" and len(pieces) == 1):
            for piece in pieces:
                self._refuse(piece.place, piece.batch, refusal)
            return []
        return self._halves(pieces, refusal)

    def _hold_if_all_are_refused(self, refusal: Refusal) -> None:
        if self._refused_whole():
            raise Hold(refusal.reason, f"every request is refused: {refusal.detail}")

    def _without_poison(self, pieces: list[Piece], refusal: Reject) -> list[Piece] | None:
        """The pieces without the records that the answer named, which are rejected; None where it named none."""
        found = [(piece, _named(piece.batch, refusal)) for piece in pieces]
        if not any(poison for _, poison in found):
            return None
        clean = []
        for piece, poison in found:
            if poison:
                self._refuse(piece.place, piece.batch.select(sorted(poison)), refusal)
                keep = [i for i in range(piece.batch.count) if i not in poison]
                clean.append(Piece(piece.place, piece.batch.select(keep)))
            else:
                clean.append(piece)
        return [piece for piece in clean if piece.batch.count]

    def _halves(self, pieces: list[Piece], refusal: Refusal) -> list[list[Piece]]:
        if len(pieces) > 1:
            middle = len(pieces) // 2
            return [pieces[:middle], pieces[middle:]]
        (piece,) = pieces
        if piece.batch.count == 1:
            self._refuse(piece.place, piece.batch, refusal)
            return []
        middle = piece.batch.count // 2
        return [[part] for part in _parts(piece, (range(middle), range(middle, piece.batch.count)))]

    def _refuse(self, place: int, batch: Sendable, refusal: Refusal) -> None:
        self.outcome.reject(place, refusal.reason, batch.count, refusal.detail)
        self.outcome.refused.append((in_lines(batch), refusal.reason, refusal.detail))


def judged(batch: Sendable, refusal: Refusal) -> bool:
    """Whether the answer found fault with the records of ``batch``, which shows that it is them alone."""
    return isinstance(refusal, Reject) and (refusal.blames_records or bool(_named(batch, refusal)))


def _named(batch: Sendable, refusal: Reject) -> set[int]:
    """The records of ``batch`` that the answer named. One that cannot be made sense of named none."""
    if refusal.poison is None:
        return set()
    try:
        return {index for index in refusal.poison(in_lines(batch)) if 0 <= index < batch.count}
    except Exception:  # noqa: BLE001 - it reads what a server wrote; the unit is halved instead
        return set()


def _parts(piece: Piece, ranges: Iterable[Sequence[int]]) -> list[Piece]:
    return [Piece(piece.place, piece.batch.select(keep)) for keep in ranges]
