"""Metrics reach a receiver as strict as the schema, and every way it refuses them becomes the right decision."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.batch import Metrics
from agent.contract import Receipt
from agent.errors import Hold, Refusal, Reject, Retry, TooLarge
from agent.export import drain
from agent.export.delivery import Delivery
from agent.export.drain import PROBE_SECONDS
from agent.export.remote_write.options import COMPONENT, RemoteWriteOptions
from tests.export.lane_fakes import Shelf, lane
from tests.fakes import FakeClock, context
from tests.peers.loki import Receiver, Scripted, answers, html, open_receiver, redirect, reset
from tests.peers.remote_write import WRITE, WriteJudge

SECOND = 1_000_000_000
NOW_NS = 1_700_000_000 * SECOND
FAMILIES = (("node_load1", "gauge", "1m load average."), ("up", "untyped", ""))


def metrics(*series: bytes, at_seconds: float = 0, **changes: Any) -> Metrics:
    values: dict[str, Any] = {"source": "host", "labels": (("env", "prod"),)} | changes
    numbers = array("d", range(len(series)))
    return Metrics(series=series, values=numbers, first_time_ns=NOW_NS + int(at_seconds * SECOND), **values)


@asynccontextmanager
async def writing(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Receiver, Any, FakeClock]]:
    async with open_receiver(WriteJudge(), wall_ns=lambda: NOW_NS, path=WRITE) as receiver:  # type: ignore[arg-type]
        clock = FakeClock(NOW_NS)
        given = RemoteWriteOptions(**({"url": receiver.url + WRITE} | options))
        async with COMPONENT.open(given, context(tmp_path, "remote_write", clock=clock)) as destination:
            yield receiver, destination, clock


def judge(receiver: Receiver) -> WriteJudge:
    assert isinstance(receiver.judge, WriteJudge)
    return receiver.judge


async def test_samples_arrive_with_their_labels_and_the_headers_that_must_be_there(tmp_path: Path) -> None:
    async with writing(tmp_path, tenant="team-a") as (receiver, destination, _):
        assert await destination.send([metrics(b'up{job="a"}', b"up"), metrics(b"up", at_seconds=15)]) == Receipt()
        times = [NOW_NS // 1_000_000, NOW_NS // 1_000_000 + 15_000]
        one, zero = 0x3FF0000000000000, 0
        assert judge(receiver).samples == {
            (("__name__", "up"), ("env", "prod"), ("job", "a")): [(times[0], zero)],
            (("__name__", "up"), ("env", "prod")): [(times[0], one), (times[1], zero)],
        }
        (request,) = receiver.requests
        assert request.headers["User-Agent"].startswith("telemetry-agent/")
        assert request.headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
        assert request.headers["Content-Encoding"] == "snappy"
        assert request.headers["Content-Type"] == "application/x-protobuf"
        assert request.headers["X-Scope-OrgID"] == "team-a"


# Types and help texts


async def test_types_and_help_texts_go_ahead_at_once_and_again_after_the_interval(tmp_path: Path) -> None:
    async with writing(tmp_path) as (receiver, destination, clock):
        told = judge(receiver)
        for turn in range(8):
            await destination.send([metrics(b"up", at_seconds=15 * turn, families=FAMILIES)])
            clock.move(15)
        assert told.metadata == {"node_load1": (2, "1m load average."), "up": (0, "")}
        assert told.requests == [(0, 2), *[(1, 0)] * 4, (0, 2), *[(1, 0)] * 4]


async def test_a_family_that_is_new_or_has_changed_is_said_at_once_and_alone(tmp_path: Path) -> None:
    changed = (("node_load1", "gauge", "Another."), ("up", "untyped", ""), ("new_total", "counter", "New."))
    async with writing(tmp_path) as (receiver, destination, _):
        await destination.send([metrics(b"up", families=FAMILIES)])
        for turn in range(1, 4):
            await destination.send([metrics(b"up", at_seconds=turn, families=changed)])
        told = judge(receiver)
        assert told.metadata == {"node_load1": (2, "Another."), "up": (0, ""), "new_total": (1, "New.")}
        assert [families for _, families in told.requests] == [2, 0, 2, 0, 0, 0]


async def test_without_metadata_none_is_sent(tmp_path: Path) -> None:
    async with writing(tmp_path, metadata=False) as (receiver, destination, _):
        await destination.send([metrics(b"up", families=FAMILIES)])
        assert judge(receiver).requests == [(1, 0)]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500])
async def test_a_server_that_does_not_take_types_and_help_texts_takes_samples_all_the_same(
    tmp_path: Path, status: int
) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(answers(status, "no metadata here"))
        assert await destination.send([metrics(b"up", families=FAMILIES)]) == Receipt()
        assert await destination.send([metrics(b"up", at_seconds=15, families=FAMILIES)]) == Receipt()
        assert judge(receiver).requests == [(1, 0), (1, 0)], "it is not tried again before the interval is over"


async def test_where_nobody_answers_samples_are_not_tried_behind_types_and_help_texts(tmp_path: Path) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(reset())
        with pytest.raises(Retry):
            await destination.send([metrics(b"up", families=FAMILIES)])
        assert len(receiver.requests) == 1
        assert await destination.send([metrics(b"up", families=FAMILIES)]) == Receipt()


# Series without a form


async def test_a_bad_series_is_refused_alone_and_counted(tmp_path: Path) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receipt = await destination.send([metrics(b"good", b"b\xc3\xa4d", b"better")])
        ((reason, records, detail),) = [(each.reason, each.records, each.detail) for each in receipt.rejected]
        assert (reason, records) == ("invalid_series", 1)
        assert "not a series" in detail
        assert sorted(dict(labels)["__name__"] for labels in judge(receiver).samples) == ["better", "good"]


async def test_a_request_of_nothing_but_bad_series_is_not_sent(tmp_path: Path) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        with pytest.raises(Reject) as caught:
            await destination.send([metrics(b"1", b"2")])
        assert (caught.value.reason, caught.value.reach) == ("invalid_series", "request")
        assert not receiver.requests


# Answers

MIMIR = "send data to ingesters: failed pushing to ingester i-0: user=1: the sample has been rejected because "
ANSWERS: list[tuple[Scripted, type[Refusal], str, str]] = [
    (answers(500), Retry, "server_error", ""),
    (answers(502), Retry, "server_error", ""),
    (answers(503), Retry, "server_error", ""),
    (answers(429), Retry, "rate_limited", ""),
    (answers(408), Retry, "timeout", ""),
    (html(500), Retry, "server_error", "web page"),
    (html(502), Retry, "server_error", "web page"),
    (answers(401, "no auth"), Hold, "unauthorized", "token_file"),
    (html(401), Hold, "unauthorized", "token_file"),
    (answers(403), Hold, "forbidden", "metrics:write"),
    (answers(404), Hold, "not_found", "--web.enable-remote-write-receiver"),
    (answers(405), Hold, "not_remote_write", "is url whole"),
    (answers(407), Hold, "proxy_refused", "proxy"),
    (answers(415), Hold, "unsupported", "1.0"),
    (redirect("https://elsewhere/write"), Hold, "redirected", "https://elsewhere/write"),
    (html(200), Hold, "not_remote_write", "web page"),
    (html(400), Hold, "not_remote_write", "web page"),
    (html(413), TooLarge, "too_large", ""),
    (html(429), Retry, "rate_limited", ""),
    (Scripted(200, " <!DOCTYPE html><p>Log in"), Hold, "not_remote_write", "web page"),
    (answers(206), Hold, "not_remote_write", "expected 204 or 200"),
    (answers(413), TooLarge, "too_large", ""),
]
REJECTED: list[tuple[Scripted, str, str, bool]] = [
    (answers(400, "out of order sample\n"), "out_of_order", "record", True),
    (answers(400, "duplicate sample for timestamp\n"), "duplicate", "record", True),
    (answers(400, "out of bounds\n"), "out_of_bounds", "batch", True),
    (answers(400, "too old sample\n"), "too_old", "record", True),
    (answers(409, "store locally: out of order sample\n"), "out_of_order", "record", True),
    (answers(400, MIMIR + "… (err-mimir-sample-out-of-order). The affected"), "out_of_order", "record", True),
    (answers(400, MIMIR + "… (err-mimir-sample-duplicate-timestamp)."), "duplicate", "record", True),
    (
        answers(400, MIMIR + "beyond the out-of-order time window (err-mimir-sample-timestamp-too-old)."),
        "too_old", "batch", True,
    ),
    (answers(400, "… (err-mimir-too-far-in-future)."), "too_far_in_future", "batch", True),
    (answers(400, "… (err-mimir-label-value-too-long)."), "refused", "request", False),
    (answers(400), "refused", "request", False),
    (answers(402), "refused", "request", False),
    (answers(422, "nothing of this"), "refused", "request", False),
]  # fmt: skip


@pytest.mark.parametrize(("scripted", "kind", "reason", "words"), ANSWERS, ids=lambda value: str(value)[:40])
async def test_what_is_no_fault_of_the_samples_keeps_them(
    tmp_path: Path, scripted: Scripted, kind: type[Refusal], reason: str, words: str
) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(scripted)
        with pytest.raises(kind) as caught:
            await destination.send([metrics(b"up")])
        assert caught.value.reason == reason
        assert words in caught.value.detail
        assert await destination.send([metrics(b"up")]) == Receipt()


@pytest.mark.parametrize(("scripted", "reason", "reach", "blames"), REJECTED, ids=lambda value: str(value)[:40])
async def test_a_text_says_how_far_a_refusal_reaches(
    tmp_path: Path, scripted: Scripted, reason: str, reach: str, blames: bool
) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(scripted)
        with pytest.raises(Reject) as caught:
            await destination.send([metrics(b"up")])
        refusal = caught.value
        assert (refusal.reason, refusal.reach, refusal.blames_records) == (reason, reach, blames)
        assert scripted.text.strip() in refusal.detail, "what the server said is shown as it said it"


@pytest.mark.parametrize("scripted", [answers(200), answers(204), answers(200, "ok")])
async def test_success_is_what_receivers_answer(tmp_path: Path, scripted: Scripted) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(scripted)
        assert await destination.send([metrics(b"up")]) == Receipt()


@pytest.mark.parametrize(("status", "asked", "seconds"), [(429, "7", 7.0), (503, "120", 120.0), (500, None, None)])
async def test_what_a_server_asks_for_is_handed_on(
    tmp_path: Path, status: int, asked: str | None, seconds: float | None
) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(answers(status, retry_after=asked))
        with pytest.raises(Retry) as caught:
            await destination.send([metrics(b"up")])
        assert (caught.value.after_seconds, caught.value.answered) == (seconds, True)


async def test_an_answer_that_was_not_seen_says_so(tmp_path: Path) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(reset(ingest=True))
        with pytest.raises(Retry) as caught:
            await destination.send([metrics(b"up")])
        assert caught.value.answered is False
        assert await destination.send([metrics(b"up")]) == Receipt(), "a repeat of what is stored is taken"


# What a refusal costs, and what it takes with it


async def delivered(
    destination: Any, *batches: Metrics, hold: Callable[[], bool] = lambda: False
) -> tuple[dict[str, int], int]:
    """Records refused by reason, and how many requests it took."""
    requests = 0

    async def attempt(sending: Any) -> Receipt:
        nonlocal requests
        requests += 1
        receipt: Receipt = await destination.send(sending)
        return receipt

    outcome = await Delivery(attempt, hold).deliver(batches)
    refused: dict[str, int] = {}
    for reasons in outcome.rejected.values():
        for reason, records in reasons.items():
            refused[reason] = refused.get(reason, 0) + records
    assert sum(batch.count for batch, *_ in outcome.refused) == sum(refused.values())
    return refused, requests


async def test_of_samples_out_of_order_only_those_refused_alone_are_refused(tmp_path: Path) -> None:
    series = [b'm{i="%d"}' % i for i in range(64)]
    async with writing(tmp_path) as (receiver, destination, _):
        await destination.send([metrics(series[17], series[40], at_seconds=30)])
        refused, requests = await delivered(destination, *(metrics(*series, at_seconds=t) for t in (0, 15, 45)))
        assert refused == {"out_of_order": 4}
        stored = judge(receiver).samples
        assert sum(map(len, stored.values())) == 2 + 3 * 64 - 4
        assert requests < 64, "what is well is not sent one by one"


async def test_a_batch_out_of_bounds_is_refused_in_one_request_and_its_neighbours_are_not(tmp_path: Path) -> None:
    series = [b'm{i="%d"}' % i for i in range(64)]
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(answers(400, "out of bounds"), answers(400, "out of bounds"))
        refused, requests = await delivered(destination, *(metrics(*series, at_seconds=t) for t in (0, 15)))
        assert (refused, requests) == ({"out_of_bounds": 64}, 3)
        assert sum(map(len, judge(receiver).samples.values())) == 64


async def test_any_other_400_is_not_sent_again_in_whole_or_in_part(tmp_path: Path) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(answers(400, "label value too long"))
        refused, requests = await delivered(destination, metrics(b"a", b"b"), metrics(b"c", at_seconds=1))
        assert (refused, requests) == ({"refused": 3}, 1)
        assert judge(receiver).samples == {}


async def test_a_server_that_refuses_everything_for_another_reason_is_held_and_keeps_it(tmp_path: Path) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.always = answers(400, "unknown path")
        with pytest.raises(Hold, match=r"every request is refused: 400 from .*: unknown path"):
            await delivered(destination, metrics(b"a", b"b"), hold=lambda: True)


async def test_a_request_too_large_goes_in_halves_in_the_order_of_time(tmp_path: Path) -> None:
    async with writing(tmp_path) as (receiver, destination, _):
        receiver.script(answers(413), answers(413))
        assert await delivered(destination, *(metrics(b"a", b"b", at_seconds=t) for t in range(4))) == ({}, 5)
        for stored in judge(receiver).samples.values():
            assert [at for at, _ in stored] == [NOW_NS // 1_000_000 + 1000 * t for t in range(4)]


class Refusing:
    """Refuses every request for good, but the first few, until it is told to take them."""

    def __init__(self, taken: int = 0) -> None:
        self.sent: list[list[bytes]] = []
        self.taken = taken
        self.takes = False

    async def send(self, batches: Sequence[Metrics]) -> Receipt:
        self.sent.append([series for batch in batches for series in batch.series])
        if self.takes or len(self.sent) <= self.taken:
            return Receipt()
        raise Reject("refused", "another protocol", reach="request")


async def test_a_lane_that_was_never_accepted_is_held_before_it_has_let_anything_go() -> None:
    shelf, server = Shelf(metrics(b"a1", b"a2", b"a3"), metrics(b"b1", b"b2"), metrics(b"c1")), Refusing()
    async with lane(shelf, server) as running:
        assert running.state.hold_reason == "refused: the first request was refused: another protocol"
        await running.clock.advance(2 * PROBE_SECONDS)
        assert running.state.doing == "held"
        assert not shelf.acked
        server.takes = True
        await running.clock.advance(PROBE_SECONDS)
        assert shelf.totals() == {"delivered": 6, "rejected": 0, "dropped": 0}


async def test_a_held_lane_of_metrics_tries_with_no_sample_ahead_of_its_turn() -> None:
    shelf, server = Shelf(metrics(b"a1", b"a2", b"a3"), metrics(b"b1", b"b2"), metrics(b"c1")), Refusing()
    async with lane(shelf, server) as running:
        await running.clock.advance(2 * PROBE_SECONDS)
    assert server.sent == [[b"a1", b"a2", b"a3"], *[[b"a1"], [b"a3"]] * 2]


async def test_twenty_refused_whole_in_a_row_hold_a_lane_that_was_accepted_before() -> None:
    shelf, server = Shelf(*(metrics(b"up", at_seconds=turn) for turn in range(30))), Refusing(taken=5)
    async with lane(shelf, server) as running:
        assert running.state.doing == "held"
    assert shelf.totals() == {"delivered": 5, "rejected": 19, "dropped": 0}


class DurableShelf(Shelf):
    """A shelf whose acknowledgements become durable when they are let."""

    def __init__(self, *batches: Metrics) -> None:
        super().__init__(*batches)
        self.durable = asyncio.Event()
        self.waited = 0

    async def acknowledged(self, last: int) -> None:
        self.waited += 1
        await self.durable.wait()


async def test_a_request_holds_one_cycle_and_waits_until_the_one_before_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Refusing()
    server.takes = True
    monkeypatch.setattr(server, "takes_repeats_of_the_newest", True, raising=False)
    monkeypatch.setattr(drain, "CAREFUL_AT_START", -1)
    monkeypatch.setattr(drain, "DURABLE_SECONDS", 60.0)
    other = {"labels": (("env", "test"),)}
    shelf = DurableShelf(
        metrics(b"a1"), metrics(b"b1", source="other"), metrics(b"c1", **other), metrics(b"a2"), metrics(b"a3"),
        metrics(b"b3", source="other"), metrics(b"b4", source="other"),
    )  # fmt: skip
    async with lane(shelf, server) as running:
        assert server.sent == [[b"a1", b"b1", b"c1"]]
        assert shelf.waited == 1
        shelf.durable.set()
        await running.clock.advance(0)
    assert server.sent == [[b"a1", b"b1", b"c1"], [b"a2"], [b"a3", b"b3"], [b"b4"]]
    assert shelf.totals() == {"delivered": 7, "rejected": 0, "dropped": 0}


async def test_a_lane_goes_on_where_nothing_becomes_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Refusing()
    server.takes = True
    monkeypatch.setattr(server, "takes_repeats_of_the_newest", True, raising=False)
    monkeypatch.setattr(drain, "DURABLE_SECONDS", 0.0)
    shelf = DurableShelf(metrics(b"a1"), metrics(b"a2"))
    async with lane(shelf, server) as running:
        while len(shelf.acked) < 2:
            await asyncio.sleep(0)
        await running.clock.advance(0)
    assert server.sent == [[b"a1"], [b"a2"]]


# Options


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"url": "prometheus:9090"}, "url"),
        ({"url": "http://user:secret@h/api/v1/write"}, "url"),
        ({"url": "http://h/write", "tenant": "a\nb"}, "tenant"),
        ({"url": "http://h/write", "user": "1"}, "user"),
        ({"url": "http://h/write", "headers": {"user-agent": "another"}}, "headers"),
        ({"url": "http://h/write", "headers": {"X-Prometheus-Remote-Write-Version": "2.0.0"}}, "headers"),
        ({"url": "http://h/write", "headers": {"Content-Encoding": "gzip"}}, "headers"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, Any], key: str) -> None:
    assert [name for name, _ in RemoteWriteOptions(**options).faults()] == [key]
