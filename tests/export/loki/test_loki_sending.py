"""Logs reach a Loki that is as strict as the real one, and every way it refuses them becomes the right decision."""

from __future__ import annotations

from array import array
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from agent.batch import Logs, labels_of
from agent.contract import Receipt
from agent.errors import Hold, Reject, Retry, TooLarge
from agent.export.loki.destination import push_url
from agent.export.loki.options import COMPONENT, LokiOptions
from tests.fakes import context
from tests.peers.loki import answers, html, open_receiver, redirect, reset, slow
from tests.peers.lokijudge import Judge, Limits

SECOND = 1_000_000_000
NOW_NS = 1_700_000_000 * SECOND + 123_456_789
APP = labels_of({"job": "app", "file": "/var/log/app.log"})


def logs(*lines: bytes, **changes) -> Logs:
    values = {"source": "file", "labels": APP, "first_time_ns": NOW_NS} | changes
    return Logs(block=b"".join(line + b"\n" for line in lines), count=len(lines), **values)


def at(*times_ns: int, **changes) -> Logs:
    return logs(*(b"line %d" % t for t in times_ns), times_ns=array("q", times_ns), **changes)


@asynccontextmanager
async def loki(tmp_path, judge: Judge | None = None, **options):
    async with open_receiver(judge, wall_ns=lambda: NOW_NS) as receiver:
        given = LokiOptions(**({"url": receiver.url} | options))
        async with COMPONENT.open(given, context(tmp_path, "loki")) as destination:
            yield receiver, destination


async def refused(destination, *batches: Logs) -> Reject:
    with pytest.raises(Reject) as caught:
        await destination.send(batches)
    return caught.value


async def poisoned(destination, *batches: Logs) -> list[list[int]]:
    """What the destination finds at fault in each batch; the rest is then sent again and must be taken."""
    refusal = await refused(destination, *batches)
    assert refusal.poison
    assert refusal.blames_records
    bad = [list(refusal.poison(batch)) for batch in batches]
    rest = [batch.select([i for i in range(batch.count) if i not in b]) for batch, b in zip(batches, bad, strict=True)]
    assert await destination.send([batch for batch in rest if batch.count]) == Receipt()
    return bad


@pytest.mark.parametrize("encoding", ["snappy", "json"])
async def test_lines_arrive_once_in_order_with_their_labels(tmp_path, encoding):
    async with loki(tmp_path, encoding=encoding) as (receiver, destination):
        assert await destination.send([logs(b"one", b"two"), logs(b"three", first_time_ns=NOW_NS + 2)]) == Receipt()
        ((labels, stream),) = receiver.judge.streams.items()
        assert labels == '{file="/var/log/app.log", job="app", service_name="app"}'
        assert [entry.line for entry in stream.entries] == ["one", "two", "three"]
        assert [entry.time_ns - NOW_NS for entry in stream.entries] == [0, 1, 2]


async def test_a_repeat_of_the_same_batch_is_dropped_by_loki(tmp_path):
    async with loki(tmp_path) as (receiver, destination):
        batch = logs(b"one", b"two")
        receiver.script(reset(ingest=True))
        with pytest.raises(Retry) as caught:
            await destination.send([batch])
        assert caught.value.answered is False
        await destination.send([batch])
        assert receiver.judge.lines() == ["one", "two"]
        assert receiver.judge.duplicates == 2


async def test_a_large_request_arrives_whole(tmp_path):
    async with loki(tmp_path) as (receiver, destination):
        await destination.send([logs(*(b"%d %s" % (i, bytes(range(32, 127)) * 3) for i in range(20_000)))])
        assert receiver.judge.stored == 20_000


async def test_headers_say_who_sends_what(tmp_path):
    async with loki(tmp_path, tenant="team-a", headers={"X-Extra": "yes-please"}) as (receiver, destination):
        await destination.send([logs(b"x")])
        headers = receiver.requests[-1].headers
        assert headers["X-Scope-OrgID"] == "team-a"
        assert headers["X-Extra"] == "yes-please"
        assert headers["User-Agent"].startswith("telemetry-agent/")
        assert headers["Content-Type"] == "application/x-protobuf"
        assert headers["Content-Encoding"] == "snappy"


