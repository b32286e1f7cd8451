"""How one unit gets past a destination, in pieces where it must, and what becomes of each record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import Batch
from agent.contract import Receipt, Rejection
from agent.errors import Hold, Reject, Retry, TooLarge
from agent.export.delivery import Delivery, Fault, Outcome
from tests.export.lane_fakes import Backend, logs, texts


def never() -> bool:
    return False


async def delivered(backend: Backend, *batches: Batch, isolate: bool = False) -> Outcome:
    return await Delivery(backend.send, never, isolate=isolate).deliver(batches)


def at_most(records: int) -> Backend:
    """Takes requests of so many records."""
    backend = Backend()
    backend.always = lambda batches: TooLarge("too_large", "413") if len(texts(batches)) > records else None
    return backend


def refusing(*poison: str, blames: bool = True, names: int = 0) -> Backend:
    """Refuses every request that holds one of ``poison``, naming that many of them."""
    backend = Backend()

    def answer(batches: Sequence[Batch]) -> Reject | None:
        bad = [text for text in texts(batches) if text in poison][: names or None]
        if not bad:
            return None
        return Reject("bad", "400", poison=of(bad) if names else None, blames_records=blames)

    backend.always = answer
    return backend


def of(bad: Sequence[str]):  # type: ignore[no-untyped-def]  # what errors.Poison is
    return lambda batch: [i for i, text in enumerate(texts([batch])) if text in bad]


def rejected(outcome: Outcome) -> dict[int, dict[str, int]]:
    return {place: dict(reasons) for place, reasons in outcome.rejected.items()}


async def test_what_is_accepted_is_sent_once_and_whole() -> None:
    backend = Backend()
    outcome = await delivered(backend, logs("a", "b"), logs("c"))
    assert backend.asked == [["a", "b", "c"]]
    assert (rejected(outcome), outcome.refused, outcome.delivered_bytes) == ({}, [], 6)


async def test_batches_of_no_records_are_never_sent() -> None:
    backend = Backend()
    await delivered(backend, logs(), logs("a"), logs())
    await delivered(backend, logs())
    assert backend.asked == [["a"]]


async def test_what_is_too_large_is_sent_in_halves_in_the_order_it_had() -> None:
    backend = at_most(2)
    await delivered(backend, logs("a", "b", "c"), logs("d"), logs("e", "f", "g", "h"))
    assert backend.accepted == list("abcdefgh")


async def test_only_a_record_too_large_alone_is_rejected() -> None:
    backend = Backend()
    backend.always = lambda batches: TooLarge("too_large", "413") if any(len(t) > 3 for t in texts(batches)) else None
    outcome = await delivered(backend, logs("a", "large", "b"), logs("c"))
    assert backend.accepted == ["a", "b", "c"]
    assert rejected(outcome) == {0: {"too_large": 1}}
    assert [(texts([batch]), reason) for batch, reason, _ in outcome.refused] == [(["large"], "too_large")]


@pytest.mark.parametrize("names", [1, 2, 100])
async def test_only_the_records_an_answer_names_are_rejected(names: int) -> None:
    backend = refusing("x", "y", "z", names=names)
    outcome = await delivered(backend, logs("a", "x", "b"), logs("y"), logs("c", "z"))
    assert backend.accepted == ["a", "b", "c"]
    assert rejected(outcome) == {0: {"bad": 1}, 1: {"bad": 1}, 2: {"bad": 1}}


async def test_hundreds_of_answers_that_name_one_record_each_are_followed() -> None:
    poison = [f"x{i}" for i in range(400)]
    backend = refusing(*poison, names=1)
    outcome = await delivered(backend, logs(*poison, "a"))
    assert backend.accepted == ["a"]
    assert rejected(outcome) == {0: {"bad": 400}}


async def test_poison_that_no_answer_names_is_found_by_halving() -> None:
    backend = refusing("x")
    outcome = await delivered(backend, logs("a", "b", "c"), logs("d", "x", "e", "f"))
    assert backend.accepted == list("abcdef")
    assert rejected(outcome) == {1: {"bad": 1}}


@pytest.mark.parametrize(
    "poison",
    [lambda batch: 1 / 0, lambda batch: [], lambda batch: [7, -1]],
    ids=["fails", "names none", "names others"],
)
async def test_an_answer_that_makes_no_sense_of_the_records_halves_the_unit(poison: object) -> None:
    backend = Backend()
    backend.always = lambda batches: Reject("bad", poison=poison) if "x" in texts(batches) else None
    outcome = await delivered(backend, logs("a", "x", "b"))
    assert backend.accepted == ["a", "b"]
    assert rejected(outcome) == {0: {"bad": 1}}


async def test_a_record_named_twice_is_rejected_once() -> None:
    backend = Backend(Reject("bad", poison=lambda batch: [1, 1]))
    outcome = await delivered(backend, logs("a", "x"))
    assert rejected(outcome) == {0: {"bad": 1}}
    assert backend.accepted == ["a"]


async def test_what_a_receipt_rejects_is_taken_from_the_end_of_the_request() -> None:
    backend = Backend(Receipt((Rejection("old", 3, "too old"), Rejection("limit", 1))))
    outcome = await delivered(backend, logs("a", "b"), logs("c", "d"))
    assert rejected(outcome) == {1: {"old": 2}, 0: {"old": 1, "limit": 1}}
    assert outcome.details == {"old": "too old", "limit": ""}


async def test_a_receipt_cannot_reject_more_than_was_sent() -> None:
    backend = Backend(Receipt((Rejection("old", -2), Rejection("old", 99), Rejection("limit", 5))))
    assert rejected(await delivered(backend, logs("a", "b"))) == {0: {"old": 2}}


@pytest.mark.parametrize("refusal", [Retry("busy"), Hold("unauthorized")])
async def test_later_and_not_before_somebody_has_acted_leave_the_unit_undecided(refusal: Exception) -> None:
    with pytest.raises(type(refusal)):
        await delivered(Backend(refusal), logs("a"))


async def test_requests_refused_whole_are_held_when_that_is_said_to_be_enough() -> None:
    asked: list[bool] = []

    def enough() -> bool:
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(Hold, match="every request is refused: 400"):
        await Delivery(refusing(*"abcdefgh", blames=False).send, enough).deliver([logs(*"abcdefgh")])
    asked.clear()
    with pytest.raises(Hold, match="every request is refused: 413"):
        await Delivery(at_most(0).send, enough).deliver([logs(*"abcd")])


async def test_fault_found_with_the_records_themselves_never_leads_to_hold() -> None:
    outcome = await Delivery(refusing(*"abcd", blames=True).send, lambda: True).deliver([logs(*"abcd")])
    assert rejected(outcome) == {0: {"bad": 4}}


async def test_a_record_that_breaks_the_destinations_code_is_found_once_that_is_asked_for() -> None:
    backend = Backend()
    backend.always = lambda batches: Fault(KeyError("x")) if "x" in texts(batches) else None
    with pytest.raises(Fault):
        await delivered(backend, logs("a", "x", "b"))
    outcome = await delivered(backend, logs("a", "x", "b"), isolate=True)
    assert backend.accepted == ["a", "b"]
    assert rejected(outcome) == {0: {"failed": 1}}


async def test_a_fault_of_the_machine_is_never_blamed_on_a_record() -> None:
    backend = Backend()
    backend.always = Fault(TimeoutError())
    with pytest.raises(Fault):
        await delivered(backend, logs("a"), isolate=True)


@given(
    batches=st.lists(st.lists(st.sampled_from("abcxyz"), max_size=8), max_size=6),
    poison=st.sets(st.sampled_from("xyz")),
    names=st.integers(0, 3),
    most=st.integers(1, 9),
)
async def test_every_record_is_accepted_or_rejected_once_and_in_order(
    batches: list[list[str]], poison: set[str], names: int, most: int
) -> None:
    backend = refusing(*poison, names=names)
    judge = backend.always
    backend.always = lambda sent: TooLarge("too_large") if len(texts(sent)) > most else judge(sent)  # type: ignore[operator,misc]
    outcome = await delivered(backend, *[logs(*batch) for batch in batches])
    everything = [text for batch in batches for text in batch]
    assert backend.accepted == [text for text in everything if text not in poison]
    for place, batch in enumerate(batches):
        assert outcome.rejected.get(place, Counter())["bad"] == sum(text in poison for text in batch)
    refused = [text for batch, _, _ in outcome.refused for text in texts([batch])]
    assert sorted(refused) == sorted(text for text in everything if text in poison)
