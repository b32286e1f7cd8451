"""This file shows what syslog messages say of themselves, read as columns and one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Logs
from agent.wire.format import Columns, Moment
from agent.wire.formats import format_of
from agent.wire.formats.syslog import FORMAT
from agent.wire.syslogheads import heads_of, host_and_app

SAMPLES = Path(__file__).parents[2] / "fixtures/logs/syslog"
NOW = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)
BERLIN_WINTER = timezone(timedelta(hours=1))


def ns(text: str) -> int:
    when = datetime.fromisoformat(text)
    return int(when.replace(microsecond=0).timestamp()) * 1_000_000_000 + when.microsecond * 1000


def moment(now: datetime = NOW, zone: timezone = timezone.utc) -> Moment:  # noqa: UP017 - a type, not the constant
    return Moment(int(now.timestamp()) * 1_000_000_000, zone)


def columns(*records: bytes, separator: bytes = b"\n", now: Moment | None = None) -> Columns:
    block = b"".join(record + separator for record in records)
    return FORMAT.columns(Logs("syslog", (), block, len(records), separator=separator), now or moment())


def time_of(record: bytes, now: Moment | None = None) -> int:
    times_ns = columns(record, now=now).times_ns
    return times_ns[0] if times_ns else 0


def test_it_is_in_the_catalogue() -> None:
    assert format_of("syslog") is FORMAT
    assert (FORMAT.name, FORMAT.joining) == ("syslog", None)


@pytest.mark.parametrize(
    ("record", "time"),
    [
        (b"<34>1 2003-10-11T22:14:15.003Z host app - - - x", "2003-10-11T22:14:15.003Z"),
        (b"<165>1 2003-08-24T05:14:15.000003-07:00 host app - - - x", "2003-08-24T05:14:15.000003-07:00"),
        (b"<34>1 2003-10-11T22:14:15Z host app - - - x", "2003-10-11T22:14:15Z"),
        (b"<34>Oct 11 22:14:15 host app: x", "2026-10-11T22:14:15Z"),
        (b"<34>Nov  1 22:14:15 host app: x", "2026-11-01T22:14:15Z"),
        (b"<34>Nov 11 22:14:15 app[1]: x", "2026-11-11T22:14:15Z"),
        (b"<34>Nov 11 22:14:15.250 host app: x", "2026-11-11T22:14:15.25Z"),
        (b"<34>2003-10-11T22:14:15.003+02:00 host app[1]: x", "2003-10-11T22:14:15.003+02:00"),
        (b"Nov 11 22:14:15 host app: x", "2026-11-11T22:14:15Z"),
        (b"2026-11-20T17:00:05+00:00 host app: x", "2026-11-20T17:00:05Z"),
        (b"<189>57: *Mar  1 2003 22:14:15.003 UTC: %SYS-5-CONFIG_I: x", "2003-03-01T22:14:15.003Z"),
        (b"<189>57: Mar  1 22:14:15 UTC: %SYS-5-CONFIG_I: x", "2026-03-01T22:14:15Z"),
        (b"<166>Nov 11 2022 22:14:15: %ASA-6-302013: x", "2022-11-11T22:14:15Z"),
        (b"<189>Mar  1 22:14:15 UTC: %SYS-5-CONFIG_I: x", "2026-03-01T22:14:15Z"),
        (b"<189>Mar  1 22:14:15.5 +02:00: %SYS-5-CONFIG_I: x", "2026-03-01T20:14:15.5Z"),
        (b"<34>Nov 11 22:14:15 2022 host app: x", "2022-11-11T22:14:15Z"),
    ],
)
def test_the_time_of_a_message_is_read_in_every_way_it_is_written(record: bytes, time: str) -> None:
    assert time_of(record) == ns(time)
    assert columns(record).unparsed == 0


def test_a_missing_year_is_the_last_one_in_which_the_time_is_not_more_than_a_day_ahead() -> None:
    at_new_year = moment(datetime(2027, 1, 1, 0, 0, 3, tzinfo=UTC))
    assert time_of(b"<13>Dec 31 23:59:59 host app: x", at_new_year) == ns("2026-12-31T23:59:59Z")
    just_before = moment(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert time_of(b"<13>Jan  1 00:00:01 host app: x", just_before) == ns("2027-01-01T00:00:01Z")
    assert time_of(b"<13>Feb 29 12:00:00 host app: x") == ns("2024-02-29T12:00:00Z")


def test_a_missing_zone_is_the_one_that_was_given() -> None:
    assert time_of(b"<13>Nov 20 12:00:00 host app: x", moment(zone=BERLIN_WINTER)) == ns("2026-11-20T12:00:00+01:00")
    assert time_of(b"<13>1 2026-11-20T12:00:00Z h a - - - x", moment(zone=BERLIN_WINTER)) == ns("2026-11-20T12:00:00Z")


@pytest.mark.parametrize(
    ("record", "severity"),
    [
        *((b"<0>x", 21), (b"<1>x", 19), (b"<34>x", 18), (b"<11>x", 17), (b"<12>x", 13), (b"<13>x", 10), (b"<14>x", 9)),
        *((b"<191>x", 5), (b"<192>x", 0), (b"x", 0), (b"Nov 11 22:14:15 host app: x", 0)),
    ],
)
def test_the_severity_is_that_of_the_priority(record: bytes, severity: int) -> None:
    assert (columns(record).severities or b"\0")[0] == severity


def test_messages_of_all_kinds_stand_beside_each_other() -> None:
    records = [
        b"<34>1 2003-10-11T22:14:15.003Z host app - - - x",
        b"<13>Nov 11 22:14:15 host app: x",
        b"garbage",
        b"<14>1 2003-10-11T22:14:15+02:00 host app - - - x",
        b"<15>1 - host app - - - x",
        b"<12>2003-10-11T22:14:15Z host app: x",
    ]
    times = ["2003-10-11T22:14:15.003Z", "2026-11-11T22:14:15Z", "", "2003-10-11T20:14:15Z", "", "2003-10-11T22:14:15Z"]
    wanted = ([ns(time) if time else 0 for time in times], bytes((18, 10, 0, 9, 5, 13)), 1)
    for separator in (b"\n", b"\x1e"):
        found = columns(*records, separator=separator)
        assert (list(found.times_ns or ()), found.severities, found.unparsed) == wanted
    found = columns(*[record + b"\nsecond line" for record in records], separator=b"\0")
    assert (list(found.times_ns or ()), found.severities, found.unparsed) == wanted


def test_what_is_no_syslog_says_nothing_and_is_counted() -> None:
    assert columns(b"one", b"", b"<>x", b"<1234>x", b"\xff\0<13>") == Columns(None, None, 5)
    assert columns() == Columns()


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (
            b'<34>1 2003-10-11T22:14:15.003Z host app 123 ID47 [origin ip="192.0.2.1"][a@1 n="1" n="2" q="a\\"b\\]"] x',
            {
                "facility": "auth",
                "severity": "crit",
                "hostname": "host",
                "app_name": "app",
                "proc_id": "123",
                "msg_id": "ID47",
                "message": "x",
                "structured_data": {"origin": {"ip": "192.0.2.1"}, "a@1": {"n": ["1", "2"], "q": 'a"b]'}},
            },
        ),
        (b"<8>1 - - - - - -", {"facility": "user", "severity": "emerg", "message": ""}),
        (
            b"<8>1 - - - - - - \xef\xbb\xbf\xc3\xa9",
            {"facility": "user", "severity": "emerg", "message": "\N{LATIN SMALL LETTER E WITH ACUTE}"},
        ),
        (
            b"<8>1 - - - - - [a] x",
            {"facility": "user", "severity": "emerg", "structured_data": {"a": {}}, "message": "x"},
        ),
        (b"<8>1 - - - - - [a b x", {"facility": "user", "severity": "emerg", "message": "[a b x"}),
        (
            b"<30>Oct 11 22:14:15 host sshd[99]: Failed password",
            {
                "facility": "daemon",
                "severity": "info",
                "hostname": "host",
                "app_name": "sshd",
                "proc_id": "99",
                "message": "Failed password",
            },
        ),
        (
            b"<30>Oct 11 22:14:15 sshd[99]: x",
            {"facility": "daemon", "severity": "info", "app_name": "sshd", "proc_id": "99", "message": "x"},
        ),
        (
            b"<30>Oct 11 22:14:15 fe80::1 kernel: x",
            {"facility": "daemon", "severity": "info", "hostname": "fe80::1", "app_name": "kernel", "message": "x"},
        ),
        (
            b"<30>Oct 11 22:14:15 host no tag at all",
            {"facility": "daemon", "severity": "info", "hostname": "host", "message": "no tag at all"},
        ),
        (b"Oct 11 22:14:15 host cron[1]: x", {"hostname": "host", "app_name": "cron", "proc_id": "1", "message": "x"}),
        (b"<30>text", {"facility": "daemon", "severity": "info", "message": "text"}),
        (
            b"<189>57: *Mar  1 2003 22:14:15.003 UTC: %SYS-5-CONFIG_I: x",
            {"facility": "local7", "severity": "notice", "app_name": "%SYS-5-CONFIG_I", "message": "x"},
        ),
        (b"<192>1 - - - - - -", None),
        (b"no syslog", None),
        (b"", None),
    ],
)
def test_fields_are_what_the_header_says_and_the_message_what_is_left(
    record: bytes, fields: dict[str, Any] | None
) -> None:
    assert FORMAT.fields(record) == fields


@pytest.mark.parametrize(
    ("record", "sure"),
    [
        (b"<13>1 2026-11-20T17:00:05Z host app - - - x", True),
        (b"<13>1 - host app - - - x", True),
        (b"<13>Nov 20 17:00:05 host app: x", True),
        (b"Nov 20 17:00:05 host app: x", True),
        (b"2026-11-20T17:00:05.123456+00:00 host app[1]: x", True),
        (b"2026-11-20T17:00:05Z INFO something: x", True),
        (b"2026-11-20T17:00:05Z something happened", False),
        (b"<13>x", False),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_only_what_has_a_time_and_says_more_is_taken_for_syslog(record: bytes, sure: bool) -> None:
    assert FORMAT.matches(record) is sure


@pytest.mark.parametrize("name", ["rfc5424.log", "tcp_newline.frames", "traditional.log", "iso.log"])
def test_what_a_real_rsyslog_wrote_is_read(name: str) -> None:
    records = (SAMPLES / name).read_bytes().splitlines()
    found = columns(*records)
    invalid = [record for record in records if record.startswith(b"<invld>")]
    assert found.unparsed == len(invalid)
    assert found.times_ns is not None
    assert found.times_ns.count(0) == len(invalid)
    assert [FORMAT.fields(record) is None for record in records] == [record in invalid for record in records]
    shop = FORMAT.fields(records[0]) or {}
    assert (shop["hostname"], shop["app_name"], shop["proc_id"]) == ("vm", "shop", "4711")
    assert shop["message"].strip() == "order 17 accepted"
    assert found.times_ns[0] == ns("2026-11-20T17:00:05Z")


def test_the_structured_data_of_a_real_rsyslog_is_read() -> None:
    record = (SAMPLES / "rfc5424.log").read_bytes().splitlines()[3]
    assert (FORMAT.fields(record) or {})["structured_data"] == {
        "timeQuality": {"tzKnown": "1", "isSynced": "0"},
        "order@32473": {"id": "17", "item": 'an "apple" ] \\ pie'},
    }


words = b"< > <13> <34>1 1 - 2003-10-11T22:14:15 .003 Z +02:00 Nov 22:14:15 : [ ] \\ = host app 2022 UTC * 9".split()
parts = st.sampled_from([*words, b" ", b" ", b" ", b'"', b"\xff", b"\0", b"Nov 11 ", b"Nov 11 22:14:15 "])


@given(st.lists(st.lists(parts, max_size=12).map(b"".join), min_size=1, max_size=12))
@settings(max_examples=300)
def test_any_bytes_are_read_alike_together_and_alone(records: list[bytes]) -> None:
    together = columns(*records, separator=b"\x1e")
    alone = [columns(record, separator=b"\x1e") for record in records]
    assert list(together.times_ns or [0] * len(records)) == [(each.times_ns or [0])[0] for each in alone]
    assert (together.severities or bytes(len(records))) == b"".join(each.severities or b"\0" for each in alone)
    assert together.unparsed == sum(each.unparsed for each in alone)
    for record in records:
        FORMAT.fields(record)
        FORMAT.matches(record)


@given(st.binary(max_size=200))
def test_no_bytes_are_too_much(record: bytes) -> None:
    FORMAT.fields(record)
    columns(record.replace(b"\x1e", b""), separator=b"\x1e")


def test_names_are_told_from_the_beginning_alone() -> None:
    block = b"<13>Nov 11 22:14:15 web app[1]: x\n<13>1 2003-10-11T22:14:15Z - su - - - x\n<13>Nov 11 22:14:15 cron: x\n"
    names = heads_of(block, None, moment()).names
    assert list(map(host_and_app, names)) == [(b"web", b"app"), (b"", b"su"), (b"", b"cron")]