REFUSALS = [
    (answers(200), Hold, "not_loki", "Loki answers 204"),
    (html(200), Hold, "not_loki", "text/html"),
    (html(400), Hold, "not_loki", "text/html"),
    (redirect("https://login.example.org/"), Hold, "redirected", "https://login.example.org/"),
    (answers(260, "ingestion blocked for user x"), Hold, "blocked", "ingestion blocked"),
    (answers(401, "no org id"), Hold, "unauthorized", "token_file"),
    (answers(403, "invalid scope requested"), Hold, "forbidden", "logs:write"),
    (answers(404), Hold, "not_found", "/loki/api/v1/push"),
    (answers(405), Hold, "not_loki", "/loki/api/v1/push"),
    (answers(402), Hold, "not_loki", "402"),
    (answers(408), Retry, "timeout", "408"),
    (answers(413, "request body too large"), TooLarge, "too_large", "413"),
    (answers(500, "rpc error: trying to send message larger than max (5 vs. 4)"), TooLarge, "too_large", "larger"),
    (answers(429, "Ingestion rate limit exceeded"), Retry, "rate_limited", "Ingestion rate limit"),
    (answers(500, "ring is empty"), Retry, "server_error", "ring is empty"),
    (answers(503), Retry, "server_error", "503"),
    (answers(400, "snappy: corrupt input"), Reject, "invalid_request", "corrupt"),
    (
        answers(400, "stream '{}' includes structured metadata, but this feature is disallowed. Please see"),
        Hold,
        "disallowed_structured_metadata",
        "structured_metadata = false",
    ),
]


@pytest.mark.parametrize(("scripted", "kind", "reason", "says"), REFUSALS)
async def test_every_answer_becomes_its_decision_and_says_what_to_do(tmp_path, scripted, kind, reason, says):
    async with loki(tmp_path) as (receiver, destination):
        receiver.script(scripted)
        with pytest.raises(kind) as caught:
            await destination.send([logs(b"x")])
        assert caught.value.reason == reason
        assert says in caught.value.detail
        assert receiver.judge.stored == 0
        assert await destination.send([logs(b"x")]) == Receipt()


async def test_an_unknown_400_blames_no_record(tmp_path):
    async with loki(tmp_path) as (receiver, destination):
        receiver.script(answers(400, "something new"))
        refusal = await refused(destination, logs(b"x"))
        assert refusal.poison is None
        assert refusal.blames_records is False


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0), ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0), ("soon", None)],
)
async def test_retry_after_is_read_as_seconds_or_as_a_date(tmp_path, value, seconds):
    async with loki(tmp_path) as (receiver, destination):
        receiver.script(answers(429, retry_after=value))
        with pytest.raises(Retry) as caught:
            await destination.send([logs(b"x")])
        assert caught.value.after_seconds == (None if seconds is None else pytest.approx(seconds, abs=0.2))


async def test_a_long_answer_is_shown_on_one_short_line(tmp_path):
    async with loki(tmp_path) as (receiver, destination):
        receiver.script(answers(500, "a\nforged: line\x1b[2J" + "é" * 100_000))
        with pytest.raises(Retry) as caught:
            await destination.send([logs(b"x")])
        detail = caught.value.detail
        assert "\n" not in detail
        assert "\x1b" not in detail
        assert len(detail) < 2048


async def test_only_a_line_that_is_too_long_is_refused(tmp_path):
    judge = Judge(Limits(line_bytes=100))
    async with loki(tmp_path, judge) as (receiver, destination):
        batches = logs(b"a", b"b" * 101, b"c" * 100), logs(b"\xff" * 40, first_time_ns=NOW_NS + 5)
        assert await poisoned(destination, *batches) == [[1], [0]]
        assert receiver.judge.stored == 2


async def test_records_too_old_are_refused_to_the_nanosecond(tmp_path):
    oldest = NOW_NS - 7 * 86400 * SECOND
    async with loki(tmp_path) as (receiver, destination):
        batch = at(oldest - 5 * SECOND, oldest - 2, oldest - 1, oldest, oldest + 1, NOW_NS)
        receiver.judge.limits = replace(receiver.judge.limits, behind_seconds=None)
        assert await poisoned(destination, batch) == [[0, 1, 2]]


async def test_records_from_the_future_are_refused_to_the_nanosecond(tmp_path):
    newest = NOW_NS + 600 * SECOND
    async with loki(tmp_path) as (_, destination):
        assert await poisoned(destination, at(NOW_NS, newest, newest + 1, newest + 2)) == [[2, 3]]


async def test_records_too_far_behind_their_stream_are_refused_and_no_other_streams(tmp_path):
    other = labels_of({"job": "other"})
    cut = NOW_NS - 3600 * SECOND
    async with loki(tmp_path) as (receiver, destination):
        await destination.send([at(NOW_NS)])
        mine, theirs = at(*range(cut - 15, cut + 3)), at(cut - 15, labels=other)
        assert await poisoned(destination, mine, theirs) == [list(range(15)), []]
        assert receiver.judge.refused["too_far_behind"] == 15


async def test_two_kinds_of_fault_in_one_answer_are_both_found(tmp_path):
    judge = Judge(Limits(line_bytes=100))
    async with loki(tmp_path, judge) as (_, destination):
        first = logs(b"a" * 200, b"ok", b"b" * 300)
        second = at(NOW_NS + 700 * SECOND, NOW_NS)
        assert await poisoned(destination, first, second) == [[0, 2], [0]]


