"""Lines of one record are joined, and nothing is added, taken away or moved."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.format import Joining
from agent.wire.joining import SLICE_BYTES, LinePatterns, beginning_with, joined, last_start, unless_going_on

DATED = beginning_with(rb"\d{4}-\d\d-\d\d ")
UNDATED = unless_going_on()
MOST = 256 << 10

JAVA = b"""\
java.lang.IllegalStateException: no
\tat com.example.A.b(A.java:12) ~[app.jar:1.0]
\t... 3 common frames omitted
\tSuppressed: java.io.IOException: closing
\t\tat com.example.C.d(Unknown Source)
Caused by: java.io.IOException: x
\tat com.example.E.<init>(E.java:7)
\t... 12 more
"""
PYTHON = b"""\
Traceback (most recent call last):
  File "/app/a.py", line 3, in <module>
    main()
    ^^^^^^
ValueError: no

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/a.py", line 5, in <module>
app.errors.StartError: could not start
"""
GO = b"""\
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x45]

goroutine 1 [running]:
main.(*Server).handle(0xc000010000, {0x1, 0x2})
\t/app/main.go:12 +0x1d
github.com/acme/app/pkg.Run(...)
\t/app/pkg/run.go:9
created by main.main in goroutine 1
\t/app/main.go:5 +0x2b
exit status 2
"""
NODE = b"""\
    at Object.<anonymous> (/app/index.js:3:9)
    at Module._compile (node:internal/modules/cjs/loader:1105:14) {
  code: 'ENOENT'
}
"""
RUBY = b"""\
\tfrom app.rb:7:in `block in <main>'
\tfrom app.rb:3:in `each'
"""
DOTNET = b"""\
System.InvalidOperationException: no
   at App.Program.Main(String[] args) in /app/Program.cs:line 9
 ---> System.IO.IOException: x
   --- End of inner exception stack trace ---
