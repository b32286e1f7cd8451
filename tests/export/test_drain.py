"""What a lane does about each class of answer: what it sends, how long it waits, and what it acknowledges."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from agent.batch import Batch, Logs, Origin
from agent.contract import Receipt, Rejection
from agent.errors import Hold, Refusal, Reject, Retry, TooLarge
from agent.export.breaker import OPEN_SECONDS
from agent.export.drain import CAREFUL_AT_START, MOST_FAULTS, PROBE_SECONDS, Done, Parcel
from tests.export.lane_fakes import Backend, Shelf, hang, lane, logs, texts
from tests.fakes import settle


def retries(count: int, **options: Any) -> list[Retry]:
    return [Retry("busy", "503", **options) for _ in range(count)]


# Accepted


async def test_what_waits_is_sent_and_acknowledged_and_then_what_arrives() -> None:
    shelf = Shelf()
    async with lane(shelf, Backend()) as running:
        assert running.state.doing == "idle"
        shelf.put(logs("a", "b"))
        await settle()
        assert shelf.acked[1] == Done(shelf.parcels[0], {}, {})
        assert (running.state.doing, running.requests("accepted")) == ("idle", 1)
        assert running.meter.value("telemetry_agent_export_bytes_total", ("loki/logs",)) == 4


async def test_what_arrives_after_the_start_is_sent_together_up_to_the_size_of_a_request() -> None:
    shelf = Shelf()
    async with lane(shelf, Backend(), request_bytes=6) as running:
        for text in "abcde":
            shelf.put(logs(text))
        await settle()
        assert running.backend.asked == [["a", "b", "c"], ["d", "e"]]


async def test_what_may_have_been_sent_before_a_crash_goes_batch_by_batch() -> None:
    batches = [logs(str(i)) for i in range(CAREFUL_AT_START + 5)]
    async with lane(Shelf(*batches, first_id=1000), Backend()) as running:
        await settle(4 * CAREFUL_AT_START)
        sizes = [len(request) for request in running.backend.asked]
    assert sizes == [1] * (CAREFUL_AT_START + 1) + [4]
    assert running.backend.accepted == [str(i) for i in range(CAREFUL_AT_START + 5)]


async def test_nothing_is_acknowledged_before_it_is_confirmed() -> None:
    async with lane(Shelf(logs("a")), Backend(hang)) as running:
        assert running.backend.asked == [["a"]]
        assert running.shelf.acked == {}
        assert running.state.doing == "sending"


async def test_empty_batches_are_acknowledged_without_a_request() -> None:
    async with lane(Shelf(logs(), logs("a"), logs()), Backend()) as running:
        assert running.backend.asked == [["a"]]
        assert sorted(running.shelf.acked) == [1, 2, 3]
        assert running.shelf.totals() == {"delivered": 1, "rejected": 0, "dropped": 0}


async def test_a_receipt_that_names_rejected_records_is_counted_as_it_says() -> None:
    backend = Backend(Receipt((Rejection("old", 2, "too old"),)))
    async with lane(Shelf(logs("a", "b", "c")), backend) as running:
        assert running.shelf.acked[1].rejected == {"old": 2}
        assert running.shelf.quarantined == []


async def test_two_reasons_that_come_in_turn_are_said_once_each(caplog: pytest.LogCaptureFixture) -> None:
    receipts = [Receipt((Rejection(reason, 1, "x"),)) for reason in ("old", "long") * 4]
    async with lane(Shelf(*(logs("a", "b") for _ in receipts)), Backend(*receipts)) as running:
        assert running.shelf.totals()["rejected"] == 8
    said = [record.getMessage() for record in caplog.records if "refused for good" in record.getMessage()]
    assert said == [f"loki/logs: records refused for good ({reason}): x" for reason in ("old", "long")]


# Retry


async def test_a_failed_request_is_sent_again_after_a_jittered_delay_that_doubles() -> None:
    async with lane(Shelf(logs("a")), Backend(*retries(2)), jitter=0.8) as running:
        assert running.state.doing == "backoff"
        assert running.state.last_error == "busy: 503"
        for delay in (0.4, 0.8):
            asked = len(running.backend.asked)
            await running.clock.advance(delay - 0.02)
            assert len(running.backend.asked) == asked
            await running.clock.advance(0.03)
            assert len(running.backend.asked) == asked + 1
        assert running.shelf.totals()["delivered"] == 1
        assert running.state.last_error is None
        assert (running.requests("retry"), running.requests("accepted")) == (2, 1)


@pytest.mark.parametrize(("asked_seconds", "waits_seconds"), [(60, 60), (4000, 300)])
async def test_retry_after_is_honoured_up_to_five_minutes(asked_seconds: float, waits_seconds: float) -> None:
    async with lane(Shelf(logs("a")), Backend(*retries(1, after_seconds=asked_seconds))) as running:
        await running.clock.advance(waits_seconds - 0.1)
        assert len(running.backend.asked) == 1
        await running.clock.advance(0.2)
        assert running.shelf.totals()["delivered"] == 1


async def test_the_half_open_probe_does_not_wait_for_retry_after() -> None:
    backend = Backend(*retries(2), *retries(1, after_seconds=300))
    async with lane(Shelf(logs("a")), backend, jitter=0.0) as running:
        await running.clock.advance(0)
        assert (running.state.doing, running.state.breaker.state) == ("open", "open")
        await running.clock.advance(OPEN_SECONDS + 0.1)
        assert running.state.breaker.state == "closed"
        assert running.shelf.totals()["delivered"] == 1


async def test_after_an_answer_that_was_not_seen_that_range_goes_batch_by_batch_and_never_with_newer_ones() -> None:
    shelf = Shelf()
    backend = Backend(Retry("timeout", answered=False), *retries(1))
    async with lane(shelf, backend) as running:
        shelf.put(logs("a"))
        shelf.put(logs("b"))
        await settle()
        shelf.put(logs("c"))
        shelf.put(logs("d"))
        await running.clock.advance(5)
    assert backend.asked == [["a", "b"], ["a"], ["a"], ["b"], ["c", "d"]]


async def test_after_an_answer_that_was_seen_newer_batches_may_join() -> None:
    shelf = Shelf()
    async with lane(shelf, Backend(*retries(1))) as running:
        shelf.put(logs("a"))
        await settle()
        shelf.put(logs("b"))
        await running.clock.advance(5)
    assert running.backend.asked == [["a"], ["a", "b"]]


async def test_a_unit_of_which_a_part_was_accepted_goes_batch_by_batch() -> None:
    shelf = Shelf()
    backend = Backend(TooLarge("too_large"), Receipt(), Retry("busy"))
    async with lane(shelf, backend) as running:
        shelf.put(logs("a"))
        shelf.put(logs("b"))
        await running.clock.advance(5)
    assert backend.asked == [["a", "b"], ["a"], ["b"], ["a"], ["b"]]
    assert shelf.totals()["delivered"] == 2


async def test_a_lane_that_waits_keeps_nothing_of_what_it_will_send() -> None:
    alive: list[weakref.ref[Any]] = []

    class Fresh(Shelf):
        """Makes its batches anew at every fetch, as the spool does."""

        async def fetch(self, after: int, max_bytes: int) -> list[Parcel]:
            batch = Marked(**{name: getattr(logs("a"), name) for name in ("source", "labels", "block", "count")})
            alive.append(weakref.ref(batch))
            return [Parcel(1, "file", 1, batch)]

    for kind, doing in ((Retry, "backoff"), (Hold, "held"), (ValueError, "backoff")):
        alive.clear()
        async with lane(Fresh(), Backend(lambda _, kind=kind: kind("x"))) as running:
            assert running.state.doing == doing
            gc.collect()
            assert [batch() for batch in alive] == [None]


class Marked(Logs, frozen=True, weakref=True):
    """A batch that can be watched."""


# Breaker


async def seconds_until(running: Any, reached: Any, most: float) -> float:
    began = running.clock.monotonic_seconds()
    while not reached():
        assert running.clock.monotonic_seconds() - began < most, "it takes longer than it may"
        await running.clock.advance(0.1)
    return float(running.clock.monotonic_seconds() - began)


class Flaky(Backend):
    """A backend that may be dead: it refuses connections, or answers nothing, and a request times out."""

    dead: str | None = None
    connect_seconds = 5.0
    timeout_seconds = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.clock: Any = None
        self.always = self.answer

    async def answer(self, _batches: Sequence[Batch]) -> Retry | None:
        if self.dead == "refusing":
            return Retry("unreachable")
        if self.dead == "unroutable":
            await self.clock.sleep(self.connect_seconds)
            return Retry("unreachable")
        if self.dead == "silent":
            await self.clock.sleep(self.timeout_seconds)
            return Retry("timeout", answered=False)
        return None


@pytest.mark.parametrize("dead", ["refusing", "unroutable", "silent"])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("a_second", [1, 10], ids=["calm", "busy"])
async def test_the_breaker_opens_within_10_s_of_a_dead_backend_and_closes_within_60_s_of_its_return(
    dead: str, jitter: float, a_second: int
) -> None:
    shelf, backend = Shelf(), Flaky()
    async with lane(shelf, backend, jitter=jitter) as running:
        backend.clock = running.clock
        for i in range(15 * a_second):
            shelf.put(logs(str(i)))
            await running.clock.advance(1 / a_second)
        assert len(backend.accepted) == 15 * a_second
        backend.dead = dead
        shelf.put(logs("more"))
        await seconds_until(running, lambda: running.state.breaker.state == "open", 10)
        await running.clock.advance(95)
        assert running.state.doing in ("open", "sending", "backoff")
        assert len(backend.asked) < 15 * a_second + 20, "a dead backend is asked over and over"
        backend.dead = None
        await seconds_until(running, lambda: running.state.breaker.state == "closed", 60)
        await running.clock.advance(11)
        assert shelf.totals() == {"delivered": 15 * a_second + 1, "rejected": 0, "dropped": 0}


async def test_a_slow_answer_closes_what_its_slowness_had_opened() -> None:
    async def slow(_batches: Sequence[Batch]) -> None:
        await running.clock.sleep(9)

    async with lane(Shelf(logs("a")), Backend(slow), settled=False) as running:
        await running.clock.advance(8)
        assert running.state.breaker.state == "open"
        await running.clock.advance(2)
        assert running.state.breaker.state == "closed"
        assert running.shelf.totals()["delivered"] == 1


async def test_a_nudged_lane_whose_breaker_is_open_tries_at_once() -> None:
    async with lane(Shelf(logs("a")), Backend(*retries(3)), jitter=0.0) as running:
        assert running.state.doing == "open"
        running.drain.nudge()
        await running.clock.advance(0)
        assert running.shelf.totals()["delivered"] == 1


async def test_a_nudge_during_a_request_that_fails_is_not_forgotten() -> None:
    answer = asyncio.Event()

    async def refused(_batches: Sequence[Batch]) -> Hold:
        await answer.wait()
        return Hold("unauthorized", "the old token")

    async with lane(Shelf(logs("a")), Backend(refused)) as running:
        running.drain.nudge()
        answer.set()
        await running.clock.advance(0)
        assert running.shelf.totals()["delivered"] == 1


async def test_an_old_nudge_does_not_shorten_a_later_wait() -> None:
    shelf = Shelf()
    async with lane(shelf, Backend(*retries(1))) as running:
        running.drain.nudge()
        shelf.put(logs("a"))
        await running.clock.advance(0.2)
        assert len(running.backend.asked) == 1


# Refused records


async def test_only_poison_is_rejected_and_quarantined() -> None:
    backend = Backend(Reject("bad", "line 2", poison=lambda batch: [1], blames_records=True))
    async with lane(Shelf(logs("a", "x", "b")), backend) as running:
        assert backend.accepted == ["a", "b"]
        assert running.shelf.acked[1].rejected == {"bad": 1}
        assert running.shelf.quarantined == [(["x"], "bad")]


async def test_a_record_too_large_alone_is_rejected_and_the_rest_goes() -> None:
    backend = Backend()
    backend.always = lambda batches: TooLarge("too_large") if "large" in texts(batches) else None
    async with lane(Shelf(logs("a", "large"), logs("b")), backend) as running:
        assert backend.accepted == ["a", "b"]
        assert running.shelf.totals() == {"delivered": 2, "rejected": 1, "dropped": 0}


# Hold


async def test_a_hold_loses_nothing_and_probes_with_one_record_every_five_minutes() -> None:
    backend = Backend()
    backend.always = Hold("unauthorized", "401")
    async with lane(Shelf(logs("a", "b"), logs("c")), backend) as running:
        assert (running.state.doing, running.state.hold_reason) == ("held", "unauthorized: 401")
        assert running.state.retry_at_seconds == running.clock.monotonic_seconds() + PROBE_SECONDS
        await running.clock.advance(3 * PROBE_SECONDS + 1)
        assert backend.asked == [["a", "b"], ["a"], ["a"], ["a"]]
        assert (running.shelf.acked, running.shelf.quarantined) == ({}, [])
        backend.always = None
        await running.clock.advance(PROBE_SECONDS)
        assert running.state.hold_reason is None
        assert backend.asked[-3:] == [["a"], ["a", "b"], ["c"]]
        assert running.shelf.totals()["delivered"] == 3


async def test_a_nudge_ends_the_wait_of_a_held_lane() -> None:
    async with lane(Shelf(logs("a")), Backend(Hold("unauthorized"))) as running:
        running.drain.nudge()
        await running.clock.advance(0)
        assert running.shelf.totals()["delivered"] == 1


async def test_a_held_lane_whose_backend_is_gone_still_says_why_it_is_held() -> None:
    backend = Backend(Hold("unauthorized", "401"), Retry("unreachable", "refused"))
    async with lane(Shelf(logs("a")), backend) as running:
        await running.clock.advance(PROBE_SECONDS + 1)
        assert (running.state.hold_reason, running.state.last_error) == ("unauthorized: 401", "unreachable: refused")
        assert running.state.doing == "held"


async def test_the_first_three_requests_refused_whole_are_held() -> None:
    backend = Backend()
    backend.always = Reject("bad_request", "400")
    async with lane(Shelf(logs(*"abcdefgh")), backend) as running:
        assert running.state.hold_reason == "bad_request: every request is refused: 400"
        assert len(backend.asked) == 3
        assert running.shelf.acked == {}


async def test_twenty_requests_in_a_row_refused_whole_are_held_and_nothing_of_the_unit_is_lost() -> None:
    backend = Backend()
    async with lane(Shelf(logs("first")), backend) as running:
        backend.always = Reject("bad_request", "400")
        running.shelf.put(logs(*map(str, range(1000))))
        await running.clock.advance(0)
        assert running.state.doing == "held"
        assert len(backend.asked) == 1 + 20
        assert list(running.shelf.acked) == [1]
        assert running.shelf.quarantined == []


async def test_an_accepted_probe_lets_only_poison_go() -> None:
    backend = Backend()
    backend.always = lambda batches: Reject("bad_request") if "x" in texts(batches) else None
    async with lane(Shelf(logs("x", *"abcdefgh")), backend) as running:
        assert running.state.doing == "held"
        await running.clock.advance(PROBE_SECONDS + 1)
        assert backend.asked[3:5] == [["x"], ["h"]], "the first record alone, then the last of its batch"
        assert running.shelf.totals() == {"delivered": 8, "rejected": 1, "dropped": 0}


async def test_a_lane_held_for_poison_alone_goes_on_with_what_arrives_later() -> None:
    backend = Backend()
    backend.always = lambda batches: Reject("bad_request") if "x" in texts(batches) else None
    shelf = Shelf(logs("x"), logs("x"), logs("x"))
    async with lane(shelf, backend) as running:
        assert running.state.doing == "held"
        shelf.put(logs("a"))
        await running.clock.advance(PROBE_SECONDS + 1)
        assert shelf.totals() == {"delivered": 1, "rejected": 3, "dropped": 0}


async def test_a_held_lane_whose_records_were_let_go_is_not_held_any_more() -> None:
    shelf = Shelf(logs("a"))
    async with lane(shelf, Backend(Hold("unauthorized"))) as running:
        shelf.parcels.clear()
        await running.clock.advance(PROBE_SECONDS + 1)
        assert (running.state.doing, running.state.hold_reason) == ("idle", None)
        shelf.put(logs("b"))
        await running.clock.advance(0)
        assert running.backend.accepted == ["b"]


async def test_a_held_lane_with_only_damaged_batches_left_lets_them_go_as_lost() -> None:
    shelf = Shelf(logs("a"))
    async with lane(shelf, Backend(Hold("unauthorized"))) as running:
        shelf.parcels[:] = [Parcel(1, "file", 4, None)]
        await running.clock.advance(PROBE_SECONDS + 1)
        assert shelf.acked[1].dropped == {"damaged": 4}


# Faults of the destination's own code


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), RecursionError(), OSError(5, "x"), TimeoutError(), Refusal("x"), asyncio.CancelledError()],
)
async def test_an_exception_that_no_destination_may_raise_never_ends_the_lane(error: BaseException) -> None:
    async with lane(Shelf(logs("a")), Backend(error)) as running:
        assert running.state.doing == "backoff"
        assert str(running.state.last_error).startswith(f"failed: {type(error).__name__}")
        assert running.requests("failed") == 1
        await running.clock.advance(1)
        assert running.shelf.totals()["delivered"] == 1


async def test_a_record_that_breaks_the_destinations_code_does_not_stop_its_lane_for_ever() -> None:
    backend = Backend()
    backend.always = lambda batches: UnicodeError("x") if "x" in texts(batches) else None
    shelf = Shelf(logs("first"))
    async with lane(shelf, backend) as running:
        shelf.put(logs("a", "x", "b"))
        shelf.put(logs("c"))
        await running.clock.advance((MOST_FAULTS + 1) * OPEN_SECONDS)
        assert shelf.totals() == {"delivered": 4, "rejected": 1, "dropped": 0}
        assert shelf.quarantined == [(["x"], "failed")]


async def test_a_destination_whose_code_always_fails_loses_nothing() -> None:
    backend = Backend()
    backend.always = KeyError("x")
    async with lane(Shelf(logs(*map(str, range(100)))), backend) as running:
        await running.clock.advance(3600)
        assert running.shelf.acked == {}
        assert running.state.doing == "held"


# Damage


async def test_a_damaged_batch_is_read_again_from_its_source() -> None:
    damaged = Parcel(1, "file", 2, None, Origin("/log", 0, 4), 77)

    async def heal(parcel: Parcel) -> Batch:
        assert parcel is damaged
        return logs("a", "b")

    async with lane(Shelf(damaged, logs("c")), Backend(), heal=heal) as running:
        assert running.backend.accepted == ["a", "b", "c"]
        assert running.shelf.totals() == {"delivered": 3, "rejected": 0, "dropped": 0}
        assert running.meter.value("telemetry_agent_spool_damaged_total", ("reread",)) == 1


@pytest.mark.parametrize(("healed", "lost"), [(None, 3), (logs(), 3), (logs("a"), 2)])
async def test_what_a_damaged_batch_lost_is_counted_as_dropped(healed: Batch | None, lost: int) -> None:
    async def heal(_parcel: Parcel) -> Batch | None:
        return healed

    async with lane(Shelf(Parcel(1, "file", 3, None)), Backend(*retries(1)), heal=heal) as running:
        await running.clock.advance(5)
        assert running.shelf.acked[1].dropped == {"damaged": lost}
        assert running.shelf.totals() == {"delivered": 3 - lost, "rejected": 0, "dropped": lost}
        assert running.meter.value("telemetry_agent_spool_damaged_total", ("lost",)) == 1


async def test_a_source_that_gives_more_than_was_lost_is_cut() -> None:
    async def heal(_parcel: Parcel) -> Batch:
        return logs("a", "b", "c")

    async with lane(Shelf(Parcel(1, "file", 2, None)), Backend(), heal=heal) as running:
        assert running.backend.accepted == ["a", "b"]


async def test_a_source_that_fails_to_read_again_has_lost_the_batch() -> None:
    async def heal(_parcel: Parcel) -> Batch:
        raise OSError(5, "Input/output error")

    async with lane(Shelf(Parcel(1, "file", 2, None), logs("a")), Backend(), heal=heal) as running:
        assert running.shelf.totals() == {"delivered": 1, "rejected": 0, "dropped": 2}


async def test_rejected_records_are_booked_on_their_own_batch_beside_damaged_ones() -> None:
    shelf = Shelf()
    backend = Backend(Reject("bad", poison=lambda batch: [1] if batch.count > 1 else [], blames_records=True))
    async with lane(shelf, backend) as running:
        shelf.put(logs("a"))
        shelf.put(Parcel(2, "file", 9, None))
        shelf.put(logs("b", "x"))
        await running.clock.advance(0)
        assert [(d.rejected, d.dropped) for d in shelf.acked.values()] == [
            ({}, {}),
            ({}, {"damaged": 9}),
            ({"bad": 1}, {}),
        ]


# The end


async def ended(running: Any) -> bool:
    await running.clock.advance(0)
    return bool(running.task.done())


async def test_at_the_end_an_idle_lane_sends_what_arrived_and_ends() -> None:
    async with lane(Shelf(), Backend()) as running:
        running.drain.last_try = True
        running.shelf.put(logs("a"))
        running.shelf.put(logs("b"))
        assert await ended(running)
        assert running.backend.accepted == ["a", "b"]


@pytest.mark.parametrize(
    ("before", "doing"),
    [
        ([Retry("busy", after_seconds=200)], "backoff"),
        (retries(3), "open"),
        ([Hold("unauthorized")], "held"),
    ],
)
async def test_at_the_end_a_waiting_lane_tries_once_more(before: list[Refusal], doing: str) -> None:
    for last, delivered in ((None, 1), (before[0], 0)):
        backend = Backend(*before)
        backend.always = last
        async with lane(Shelf(logs("a")), backend, jitter=0.0) as running:
            assert running.state.doing == doing
            asked = len(backend.asked)
            running.drain.last_try = True
            running.drain.nudge()
            assert await ended(running)
            assert len(backend.asked) == asked + (1 if last or doing != "held" else 2)
            assert running.shelf.totals()["delivered"] == delivered


async def test_at_the_end_a_request_under_way_is_the_last_try() -> None:
    answer = asyncio.Event()

    async def busy(_batches: Sequence[Batch]) -> Retry:
        await answer.wait()
        return Retry("busy")

    async with lane(Shelf(logs("a"), logs("b")), Backend(busy)) as running:
        running.drain.last_try = True
        running.drain.nudge()
        answer.set()
        assert await ended(running)
        assert running.backend.asked == [["a"]]
        assert running.shelf.acked == {}


@pytest.mark.parametrize(
    "answers",
    [[], [hang], retries(1), retries(3), [Hold("x")], [Hold("x"), hang], [ValueError()], [TooLarge("x"), hang]],
)
@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_cancelled_anywhere_a_lane_leaves_no_task_and_acknowledges_nothing_unconfirmed(
    answers: list[Any], turns: int
) -> None:
    shelf = Shelf(logs("a", "b"), logs("c"))
    backend = Backend(*answers)
    async with lane(shelf, backend, jitter=0.0, settled=False) as running:
        await settle(turns)
        running.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running.task
        assert backend.under_way == 0
        assert asyncio.all_tasks() - {asyncio.current_task()} <= {t for t in asyncio.all_tasks() if t.cancelling()}
    confirmed = [parcel for parcel in shelf.parcels if parcel.id in shelf.acked]
    assert all(set(texts([parcel.batch])) <= set(backend.accepted) for parcel in confirmed if parcel.batch)
    cancelled = running.requests("cancelled")
    assert running.requests("accepted") + cancelled + running.requests("retry") + running.requests(
        "held"
    ) + running.requests("failed") + running.requests("too_large") == len(backend.asked)
