"""Apache: what its logs hold beyond the samples, and what is none of it."""

from __future__ import annotations

from datetime import UTC

import pytest

from agent.batch import Logs
from agent.wire.format import Moment
from agent.wire.formats.apache import FORMAT

MOMENT = Moment(1_795_197_600 * 10**9, UTC)
LINE = b'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "%s" %d %s "-" "-"'


def severities(*records: bytes) -> tuple[bytes | None, int]:
    block = b"".join(record + b"\n" for record in records)
    columns = FORMAT.columns(Logs("", (), block, len(records)), MOMENT)
    return columns.severities, columns.unparsed


def test_the_example_of_apaches_own_manual_is_read() -> None:
    record = b'127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
    assert FORMAT.fields(record) == {
        "remote_addr": "127.0.0.1",
        "remote_user": "frank",
        "time": "10/Oct/2000:13:55:36 -0700",
        "method": "GET",
        "path": "/apache_pb.gif",
        "protocol": "HTTP/1.0",
        "status": 200,
        "body_bytes_sent": 2326,
    }


def test_an_answer_without_a_body_has_no_bytes() -> None:
    fields = FORMAT.fields(LINE % (b"GET / HTTP/1.1", 304, b"-"))
    assert fields is not None
    assert fields["body_bytes_sent"] == 0


@pytest.mark.parametrize(
    "request_line", [rb"\"", rb"\\", rb"GET /\\\" HTTP/1.1", rb"GET /\\", rb"\\\\\"", rb"a \" 200 1 \" b"]
)
def test_escapes_do_not_hide_the_status(request_line: bytes) -> None:
    record = LINE % (request_line, 503, b"5")
    assert severities(record, LINE % (b"GET / HTTP/1.1", 200, b"5")) == (bytes([17, 9]), 0)
    fields = FORMAT.fields(record)
    assert fields is not None
    assert fields["status"] == 503


def test_what_a_browser_says_of_itself_is_never_taken_for_the_status() -> None:
    record = rb'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET /\\" 200 12 " 503 x" "a"'
    assert severities(record) == (bytes([9]), 0)


def test_an_error_of_before_version_2_4_is_read() -> None:
    fields = FORMAT.fields(b"[Fri Nov 20 16:40:01 2026] [error] [client 10.0.0.1] File does not exist: /srv/x")
    assert fields == {
        "time": "Fri Nov 20 16:40:01 2026",
        "level": "error",
        "client": "10.0.0.1",
        "message": "File does not exist: /srv/x",
    }


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("trace1", 1),
        ("trace8", 1),
        ("debug", 5),
        ("info", 9),
        ("notice", 10),
        ("warn", 13),
        ("error", 17),
        ("crit", 18),
        ("alert", 19),
        ("emerg", 21),
    ],
)
def test_the_severity_of_an_error_is_that_of_its_level(level: str, severity: int) -> None:
    record = f"[Fri Nov 20 16:40:01.123456 2026] [core:{level}] [pid 1:tid 2] something".encode()
    assert severities(record) == (bytes([severity]), 0)


@pytest.mark.parametrize(
    "record", [b"", b"AH00558: apache2: Could not reliably determine the name", b"[Fri Nov 20] [x] y"]
)
def test_what_apache_does_not_write_into_its_logs_is_counted(record: bytes) -> None:
    assert severities(record) == (bytes([0]), 1)
    assert FORMAT.fields(record) is None
