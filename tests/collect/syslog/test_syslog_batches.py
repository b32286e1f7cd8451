"""This file shows what a batch of syslog messages is: their label set, their times, what stands beside them."""

from __future__ import annotations

import sys
from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.collect.syslog.batches import Batches
from agent.collect.syslog.options import SyslogOptions
from agent.wire.formats import format_of
from agent.wire.syslogframes import Framer, Piece, piece_of
from tests.fakes import FakeClock, context

NOW = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000
WEB = b"<13>Nov 20 17:29:00 web app[1]: "


def batches(tmp_path: Path, **options: Any) -> tuple[Batches, Any]:
    ctx = context(tmp_path, "syslog", clock=FakeClock(NOW_NS))
    return Batches(SyslogOptions(udp_listen="127.0.0.1:0", timezone="UTC", **options), ctx), ctx


def sent(*messages: bytes, peer: str = "192.0.2.1") -> tuple[str, Piece]:
    return peer, piece_of(list(messages))


def by_labels(made: list[Logs]) -> dict[tuple[tuple[str, str], ...], list[bytes]]:
    return {tuple(pair for pair in batch.labels if pair[0] != "source"): batch.records() for batch in made}


def test_messages_are_told_apart_by_host_and_application_and_stay_in_order(tmp_path: Path) -> None:
    messages = [
        WEB + b"1",
        b"<13>1 2026-11-20T17:29:00Z db su - - - 2",
        b"<13>Nov 20 17:29:00 web app: 3",
        b"<13>1 2026-11-20T17:29:00Z web app 9 - - 4",
        b"<13>1 2026-11-20T17:29:00Z - su - - - 5",
        b"<13>Nov 20 17:29:00 cron[2]: 6",
        b"no syslog",
    ]
    made = batches(tmp_path)[0].of([sent(*messages)])
    assert by_labels(made) == {
        (("app", "app"), ("host", "web")): [messages[0], messages[2], messages[3]],
        (("app", "su"), ("host", "db")): [messages[1]],
        (("app", "su"), ("host", "192.0.2.1")): [messages[4]],
        (("app", "cron"), ("host", "192.0.2.1")): [messages[5]],
        (("host", "192.0.2.1"),): [messages[6]],
    }
    assert all(dict(batch.labels)["source"] == "syslog" and batch.format == "syslog" for batch in made)


def test_a_message_of_this_machine_that_names_no_host_has_the_machines_name(tmp_path: Path) -> None:
    (batch,) = batches(tmp_path)[0].of([sent(b"<13>Nov 20 17:29:00 cron[2]: x", peer="")])
    assert batch.labels == (("app", "cron"), ("host", "testhost"), ("source", "syslog"))


def test_any_fields_may_become_labels(tmp_path: Path) -> None:
    fields = {"facility": "facility", "severity": "level", "peer": "from", "proc_id": "pid", "msg_id": "kind"}
    made, _ = batches(tmp_path, fields=fields, labels={"room": "1"})
    (one, two) = made.of(
        [sent(b"<30>1 2026-11-20T17:29:00Z web app 9 ID47 - x"), sent(b"<30>free text", peer="192.0.2.2")]
    )
    common = {"facility": "daemon", "level": "info", "host": "testhost", "source": "syslog", "room": "1"}
    assert dict(one.labels) == common | {"from": "192.0.2.1", "pid": "9", "kind": "ID47"}
    assert dict(two.labels) == common | {"from": "192.0.2.2"}


def test_fields_may_stand_beside_each_record(tmp_path: Path) -> None:
    made, _ = batches(tmp_path, fields={}, metadata={"peer": "peer", "msg_id": "kind"})
    (batch,) = made.of([sent(b"<30>1 - web app 9 ID47 - x", WEB), sent(b"<13>x", peer="")])
    assert dict(batch.metadata) == {0: (("kind", "ID47"), ("peer", "192.0.2.1")), 1: (("peer", "192.0.2.1"),)}
    assert batch.labels == (("host", "testhost"), ("source", "syslog"))


def test_beyond_the_bound_labels_become_metadata_and_are_counted(tmp_path: Path) -> None:
    made, ctx = batches(tmp_path, max_label_sets=2)
    messages = [b"<13>Nov 20 17:29:00 host%d app: x" % number for number in range(5)]
    assert len(made.of([sent(*messages[:2])])) == 2
    (known, rest) = made.of([sent(*messages[1:])])
    assert dict(known.labels)["host"] == "host1"
    assert rest.labels == (("host", "testhost"), ("source", "syslog"))
    assert rest.records() == messages[2:]
    assert dict(rest.metadata) == {i: (("app", "app"), ("host", f"host{i + 2}")) for i in range(3)}
    assert ctx.meter.value("telemetry_agent_syslog_labels_moved_total", ("syslog",)) == 3
    assert len(made.streams) == 2
    ctx.clock.move(3601)
    assert dict(made.of([sent(messages[4])])[0].labels)["host"] == "host4"


