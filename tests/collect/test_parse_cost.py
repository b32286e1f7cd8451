"""Parsing costs no Python for each record: the calls that a block costs do not grow with the records in it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

import msgspec
import pytest

from agent.batch import Logs, Origin
from agent.clock import Time
from agent.collect.parse import Parser
from agent.collect.parse_options import ParseOptions
from agent.wire.records import PIECE_RECORDS
from tests.fakes import context

NOW = Time(1_795_194_000_000_000_000, 1.0)
FEW = 2048
TIMES = 10
CALLS_PER_PIECE = 160
CALLS_OF_ONE = 40
"""More than a piece of a thousand records takes: of all functions, and of one."""


def stamp(i: int) -> str:
    return f"2026-11-20T16:40:{i // 400 % 60:02}.{i % 1000:03}Z"


LINES: dict[str, Callable[[int], str]] = {
    "json": lambda i: f'{{"time":"{stamp(i)}","level":"info","msg":"request {i}"}}',
    "logfmt": lambda i: f'ts={stamp(i)} caller=a.go:{i} level=info msg="request {i}"',
    "nginx": lambda i: f'10.0.0.1 - - [20/Nov/2026:16:40:01 +0000] "GET /{i} HTTP/1.1" 200 {i} "-" "curl"',
    "java": lambda i: f"2026-11-20 16:40:01,{i % 1000:03} [main] INFO  a.B - request {i}\njava.lang.E: x\n\tat a.b(C)",
    "syslog": lambda i: f"<13>Nov 20 16:40:01 host app[{i}]: request {i}",
}


def calls_for(folder: Path, name: str, count: int) -> Counter[CodeType]:
    stream = Parser(msgspec.convert({"parse": name}, ParseOptions), context(folder)).stream()
    block = "".join(LINES[name](i) + "\n" for i in range(count)).encode()
    batch = Logs("file", (), block, block.count(b"\n"), origin=Origin("f", 0, len(block)))
    calls: Counter[CodeType] = Counter()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            calls[frame.f_code] += 1

    sys.setprofile(note)
    try:
        stream.cut(block, 0, len(block))
        read = stream.read(batch, NOW)
    finally:
        sys.setprofile(None)
    assert read.count == count
    assert read.times_ns is not None
    assert len(set(read.times_ns)) == count
    return calls


@pytest.mark.parametrize("name", LINES)
def test_the_calls_a_block_costs_do_not_grow_with_its_records(tmp_path: Path, name: str) -> None:
    calls_for(tmp_path, name, FEW)
    few = calls_for(tmp_path, name, FEW)
    many = calls_for(tmp_path, name, TIMES * FEW)
    pieces = TIMES * FEW // PIECE_RECORDS
    grown = {code.co_qualname: count - few[code] for code, count in many.items()}
    worst = sorted(grown.items(), key=lambda item: -item[1])[:5]
    assert many.total() - few.total() < pieces * CALLS_PER_PIECE, worst
    assert worst[0][1] <= CALLS_OF_ONE * pieces, worst
