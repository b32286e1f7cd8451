"""This file holds that reading access logs a block at a time gives what taking each line apart gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.process.fields.access import DIRECT, PARTS, access_columns
from agent.process.fields.reader import Reader, _at
from agent.process.fields.values import plain
from agent.wire.formats import format_of
from tests.process.making import logs

NAMES = sorted(DIRECT | PARTS)
SAMPLES = sorted((Path(__file__).parents[2] / "fixtures" / "logs").glob("*/access*.log"))


def line_by_line(records: Sequence[bytes], log_format: str, name: str) -> list[object]:
    rows = [format_of(log_format).fields(record) for record in records]
    return plain([None if row is None else _at(row, name) for row in rows])


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_real_servers_wrote_reads_alike(path: Path) -> None:
    records = path.read_bytes().split(b"\n")[:-1]
    batch = logs(*records, format=path.parent.name)
    table = Reader(NAMES).table(batch)
    for name in NAMES:
        assert list(table.column(name)) == line_by_line(records, path.parent.name, name), name


def test_a_plain_access_log_is_read_a_block_at_a_time() -> None:
    line = b'10.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET /a HTTP/1.1" 404 5 "-" "curl/7"'
    for name in ("nginx", "apache"):
        found = access_columns(logs(line, line, format=name), format_of(name), ["status", "path", "referer"])
        assert found == {"status": [404, 404], "path": ["/a", "/a"], "referer": [None, None]}


REQUEST = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a b HTTP/2", b"-", b"", b"\\x16\\x03", b"get /", b"GET /\xff HTTP/1.0"]
)
TAIL = st.sampled_from(
    [b"", b' "-" "curl/7"', b' "https://a/" "x" rt=1 method=y', b' "" "-"', b" status=7 referer=z", b"\r"]
)
LINE = st.one_of(
    st.builds(
        lambda head, user, request, status, size, tail: (
            b'%b - %b [14/Nov/2023:22:13:20 +0000] "%b" %b %b%b' % (head, user, request, status, size, tail)
        ),
        st.sampled_from([b"10.0.0.1", b"::1", b"www.example.org:80 10.0.0.1"]),
        st.sampled_from([b"-", b"bob", b"a b"]),
        REQUEST,
        st.sampled_from([b"200", b"404"]),
        st.sampled_from([b"-", b"0", b"12", b"9" * 30]),
        TAIL,
    ),
    st.sampled_from([b"", b"other", b"2023/11/14 22:13:20 [error] 1#1: *1 x, client: 10.0.0.1"]),
)


@settings(max_examples=200, deadline=None)
@given(
    records=st.lists(LINE, min_size=1, max_size=5),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
    log_format=st.sampled_from(["nginx", "apache"]),
)
def test_any_lines_read_alike(records: list[bytes], names: list[str], log_format: str) -> None:
    table = Reader(names).table(logs(*records, format=log_format))
    for name in names:
        assert list(table.column(name)) == line_by_line(records, log_format, name)


@pytest.mark.parametrize(
    ("log_format", "name", "values", "lines"),
    [
        ("nginx", "method", ["y"], ['1.1.1.1 - - [14/Nov/2023:22:13:20 +0000] "get /" 200 5 "-" "x" method=y']),
        (
            "apache",
            "remote_addr",
            ["1.1.1.1", "2.2.2.2"],
            [
                '1.1.1.1 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5',
                'www:80 2.2.2.2 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5',
            ],
        ),
    ],
)
def test_where_a_value_may_be_elsewhere_lines_are_read_one_by_one(
    log_format: str, name: str, values: list[str], lines: list[str]
) -> None:
    batch = logs(*map(str.encode, lines), format=log_format)
    assert list(Reader([name]).table(batch).column(name)) == values


def test_lines_that_are_many_slices_are_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.process.fields.access.SLICE_BYTES", 100)
    lines = [b'1.1.1.1 - - [14/Nov/2023:22:13:20 +0000] "GET /%d HTTP/1.1" 200 %d' % (n, n) for n in range(50)]
    found = access_columns(logs(*lines, format="nginx"), format_of("nginx"), ["body_bytes_sent"])
    assert found == {"body_bytes_sent": list(range(50))}
