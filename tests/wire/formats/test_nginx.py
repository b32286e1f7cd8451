"""nginx: what its logs hold beyond the samples, and what is none of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from agent.batch import Logs
from agent.wire.format import Moment
from agent.wire.formats.nginx import FORMAT
from agent.wire.joining import joined

MOMENT = Moment(1_795_197_600 * 10**9, UTC)
LINE = b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET /%s HTTP/1.1" %d 5 "-" "curl/7.88.1"'


def logs(*records: bytes, separator: bytes = b"\n") -> Logs:
    return Logs("", (), b"".join(record + separator for record in records), len(records), separator)


def time_ns(record: bytes, moment: Moment = MOMENT) -> int:
    times = FORMAT.columns(logs(record), moment).times_ns
    assert times is not None
    return times[0]


def ns(*when: int, zone: timezone = UTC) -> int:
    return int(datetime(*when, tzinfo=zone).timestamp()) * 10**9  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("status", "severity"), [(101, 9), (200, 9), (304, 9), (400, 13), (404, 13), (499, 13), (500, 17), (503, 17)]
)
def test_the_severity_of_a_request_is_that_of_its_status(status: int, severity: int) -> None:
    assert FORMAT.columns(logs(LINE % (b"", status)), MOMENT).severities == bytes([severity])


def test_a_request_happened_in_the_zone_that_its_time_names() -> None:
    record = LINE.replace(b"+0000", b"-0330") % (b"", 200)
    assert time_ns(record) == ns(2026, 11, 20, 16, 40, 1, zone=timezone(-timedelta(hours=3, minutes=30)))


def test_an_error_happened_in_the_zone_of_the_machine() -> None:
    record = b"2026/11/20 16:40:01 [crit] 7#8: *9 SSL_read() failed"
    zone = timezone(timedelta(hours=2))
    assert time_ns(record, Moment(MOMENT.now_ns, zone)) == ns(2026, 11, 20, 16, 40, 1, zone=zone)
    assert FORMAT.columns(logs(record), MOMENT).severities == bytes([18])


def test_what_a_log_format_adds_is_given_by_its_names_and_as_it_stands() -> None:
    record = LINE % (b"", 200) + b' "203.0.113.9" request_time=0.125 upstream="127.0.0.1:80" cache=HIT gzip="-"'
    fields = FORMAT.fields(record)
    assert fields is not None
    assert {name: fields[name] for name in ("request_time", "upstream", "cache", "status")} == {
        "request_time": 0.125,
        "upstream": "127.0.0.1:80",
        "cache": "HIT",
        "status": 200,
    }
    assert fields["rest"].startswith('"203.0.113.9" request_time=')
    assert "gzip" not in fields


def test_nothing_added_to_a_line_takes_the_place_of_what_it_says_itself() -> None:
    fields = FORMAT.fields(LINE % (b"", 200) + b" status=500 remote_addr=evil")
    assert fields is not None
    assert (fields["status"], fields["remote_addr"]) == (200, "10.0.0.1")


def test_a_time_within_a_user_or_a_request_is_not_the_time_of_it() -> None:
    inside = b"[01/Jan/1999:00:00:00 +0000] \\x22GET / HTTP/1.1\\x22 500 1"
    records = [
        b'10.0.0.1 - x [y [20/Nov/2026:16:40:01 +0000] "GET / HTTP/1.1" 404 5 "-" "-"',
        b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET /' + inside + b' HTTP/1.1" 404 5 "-" "-"',
    ]
    columns = FORMAT.columns(logs(*records), MOMENT)
    assert columns.times_ns is not None
    assert list(columns.times_ns) == [ns(2026, 11, 20, 16, 40, 1)] * 2
    assert columns.severities == bytes([13, 13])


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"hello",
        b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET / HTTP/1.1',
        b'10.0.0.1 - - [20/Nov/2026:16:40:01] "GET / HTTP/1.1" 200 5',
        b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET / HTTP/1.1" - 5',
        b"2026/11/20 16:40:01 order 17 accepted",
        b"2026/11/20 16:40:01 [error] no process",
    ],
)
def test_what_nginx_does_not_write_is_counted_and_has_no_fields(record: bytes) -> None:
    columns = FORMAT.columns(logs(LINE % (b"a", 200), record, LINE % (b"b", 500)), MOMENT)
    assert columns.unparsed == 1
    assert columns.severities == bytes([9, 0, 17])
    assert columns.times_ns is not None
    assert columns.times_ns[1] == 0
    assert FORMAT.fields(record) is None
    assert not FORMAT.matches(record)


def test_both_logs_in_one_block_are_read() -> None:
    error = b"2026/11/20 16:40:02 [warn] 7#7: low on connections"
    columns = FORMAT.columns(logs(LINE % (b"", 200), error, LINE % (b"", 500)), MOMENT)
    assert columns.times_ns is not None
    assert [time - columns.times_ns[0] for time in columns.times_ns] == [0, 10**9, 0]
    assert (columns.severities, columns.unparsed) == (bytes([9, 13, 17]), 0)


def test_what_php_said_goes_on_the_error_it_belongs_to() -> None:
    lines = (
        b'2026/11/20 16:40:01 [error] 7#7: *1 FastCGI sent in stderr: "PHP message: PHP Fatal error: no\n'
        b"Stack trace:\n#0 /srv/a.php(7): total(Array)\n#1 {main}\n"
        b'  thrown in /srv/a.php on line 31" while reading, client: 10.0.0.1, server: a\n' + LINE % (b"", 200) + b"\n"
    )
    assert FORMAT.joining is not None
    whole, separator, count = joined(FORMAT.joining, lines, 1 << 20)
    assert count == 2
    fields = FORMAT.fields(whole.split(separator)[0])
    assert fields is not None
    assert fields["message"].endswith('thrown in /srv/a.php on line 31" while reading')
    assert (fields["client"], fields["server"]) == ("10.0.0.1", "a")


def test_a_request_that_never_came_has_no_parts() -> None:
    fields = FORMAT.fields(b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "-" 408 0 "-" "-"')
    assert fields is not None
    assert fields["status"] == 408
    assert fields.keys().isdisjoint({"request", "method", "path", "protocol"})


def test_a_line_end_of_windows_is_no_part_of_a_record() -> None:
    fields = FORMAT.fields(LINE % (b"", 200) + b"\r")
    assert fields is not None
    assert fields["user_agent"] == "curl/7.88.1"
    assert "rest" not in fields
