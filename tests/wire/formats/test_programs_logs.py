"""Python, Java, Go, Node, Ruby and .NET: layouts and traces that the samples do not have."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agent.batch import Logs
from agent.wire.format import Moment
from agent.wire.formats import format_of
from agent.wire.joining import joined

NOW = datetime(2026, 11, 20, 18, tzinfo=UTC)
MOMENT = Moment(int(NOW.timestamp()) * 10**9, UTC)
AT = int(datetime(2026, 11, 20, 16, 40, 1, tzinfo=UTC).timestamp()) * 10**9
MS = 123_000_000


def read(name: str, *records: bytes) -> list[tuple[int, int]]:
    """Time and severity of each record; 0 where it says none."""
    block = b"".join(record + b"\x1e" for record in records)
    columns = format_of(name).columns(Logs("", (), block, len(records), b"\x1e"), MOMENT)
    assert columns.times_ns is not None
    assert columns.severities is not None
    return list(zip(columns.times_ns, columns.severities, strict=True))


def records(name: str, lines: bytes) -> list[bytes]:
    joining = format_of(name).joining
    assert joining is not None
    whole, separator, _ = joined(joining, lines, 1 << 20)
    return whole.split(separator)[:-1]


@pytest.mark.parametrize(
    ("name", "record", "time_ns", "severity"),
    [
        ("python", b"2026-11-20 16:40:01,123 WARNING [shop.orders:12] low", AT + MS, 13),
        ("python", b"2026-11-20 16:40:01.123 | ERROR    | shop.orders:pay:12 - no price", AT + MS, 17),  # loguru
        ("python", b"2026-11-20T16:40:01.123+00:00 shop CRITICAL out of stock", AT + MS, 21),
        ("python", b"2026-11-20T16:40:01.123Z [warning  ] low stock   [shop.orders] left=3", AT + MS, 13),  # structlog
        ("python", b"2026-11-20 16:40:01 no error info is a debug level", AT, 0),
        ("python", b"[2026-11-20 16:40:01 +0000] [71] [INFO] Booting worker with pid: 71", AT, 9),  # gunicorn
        ("python", b'INFO:     127.0.0.1:52 - "GET / HTTP/1.1" 200 OK', 0, 9),  # uvicorn
        ("python", b"2026-11-20 16:40:01 nothing of a level", AT, 0),
        ("java", b"20-Nov-2026 16:40:01.123 SEVERE [main] org.apache.catalina.Startup.load no", AT + MS, 17),
        ("java", b"2026-11-20 16:40:01.123:INFO:oejs.Server:main: jetty-9.4.48", AT + MS, 9),
        ("java", b"26/11/20 16:40:01 WARN NativeCodeLoader: no native library", AT, 13),  # Hadoop, Spark
        ("java", b"2026-11-20 16:40:01,123 [myid:1] - INFO  [main:Quorum@1] - starting", AT + MS, 9),  # ZooKeeper
        ("java", b"2026-11-20 16:40:01,123 INFO  [o.e.Orders] (default task-1) fine", AT + MS, 9),
        ("java", b"0    [main] DEBUG org.example.Orders  - log4j's TTCC", 0, 5),
        ("java", b"WARN  [main] org.example.Orders: no time", 0, 13),
        ("java", b"Nov 20, 2026 4:40:01\xe2\x80\xafPM org.example.Orders pay\nWARNING: low", AT, 13),
        ("java", b"Nov 20, 2026 12:40:01 AM org.example.Orders pay\nINFO: at night", AT - 16 * 3600 * 10**9, 9),
        ("go", b"I1120 16:40:01.123000      71 main.go:12] accepted", AT + MS, 9),
        ("go", b"E1120 16:40:01.123000      71 main.go:12] failed", AT + MS, 17),
        ("go", b'{"level":"warn","ts":1795192801.123,"caller":"a.go:1","msg":"low"}', AT + MS, 13),
        ("go", b'time="2026-11-20T16:40:01Z" level=fatal msg="no"', AT, 21),
        ("go", b'2026-11-20T16:40:01.123Z\tDEBUG\tshop\tmain.go:12\tbasket\t{"apple": 1}', AT + MS, 5),
        ("go", b"2026/11/20 16:40:01 DEBUG-4 finer", AT, 1),
        ("go", b"2026/11/20 16:40:01 INFO+2 notable", AT, 11),
        ("go", b"2026/11/20 16:40:01 INFORMAL words", AT, 0),
        ("go", b"fatal error: concurrent map writes\n\ngoroutine 7 [running]:", 0, 21),
        ("node", b"[2026-11-20T16:40:01.123Z] warn: low", AT + MS, 13),
        ("node", b"2026-11-20 16:40:01 [error] no", AT, 17),
        ("node", b"2026-11-20T16:40:01.123Z GET http://a/ an error: none", AT + MS, 0),
        ("node", b"TypeError: x is not a function\n    at pay (/srv/a.js:1:2)", 0, 17),
        ("node", b"(node:71) MaxListenersExceededWarning: Possible leak", 0, 13),
        ("ruby", b"W, [2026-11-20T16:40:01.123000 #71]  WARN -- : low", AT + MS, 13),
        ("ruby", b"2026-11-20T16:40:01.123Z pid=71 tid=a INFO: Booting Sidekiq", AT + MS, 9),
        ("dotnet", b"[16:40:01 WRN] low", AT, 13),
        ("dotnet", b"trce: A.B[0]\n      x", 0, 1),
        ("dotnet", b"2026-11-20 16:40:01.1230|ERROR|Shop.Orders|no price", AT + MS, 17),  # NLog
    ],
)
def test_layouts_that_programs_use_give_time_and_severity(
    name: str, record: bytes, time_ns: int, severity: int
) -> None:
    assert read(name, record) == [(time_ns, severity)]
    assert format_of(name).fields(record) is not None


@pytest.mark.parametrize(
    ("name", "record", "fields"),
    [
        (
            "python",
            b"2026-11-20 16:40:01,123 - shop - INFO - a - b",
            {"time": "2026-11-20 16:40:01,123", "logger": "shop", "level": "INFO", "message": "a - b"},
        ),
        (
            "java",
            b"20-Nov-2026 16:40:01.123 SEVERE [main] org.apache.Startup.load no\n\tat a.B.c(B.java:1)",
            {
                "time": "20-Nov-2026 16:40:01.123",
                "level": "SEVERE",
                "thread": "main",
                "logger": "org.apache.Startup.load",
                "message": "no",
                "stack": "\tat a.B.c(B.java:1)",
            },
        ),
        (
            "go",
            b"E1120 16:40:01.123000      71 main.go:12] failed",
            {
                "time": "1120 16:40:01.123000",
                "level": "E",
                "pid": 71,
                "file": "main.go",
                "line": 12,
                "message": "failed",
            },
        ),
        (
            "node",
            b"TypeError: x is not a function\n    at pay (/srv/a.js:1:2)",
            {
                "exception_type": "TypeError",
                "message": "x is not a function",
                "exception_message": "x is not a function",
                "stack": "    at pay (/srv/a.js:1:2)",
            },
        ),
        (
            "dotnet",
            b"[16:40:01 ERR] no\nSystem.Exception: none\n   at A.B() in C:\\a.cs:line 1",
            {
                "time": "16:40:01",
                "level": "ERR",
                "message": "no",
                "exception_type": "System.Exception",
                "exception_message": "none",
                "stack": "System.Exception: none\n   at A.B() in C:\\a.cs:line 1",
            },
        ),
    ],
)
def test_what_a_record_holds_is_given_by_name(name: str, record: bytes, fields: dict[str, object]) -> None:
    assert format_of(name).fields(record) == fields


def test_a_time_of_day_alone_is_the_last_one_that_was() -> None:
    """At six in the evening: twenty to five was today, a quarter to midnight yesterday."""
    today, yesterday = read("java", b"16:40:01.123 [main] INFO a.B - x", b"23:45:00.000 [main] INFO a.B - y")
    assert today == (AT + MS, 9)
    assert yesterday[0] == int(datetime(2026, 11, 19, 23, 45, tzinfo=UTC).timestamp()) * 10**9


def test_records_of_several_layouts_in_one_block_are_all_read() -> None:
    found = read(
        "java",
        b"2026-11-20 16:40:01.123 [main] INFO a.B - x",
        b'Exception in thread "main" a.B: no\n\tat a.B.c(B.java:1)',
        b"hello",
        b"ERROR: no time",
    )
    assert found == [(AT + MS, 9), (0, 17), (0, 0), (0, 17)]


TRACES = {
    "python": b'2026-11-20 16:40:01,123 ERROR a: no\nTraceback (most recent call last):\n  File "a", line 1\nE: x\ny\n',
    "java": b"16:40:01.123 [main] ERROR a.B - no\na.E: x\ny\n\tat a.B.c(B.java:1)\nCaused by: a.F\n\t... 12 more\n\n",
    "go": b"panic: x\n\tpanic: y\n\ngoroutine 1 [x]:\nmain.main()\n\t/a.go:1 +0x1\n\ngoroutine 7 [y]:\nexit status 2\n",
    "node": b"2026-11-20T16:40:01.123Z error: no E: x\n    at a (/b.js:1:2) {\n  code: 'E',\n  [cause]: F: y\n}\n",
    "ruby": b"E, [2026-11-20T16:40:01.123000 #71] ERROR -- : x\ny (E)\na.rb:1:in `b'\n\tfrom a.rb:2:in `c'\n\n",
    "dotnet": b"fail: A[0]\n      no\n      E: x\n       ---> F: y\n         at A.B()\n--- End of stack trace ---\n",
}


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_of_any_number_of_lines_is_one_record(name: str) -> None:
    lines = TRACES[name]
    assert records(name, lines * 3) == [lines[:-1]] * 3


@pytest.mark.parametrize("name", TRACES)
def test_what_a_trace_says_of_a_level_is_not_the_level(name: str) -> None:
    first, second = read(name, TRACES[name][:-1] + b"\nFATAL ERROR PANIC", TRACES[name][:-1])
    assert first == second


def test_node_shows_the_line_that_threw_with_its_error() -> None:
    lines = b"/a.js:3\n  throw new Error('x');\n  ^\n\nError: x\n    at a (/a.js:3:9)\n\nNode.js v20.20.2\n"
    first, second = records("node", lines)
    assert first.startswith(b"/a.js:3\n")
    assert first.endswith(b"(/a.js:3:9)\n")
    assert second == b"Node.js v20.20.2"
    assert read("node", first) == [(0, 17)]