--- End of stack trace from previous location ---
"""
TRACES = {"java": JAVA, "python": PYTHON, "go": GO, "node": NODE, "ruby": RUBY, "dotnet": DOTNET}


def records(joining: Joining | LinePatterns, block: bytes, most: int = MOST) -> list[bytes]:
    whole, separator, count = joined(joining, block, most)
    parts = whole.split(separator)
    assert parts.pop() == b""
    assert len(parts) == count
    assert b"".join(part + b"\n" for part in parts) == block
    return parts


@pytest.mark.parametrize("language", TRACES)
@pytest.mark.parametrize(
    ("joining", "head"), [(UNDATED, b""), (DATED, b"2026-11-20 16:40:01 ")], ids=["by look", "dated"]
)
def test_a_stack_trace_is_one_record_with_the_line_above_it(language: str, joining: Joining, head: bytes) -> None:
    before, after = head + b"INFO before", head + b"INFO after (it) works: 1.2.3"
    block = before + b"\n" + head + b"ERROR failed\n" + TRACES[language] + after + b"\n"
    assert records(joining, block) == [before, head + b"ERROR failed\n" + TRACES[language][:-1], after]


def test_lines_that_are_records_stay_the_block_they_were() -> None:
    block = b"a\nb\nc\n"
    assert joined(UNDATED, block, MOST) == (block, b"\n", 3)
    assert joined(UNDATED, block, MOST)[0] is block
    assert joined(UNDATED, b"", MOST) == (b"", b"\n", 0)


def test_what_separates_records_is_in_none_of_them() -> None:
    block = b"a\x1e\x1f\0\n b\x1e0\x1d\nc\n"
    assert records(UNDATED, block) == [b"a\x1e\x1f\0\n b\x1e0\x1d", b"c"]


def test_a_block_that_begins_or_ends_in_the_middle_of_a_record_keeps_it_so() -> None:
    assert records(DATED, b"\tat a\n2026-11-20 x\n\tat b\n") == [b"\tat a", b"2026-11-20 x\n\tat b"]


def test_records_are_found_across_slices() -> None:
    one = b"2026-11-20 " + b"x" * 1000 + b"\n" + b"\tat a.b(C)\n" * 50
    block = one * (3 * SLICE_BYTES // len(one))
    assert records(DATED, block) == [one[:-1]] * (len(block) // len(one))
    long = b"2026-11-20 a\n" + b"\tat a.b(C)\n" * (3 * SLICE_BYTES // 11)
    assert records(DATED, long + one, len(long) + 1) == [long[:-1], one[:-1]]


def test_a_record_that_is_too_long_is_divided_between_two_lines() -> None:
    block = b"2026-11-20 a\n" + b"\tat b.c.d(E)\n" * 400 + b"2026-11-20 next\n"
    parts = records(DATED, block, 1024)
    assert all(len(part) <= 1024 for part in parts)
    assert len(parts) == 7
    assert parts[-1] == b"2026-11-20 next"
    line = b"2026-11-20 " + b"y" * 3000
    assert records(DATED, b"2026-11-20 a\n" + line + b"\n\tat b\n\tat c\n", 1024) == [
        b"2026-11-20 a",
        line,
        b"\tat b\n\tat c",
    ]


def test_the_last_record_may_go_on() -> None:
    data = b"xx2026-11-20 a\n\tat b\n2026-11-20 c\n\tat d\n2026"
    end = data.rindex(b"\n") + 1
    assert data[last_start(DATED, data, 2, end) : end] == b"2026-11-20 c\n\tat d\n"
    assert last_start(DATED, data, 2, 22) == 2
    deep = b"2026-11-20 a\n2026-11-20 b\n" + b"\tat b.c.d(E)\n" * 5000
    assert last_start(DATED, deep, 0, len(deep)) == 13
    assert last_start(DATED, deep, 13, len(deep)) == 13


def of(start: str | None = None, end: str | None = None) -> LinePatterns:
    return LinePatterns.of(start, end)


def test_records_begin_and_end_where_the_operator_says() -> None:
    block = b"1 a\n b\n2 c;\nd\n e;\nf\n"
    assert records(of(r"^\d"), block) == [b"1 a\n b", b"2 c;\nd\n e;\nf"]
    assert records(of(None, ";$"), block) == [b"1 a\n b\n2 c;", b"d\n e;", b"f"]
    assert records(of(r"^\d", ";$"), block) == [b"1 a\n b", b"2 c;", b"d\n e;", b"f"]
    assert records(of("nowhere"), block) == [block[:-1]]


@pytest.mark.parametrize(
    ("patterns", "data", "expected"),
    [
        (of(r"^\d"), b"1 a\n b\n2 c\n d\n", 7),
        (of(r"^\d"), b" a\n b\n", 0),
        (of(None, ";$"), b"a;\nb\nc\n", 3),
        (of(None, ";$"), b"a;\nb\nc;\n", 8),
        (of(r"^\d", ";$"), b"1 a;\nb\n2\n", 7),
        (of(r"^\d", ";$"), b"1 a\nb\n", 0),
        (of(r"^\d", ";$"), b"1 a;\n", 5),
    ],
)
def test_the_last_record_by_patterns_may_go_on(patterns: LinePatterns, data: bytes, expected: int) -> None:
    assert last_start(patterns, data, 0, len(data)) == expected
    assert last_start(patterns, b"; 9\n" + data, 4, 4 + len(data)) == 4 + expected


LINES = st.lists(
    st.sampled_from([b"2026-11-20 x", b"\tat b", b"Caused by: c", b"", b"d\x1e", b"}"]) | st.binary(max_size=9)
)


@given(LINES, st.integers(1, 40))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("joining", [DATED, UNDATED, of(r"^\d", r"[b]"), of("a"), of(None, "d")])
def test_no_byte_is_lost_and_the_last_record_is_found(
    joining: Joining | LinePatterns, lines: list[bytes], most: int
) -> None:
    block = b"".join(line.replace(b"\n", b" ") + b"\n" for line in lines)
    parts = records(joining, block)
    records(joining, block, most)
    at = last_start(joining, block, 0, len(block))
    assert 0 <= at <= len(block)
    assert at == 0 or block[at - 1 : at] == b"\n"
    if parts and at < len(block):
        assert block[at:] == parts[-1] + b"\n"


@pytest.mark.parametrize(
    "line", [b"a." * 40_000, b"a" * 80_000, b"a.(*" * 20_000, b"(" * 80_000, b"Error" * 16_000 + b"-"]
)
def test_a_line_made_to_backtrack_is_looked_at_once(line: bytes) -> None:
    """Were it more than linear this would not end."""
    block = b"x\n" + (line + b"\n") * 8
    assert len(records(UNDATED, block)) == 9
    assert isinstance(UNDATED.starts, re.Pattern)
