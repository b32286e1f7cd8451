"""The format of a file is told by its first lines, and nothing is told of a file that has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.detection import NONE, SAMPLE_LINES, Votes, first_lines
from agent.wire.formats import FORMATS, format_of

LOGS = Path(__file__).parent.parent / "fixtures" / "logs"
REAL = {
    "nginx/access.log": "nginx",
    "nginx/error.log": "nginx",
    "apache/access_combined.log": "nginx",  # the same format: whoever is asked first has it
    "apache/error.log": "apache",
    "postgres/server.log": "postgres",
    "postgres/server.csv": "postgres",
    "python/default.log": "python",
    "python/celery.log": "python",
    "python/dashes.log": "python",
    "java/logback.log": "java",
    "java/spring.log": "java",
    "java/jul.log": "java",
    "java/kafka.log": "java",
    "go/log.log": "go",
    "go/panic.log": "go",
    "go/slog_json.log": "json",
    "go/slog_text.log": "logfmt",
    "ruby/logger.log": "ruby",
    "dotnet/console.log": "dotnet",
    "syslog/rfc5424.log": "syslog",
    "syslog/traditional.log": "syslog",
    "syslog/iso.log": "syslog",
}


def winner(data: bytes) -> str:
    votes = Votes()
    votes.add(first_lines(data, 0, len(data)))
    return votes.winner()


@pytest.mark.parametrize("name", REAL)
def test_a_real_log_is_told(name: str) -> None:
    assert winner((LOGS / name).read_bytes()) == REAL[name]


def test_a_log_of_a_container_is_not_taken_for_json() -> None:
    docker = b'{"log":"{\\"level\\":\\"info\\"}\\n","stream":"stdout","time":"2026-11-20T16:54:32.925692196Z"}\n'
    cri = b'2026-11-20T16:54:32.925692196Z stdout F {"level":"info"}\n'
    assert winner(docker * 3) == "docker"
    assert winner(cri * 3) == "cri"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n\n",
        b"hello\nworld\n",
        b"the quick brown fox\njumps = over the lazy dog\n",
        b"a=b said he\nand went\n",
        b"{ not json }\n[1, 2]\n",
        b"\x00\xff\xfe\n\x01\n",
        b"id,name,amount\n1,foo,2\n3,bar,4\n",
    ],
)
def test_what_is_of_no_format_is_said_to_be_of_none(text: bytes) -> None:
    assert winner(text) == NONE


def test_a_program_that_writes_time_and_level_its_own_way_is_read_as_one_that_does_so_too() -> None:
    told = winner(b"2026-11-20 16:40:01 INFO  started in 3 s\n2026-11-20 16:40:02 WARN  slow\n" * 5)
    assert format_of(told).joining is not None


def test_a_few_lines_of_another_kind_change_nothing() -> None:
    assert winner(b"Starting server v1.2\n" + b'{"time":1,"msg":"a"}\n' * 20) == "json"
    assert winner(b"hello world\n" * 20 + b'{"time":1,"msg":"a"}\n') == NONE


def test_a_log_that_begins_within_a_stack_trace_is_told_by_the_rest() -> None:
    line = b"2026-11-20 16:40:01.123 [main] ERROR org.example.Orders - failed\n"
    assert (
        winner(b"\tat a.b(C.java:1)\n" * 300 + (line + b"java.lang.E: x\n" + b"\tat a.b(C.java:1)\n" * 20) * 8)
        == "java"
    )


def test_only_the_first_lines_are_looked_at() -> None:
    assert len(first_lines(b"x\n" * 10_000, 0, 20_000)) == SAMPLE_LINES
    assert first_lines(b"x" * (1 << 20) + b"\n", 0, 1 << 20) == []
    assert first_lines(b"ab\ncd\nef\n", 3, 6) == [b"cd"]
    assert first_lines(b"ab\ncd", 0, 5) == [b"ab"]


def test_lines_that_come_one_by_one_vote_together() -> None:
    votes = Votes()
    votes.add([b"a banner"])
    assert votes.winner() == NONE
    for _ in range(9):
        votes.add([b'{"msg":"a"}'])
    assert votes.winner() == "json"
    assert votes.with_([b"no"] * 20).winner() == NONE
    assert votes.winner() == "json"
    assert not votes.enough


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_no_bytes_at_all_raise(data: bytes) -> None:
    assert winner(data + b"\n") in {NONE, *FORMATS}