async def test_a_whole_stream_is_refused_by_its_labels(tmp_path):
    judge = Judge(Limits(label_value_bytes=20))
    other = labels_of({"job": "other"})
    async with loki(tmp_path, judge) as (_, destination):
        wrong = logs(b"a", b"b", labels=labels_of({"job": "a" * 30}))
        assert await poisoned(destination, wrong, logs(b"c", labels=other)) == [[0, 1], []]


@pytest.mark.parametrize(
    ("limits", "reason"), [({"metadata_bytes": 40}, "too_large"), ({"metadata_pairs": 2}, "too_many")]
)
async def test_only_records_with_too_much_metadata_are_refused(tmp_path, limits, reason):
    async with loki(tmp_path, Judge(Limits(**limits))) as (_, destination):
        much = (("a", "x" * 30), ("b", "y" * 30), ("c", "z"))
        batch = logs(b"1", b"2", b"3", metadata={1: much, 2: (("a", "x"),)}, severities=bytes([0, 0, 9]))
        refusal = await refused(destination, batch)
        assert refusal.reason == f"structured_metadata_{reason}"
        assert refusal.poison
        assert list(refusal.poison(batch)) == [1]


async def test_a_text_about_records_we_did_not_send_names_none(tmp_path):
    async with loki(tmp_path) as (receiver, destination):
        receiver.script(answers(400, "Max entry size '5000' bytes exceeded for stream '{}' while adding"))
        refusal = await refused(destination, logs(b"short"))
        assert refusal.poison is None
        assert refusal.blames_records


async def test_out_of_order_refuses_the_oldest(tmp_path):
    text = "entry with timestamp x ignored, reason: 'entry out of order',\nuser 'fake', total ignored: 2 out of 4 for "
    async with loki(tmp_path) as (receiver, destination):
        receiver.script(answers(400, text + 'stream: {file="/var/log/app.log", job="app"}'))
        refusal = await refused(destination, batch := at(NOW_NS, NOW_NS - 5, NOW_NS - 9, NOW_NS + 1))
        assert refusal.poison
        assert list(refusal.poison(batch)) == [1, 2]


async def test_a_time_in_an_answer_that_is_none_is_not_believed(tmp_path):
    async with loki(tmp_path) as (receiver, destination):
        receiver.script(answers(400, "has timestamp too new: 9999-99-99T99:99:99Z"))
        assert (await refused(destination, logs(b"x"))).poison is None


async def test_labels_left_out_are_said_once(tmp_path, caplog):
    many = labels_of({f"l{i:02}": "x" for i in range(17)})
    async with loki(tmp_path, structured_metadata=False) as (receiver, destination):
        await destination.send([logs(b"a", labels=many)])
        await destination.send([logs(b"b", labels=many, first_time_ns=NOW_NS + 1)])
        assert receiver.judge.stored == 2
    assert [record.getMessage() for record in caplog.records if record.name == "telemetry_agent.loki"] == [
        "Loki takes 15 labels a stream and structured_metadata is false: l15, l16 left out"
    ]


async def test_a_slow_answer_is_waited_for(tmp_path):
    async with loki(tmp_path) as (receiver, destination):
        receiver.script(slow(0.05))
        assert await destination.send([logs(b"x")]) == Receipt()


@pytest.mark.parametrize(
    "url", ["http://h:3100", "http://h:3100/", "http://h:3100/loki/api/v1/push", "http://h:3100/loki/api/v1/push/"]
)
def test_the_path_is_added_once(url):
    assert push_url(url) == "http://h:3100/loki/api/v1/push"


@pytest.mark.parametrize(
    ("options", "key", "says"),
    [
        ({"url": "loki:3100"}, "url", 'got "loki:3100"'),
        ({"url": "http://user:pw@h"}, "url", "holds a user or password"),
        ({"url": "http://h:99999"}, "url", "Port out of range"),
        ({"url": "http://h/?x=1"}, "url", 'without "?"'),
        ({"url": "http://h", "tenant": "a\nb"}, "tenant", "header"),
        ({"url": "http://h", "user": "x"}, "user", "needs password_file"),
        ({"url": "http://h", "password_file": "x"}, "password_file", "needs user"),
        ({"url": "http://h", "key_file": "x"}, "key_file", "cert_file"),
        ({"url": "http://h", "user": "u", "password_file": "x", "token_file": "y"}, "token_file", "beside"),
        ({"url": "http://h", "headers": {"Authorization": "x"}}, "headers", "set by the agent"),
        ({"url": "http://h", "headers": {"a b": "x"}}, "headers", "not the name"),
        ({"url": "http://h", "headers": {"X-A": "x\r\nY: z"}}, "headers", "cannot carry"),
    ],
)
def test_wrong_options_are_named_with_their_key(options, key, says):
    ((found, message),) = LokiOptions(**options).faults()
    assert found == key
    assert says in message
    assert "pw" not in message


def test_right_options_have_no_fault():
    assert not list(LokiOptions(url="https://logs.example.net", user="1", token_file="%d/token").faults())