def test_times_are_those_of_the_messages_and_the_read_time_where_they_say_none(tmp_path: Path) -> None:
    made, ctx = batches(tmp_path, fields={})
    (batch,) = made.of([sent(b"<13>1 2026-11-20T17:29:00.000001Z h a - - - x", b"<13>x", b"<13>1 - h a - - - x")])
    assert batch.times_ns == array("q", [NOW_NS - 60_000_000_000 + 1000, NOW_NS, NOW_NS + 1])
    assert batch.severities == bytes((10, 10, 10))
    (batch,) = made.of([sent(b"no syslog", b"none either")])
    assert (batch.times_ns, batch.severities) == (None, None)
    assert ctx.meter.value("telemetry_agent_unparsed_total", ("syslog", "syslog")) == 2


def test_the_same_second_again_and_again_gives_each_record_a_time_of_its_own_in_order(tmp_path: Path) -> None:
    made, _ = batches(tmp_path)
    given: list[int] = []
    for _ in range(3):
        (batch,) = made.of([sent(*[WEB + b"same"] * 1000)])
        given += batch.times_ns or ()
    (batch,) = made.of([sent(b"<13>Nov 20 17:29:01 web app[1]: later", WEB + b"same")])
    given += batch.times_ns or ()
    assert len(set(given)) == 3002
    second_ns = NOW_NS - 60_000_000_000
    assert given[:3001] == sorted(given[:3001])
    assert all(0 <= time_ns - second_ns < 1_000_000 for time_ns in given[:3000])


def test_messages_that_come_late_time_and_again_have_times_of_their_own(tmp_path: Path) -> None:
    made, _ = batches(tmp_path)
    given: list[int] = []
    for second in (1, 2, 3):
        (batch,) = made.of([sent(b"<13>Nov 20 17:29:0%d web app[1]: new" % second, WEB + b"late")])
        given += batch.times_ns or ()
    assert len(set(given)) == 6


def test_a_message_with_lines_of_its_own_is_one_record(tmp_path: Path) -> None:
    (batch,) = batches(tmp_path)[0].of([sent(WEB + b"one\ntwo"), sent(WEB + b"three")])
    assert batch.separator != b"\n"
    assert batch.records() == [WEB + b"one\ntwo", WEB + b"three"]
    assert (format_of(batch.format).fields(batch.records()[0]) or {})["message"] == "one\ntwo"


def test_nothing_makes_nothing(tmp_path: Path) -> None:
    assert batches(tmp_path)[0].of([]) == []


def calls_of(made: Batches, count: int, message: bytes) -> int:
    """Functions of Python entered for so many messages that came in together."""
    framed = Framer(1 << 16).feed(b"".join(message % (number % 4) + b"\n" for number in range(count)))
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    try:
        made.of([("192.0.2.1", piece) for piece in framed.pieces])
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "message",
    [
        b"<13>Nov 20 17:29:00 web%d app[1]: a message of some length that is sent again and again",
        b"<14>1 2026-11-20T17:29:00.123456Z web%d su 1 - - a message of some length that is sent again and again",
        b"<14>1 2026-11-20T17:29:00.123+01:00 web%d su 1 - - a message of some length that is sent again and again",
        b"<14>1 2026-11-20T17:29:00Z web%d su 1 - - a message of some length that is sent again and again",
        b"<14>2026-11-20T17:29:00.123456+00:00 web%d su[1]: a message of some length that is sent again and again",
    ],
)
def test_no_python_runs_for_each_message(tmp_path: Path, message: bytes) -> None:
    made, _ = batches(tmp_path)
    few, many = calls_of(made, 500, message), calls_of(made, 5000, message)
    slices = 5000 * len(message) // (64 << 10)
    assert many - few <= 60 * slices


heads = st.sampled_from(
    [
        *(b"<13>Nov 20 17:29:00 web app[1]: ", b"<13>Nov 20 17:29:00 tag: ", b"Nov 20 17:29:00 web app: "),
        *(b"<14>1 2026-11-20T17:29:00.25Z db su - - - ", b"<14>1 2026-11-20T17:29:00+01:00 db su - - - "),
        *(b"<999>", b"<15>", b""),
    ]
)
messages = st.tuples(heads, st.binary(max_size=5)).map(b"".join).filter(lambda each: each.strip(b"\r\n\0"))


@pytest.mark.parametrize("options", [{}, {"fields": {}}, {"metadata": {"peer": "p"}}, {"max_label_sets": 1}])
@given(st.lists(st.tuples(st.sampled_from(["", "::1"]), st.lists(messages, min_size=1, max_size=8)), max_size=4))
@settings(max_examples=60)
def test_every_message_is_in_one_batch_as_it_came(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any], came: list[tuple[str, list[bytes]]]
) -> None:
    made, _ = batches(tmp_path_factory.getbasetemp(), **options)
    found = made.of([sent(*each, peer=peer) for peer, each in came])
    everything = [message for _, each in came for message in each]
    assert sorted(record for batch in found for record in batch.records()) == sorted(everything)
    for batch in found:
        assert len(batch.records()) == batch.count
        assert batch.times_ns is None or (len(batch.times_ns) == batch.count and all(batch.times_ns))
        assert batch.severities is None or len(batch.severities) == batch.count
        assert set(batch.metadata) <= set(range(batch.count))
